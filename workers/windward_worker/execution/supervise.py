"""Runs any command under the contract: passes SIGTERM on, meters it, reports for it, leaves its exit code.

The steps: start the child in its own process group; wait, forwarding a pause; write the Report (the child's own
words kept, its energy ours); end what it left running; leave the exit file; exit as the child did.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence, Set
from datetime import datetime
from pathlib import Path

from windward_api.contract import ENV_EXIT_FILE, EXIT_DONE, EXIT_PAUSED, Outcome, Progress, Report
from windward_worker.control.clock import now
from windward_worker.control.env import RunEnv
from windward_worker.control.files import write_atomic
from windward_worker.control.pause import PauseRequest
from windward_worker.control.report import read_progress, read_report, short, write_report
from windward_worker.energy import EnergyRecorder, choose_meter
from windward_worker.execution.descendants import become_subreaper, children, end_descendants, reap, wait_for_exit

log = logging.getLogger("windward.exec")

HOLD_S = 1.0  # a pause is passed on this long after the start at the earliest: interpreters install handlers late
POLL_S = 0.1
ALIVE_S = 2.0
PR_SET_PDEATHSIG = 1  # prctl(2)
MESSAGE_LIMIT = 512  # of Report.message


def _die_with_parent() -> None:
    """In the child: be killed when the supervisor dies, so that no orphan runs on beside its successor (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    environ = {k: v for k, v in os.environ.items() if k != ENV_EXIT_FILE}  # ours, not a nested supervisor's
    return subprocess.Popen(command, env=environ, start_new_session=True, preexec_fn=_die_with_parent)


def _wait(child: subprocess.Popen[bytes], pause: PauseRequest, alive: Path | None, others: Set[int]) -> int:
    """The child's exit code, as a shell would give it. Forwards one SIGTERM to its group once a pause is requested.

    Touches `alive` now and then: whoever finds us dead knows from it until when we were not. `others` are children that
    are not to be reaped.
    """
    started_s = touched_s = time.monotonic()
    forwarded = False
    while (code := child.poll()) is None:
        wait_for_exit(child.pid, POLL_S)
        reap(others)
        at_s = time.monotonic()
        if alive is not None and at_s - touched_s >= ALIVE_S:
            touched_s = at_s
            with contextlib.suppress(OSError):
                alive.touch()
        if pause.requested and not forwarded and at_s - started_s >= HOLD_S:
            forwarded = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
    return 128 - code if code < 0 else code


def _outcome(code: int, pause_requested: bool) -> tuple[Outcome, str]:
    if code == EXIT_DONE:
        return Outcome.SUCCEEDED, ""
    if code == EXIT_PAUSED:
        return Outcome.PAUSED, ""
    if pause_requested and code == 128 + signal.SIGTERM:
        return Outcome.FAILED, (
            "ended by SIGTERM when asked to pause: the command does not honour the pause contract; let it write a "
            f"checkpoint on SIGTERM and exit {EXIT_PAUSED}, or set interruption.policy to Never"
        )
    return Outcome.FAILED, f"exit code {code}" + (f" (signal {code - 128})" if code > 128 else "")


def _beside(child_report: Report | None, progress: Progress | None) -> dict[str, float]:
    """What the child says of its own energy, by source: shown, never counted, since the meters here are ours."""
    beside = {}
    if progress is not None and progress.energy_j is not None:
        beside["reported_energy_j progress"] = progress.energy_j
    series = None if child_report is None else child_report.energy
    for component in () if series is None else series.components:
        name = f"reported_energy_j {component.name} {component.method} {component.source}"[:64]
        beside[name] = beside.get(name, 0.0) + sum(component.joules)
    return beside


def _message(first: str, notes: Sequence[str]) -> str:
    """Both within the limit; the notes are the shorter part and keep up to half of it."""
    added = "; ".join(notes)[: MESSAGE_LIMIT // 2]
    return "; ".join(part for part in (first[: MESSAGE_LIMIT - len(added) - 2], added) if part)


def _report(
    env: RunEnv, code: int, pause_requested: bool, recorder: EnergyRecorder, uncounted: Sequence[str]
) -> Report:
    """What the child said, checked against its exit code; else what can be known from outside. The energy is ours."""
    outcome, message = _outcome(code, pause_requested)
    child_report = read_report(env.report_file)
    if child_report is not None and child_report.outcome != outcome:  # the exit code is what Kubernetes acts on
        message = message or f"reported {child_report.outcome}, but exit code {code} means {outcome}"
    elif child_report is not None:
        message = child_report.message
    progress = child_report.progress if child_report is not None else read_progress(env.progress_file)
    beside = _beside(child_report, progress)
    if child_report is None and outcome is Outcome.SUCCEEDED:
        progress = (progress or Progress(fraction=1.0)).model_copy(update={"fraction": 1.0})
    notes = [*uncounted, *recorder.notes]
    if progress is not None:
        metrics = {**progress.metrics, **beside, **recorder.unattributed}
        progress_update: dict[str, object] = {"energy_j": recorder.total_j, "metrics": metrics}
        if child_report is None:
            progress_update["updated_at"] = now()
        progress = progress.model_copy(update=progress_update)
    else:
        notes += [f"{name}: {joules:.6g}, not counted" for name, joules in beside.items()]
    update = {
        "outcome": outcome,
        "progress": progress,
        "energy": recorder.series(),
        "message": _message(message, notes),
    }
    return (child_report or Report(outcome=outcome)).model_copy(update=update)


def _exactly(moment: datetime) -> str:
    """To the microsecond: under a fast clock a millisecond is seconds."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def supervise(command: Sequence[str], env: RunEnv, pause: PauseRequest) -> int:
    """Run `command` to its end; returns its exit code (128 + signal if a signal ended it, 127 if it cannot start)."""
    if env.report_file is not None and env.report_file.exists():
        env.report_file.write_bytes(b"")  # a report of an earlier run is not this one's
    become_subreaper()
    choice = choose_meter(env.power_w)
    recorder = EnergyRecorder(choice.meters, declared_w=choice.declared_w)
    alive = env.exit_file.with_name("alive") if env.exit_file is not None else None
    others = set(children())
    started_at = ended_at = now()
    try:
        child = _start(command)
    except OSError as error:
        code, message = 127, f"cannot start {command[0]!r}: {error.strerror or error}; check the command and its image"
        log.error(message)
        write_report(env.report_file, Report(outcome=Outcome.FAILED, message=short(message)))
    else:
        with recorder:
            others.add(child.pid)
            code = _wait(child, pause, alive, others)
            left = end_descendants(others)
            ended_at = now()
        if left:
            log.warning("ended %d processes that the command left running", left)
        write_report(env.report_file, _report(env, code, pause.requested, recorder, choice.uncounted))
    if env.exit_file is not None:
        document = {"exit_code": code, "started_at": _exactly(started_at), "finished_at": _exactly(ended_at)}
        write_atomic(env.exit_file, json.dumps(document).encode())
    return code
