"""From a run's row, files and process on this machine to the `Run` that is observed."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from typing import NamedTuple

from windward.cluster.run_files import Ended, read_exit, read_progress, read_report
from windward.cluster.run_table import RunRow
from windward.cluster.supervisors import START_PATIENCE, Supervisors
from windward.domain.clock import Clock
from windward.domain.run import Phase, Run, phase_of_exit
from windward_api.contract import EXIT_PAUSED, Heard

GRACE = timedelta(seconds=120)
_PAUSE_EXIT_CODES = (EXIT_PAUSED, 128 + signal.SIGTERM, 128 + signal.SIGKILL)
_MESSAGE_LIMIT = 512


class _State(NamedTuple):
    """Where a run is: its phase, and how and when it ended."""

    phase: Phase
    exit_code: int | None = None
    finished_real: datetime | None = None
    message: str = ""


class LocalRuns:
    """Observes runs; a supervisor that ignores a pause for longer than its grace period is ended, and so is what a dead
    one left.

    Args:
        real: the machine's clock.
    """

    def __init__(self, supervisors: Supervisors, real: Clock) -> None:
        self._supervisors, self._real = supervisors, real

    def observe(self, row: RunRow) -> Run:
        """Returns what a run's folder and process say of it."""
        ended = read_exit(row.folder)
        lives = ended is None and self._supervisors.living(row) is not None
        if ended is None and not lives:
            ended = read_exit(row.folder)  # again: its last act may have come between the two looks
        if ended is None and not lives:
            row = self._supervisors.clear_once(row)
        report, progress = read_report(row.folder), read_progress(row.folder)
        state = self._state(row, ended, lives)
        started_real = _started_real(row, ended)
        started_at = row.started_at + max(timedelta(0), started_real - row.started_real) * row.time_scale
        finished_at = None
        if state.finished_real is not None:
            finished_at = started_at + max(timedelta(0), state.finished_real - started_real) * row.time_scale
        return Run(
            name=row.name,
            attempt=row.attempt,
            region=row.region,
            phase=state.phase,
            pod_uid=row.token,
            started_at=started_at,
            finished_at=finished_at,
            exit_code=state.exit_code,
            progress=progress.fraction if progress is not None else None,
            report=report.report if ended is not None else None,
            message=_message(row, state, report, ended),
            time_scale=row.time_scale,
            started_real=started_real,
            pause_requested=row.pause_requested_real is not None,
            level=row.level,
        )

    def _state(self, row: RunRow, ended: Ended | None, lives: bool) -> _State:
        if ended is not None:
            return _state_of_exit(row, ended)
        if not lives:
            at = self._supervisors.last_alive(row)
            if row.pause_requested_real is not None:
                return _State(Phase.PAUSED, None, at, "ended before it could report")
            return _State(Phase.LOST, None, at, "its process is gone without a word")
        self._supervisors.note_seen(row)
        if row.pause_requested_real is None:
            return _State(Phase.RUNNING)
        if self._real.now() > row.pause_requested_real + GRACE:
            self._supervisors.kill(row)
        return _State(Phase.STOPPING, message="writing its checkpoint")


def _state_of_exit(row: RunRow, ended: Ended) -> _State:
    """Where a run is whose supervisor says how it ended."""
    if row.pause_requested_real is None or ended.code not in _PAUSE_EXIT_CODES:
        return _State(phase_of_exit(ended.code), ended.code, ended.finished)
    broken = f"ended with {ended.code} instead of {EXIT_PAUSED}: it does not honour the pause contract"
    return _State(Phase.PAUSED, ended.code, ended.finished, broken if ended.code != EXIT_PAUSED else "")


def _started_real(row: RunRow, ended: Ended | None) -> datetime:
    """When a run's command was started: by its supervisor, which knows best, where that can be."""
    started = ended.started if ended is not None else None
    if started is not None and abs(started - row.started_real) <= START_PATIENCE:
        return started
    return row.started_real


def _message(row: RunRow, state: _State, report: Heard, ended: Ended | None) -> str:
    """What is to be known of a run besides its state, or else its own last words; and what of these was set aside."""
    about = "; ".join(x for x in (state.message, _left_behind(row)) if x)
    own = report.report.message if report.report is not None and ended is not None else ""
    aside = [f"of its report was set aside: {', '.join(report.set_aside)}"] if report.set_aside else []
    return "; ".join(x for x in (about or own, *aside) if x)[:_MESSAGE_LIMIT]


def _left_behind(row: RunRow) -> str:
    n = row.left_behind
    return f"ended {n} process{'es' if n > 1 else ''} that its dead supervisor left" if n else ""
