"""What a run's supervisor and command leave in its folder. Foreign data: what cannot be read counts as not there."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from windward_api import contract
from windward_api.contract import Heard, Progress, heard

REPORT, PROGRESS, EXIT, LOG = "report.json", "progress.json", "exit.json", "log"
_ALIVE = "alive"  # touched by the supervisor now and then
_PROGRESS_LIMIT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Ended:
    """What a supervisor left of an ended run: exit code, when the command ended, and when it was started."""

    code: int
    finished: datetime
    started: datetime | None


def file_environment(folder: Path) -> dict[str, str]:
    """Returns the part of a run's environment that says where it leaves its files."""
    return {
        contract.ENV_REPORT_FILE: str(folder / REPORT),
        contract.ENV_PROGRESS_FILE: str(folder / PROGRESS),
        contract.ENV_EXIT_FILE: str(folder / EXIT),
    }


def read_report(folder: Path) -> Heard:
    """Returns what a run reports of itself, with what of it was set aside."""
    return heard(_head(folder / REPORT, contract.REPORT_LIMIT_BYTES * 4))


def read_progress(folder: Path) -> Progress | None:
    """Returns how far a run is by its own account; None where it does not say."""
    try:
        return Progress.model_validate_json(_head(folder / PROGRESS, _PROGRESS_LIMIT_BYTES))
    except ValueError:
        return None


def has_exit(folder: Path) -> bool:
    """Returns whether a run's supervisor left its last file, readable or not."""
    return (folder / EXIT).exists()


def read_exit(folder: Path) -> Ended | None:
    """Returns how a run ended; None where its supervisor does not say, or says what cannot be."""
    try:
        body = json.loads((folder / EXIT).read_bytes())
        finished, started = datetime.fromisoformat(body["finished_at"]), body.get("started_at")
        begun = datetime.fromisoformat(started) if started else None
        if finished.tzinfo is None or (begun is not None and not begun <= finished):
            return None
        return Ended(int(body["exit_code"]), finished, begun)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def last_sign(folder: Path) -> datetime | None:
    """Returns when anything of a run was last written: its supervisor's sign of life, its progress, or its log."""
    times = []
    for name in (_ALIVE, PROGRESS, LOG):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _head(path: Path, most: int) -> bytes:
    """The beginning of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""
