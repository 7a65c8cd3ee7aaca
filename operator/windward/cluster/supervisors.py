"""The processes that supervise the runs of this machine: started, known again by later commands, stopped, cleared."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from windward.cluster import processes, run_files
from windward.cluster.port import Refused
from windward.cluster.run_table import RunRow, RunTable
from windward.domain.clock import Clock

START_PATIENCE = timedelta(seconds=20)  # for a supervisor to start its command
SEEN_EVERY = timedelta(seconds=2)  # a run that was seen alive is noted so often
_START_POLL_S = 0.002
_END_POLL_S = 0.02
_END_POLLS = 100  # a supervisor's last act, its exit file, is a moment before its end


def is_alive(row: RunRow) -> bool:
    """Returns whether the supervisor of a run that another command started still lives."""
    return row.pid is not None and processes.is_same(row.pid, row.pid_started, row.token)


class Supervisors:
    """Those of one machine's runs.

    Args:
        runs: where each is noted.
        clock: the planned time; `real` is the machine's.
    """

    def __init__(self, runs: RunTable, clock: Clock, real: Clock) -> None:
        self._runs, self._clock, self._real = runs, clock, real
        self.children: dict[int, subprocess.Popen[bytes]] = {}  # those that this process started
        self._cleared: set[str] = set()  # runs without a supervisor, of which nothing is left
        self._seen: dict[str, datetime] = {}  # when each run was noted as alive
        self._mutex = threading.Lock()  # guards `children`

    def start(self, row: RunRow, argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        """Start the process of a run that is in the table, and note it there.

        Raises:
            Refused: the system does not start it.
        """
        with (row.folder / run_files.LOG).open("ab") as log:
            try:
                child = subprocess.Popen(
                    argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as e:
                raise Refused(f"the run could not be started: {e}") from e
        with self._mutex:
            self.children[child.pid] = child
        self._runs.set_supervisor(row.name, child.pid, processes.started(child.pid) or "")
        if row.time_scale != 1.0:
            self._wait_for_command(row, child)

    def living(self, row: RunRow) -> int | None:
        """Returns the process of a run's supervisor; None where it has ended. A crash before its number was noted is
        made up for."""
        pid, pid_started = row.pid, row.pid_started
        if pid is None:
            pid = processes.supervisor_of(row.token)
            if pid is None:
                return None
            pid_started = processes.started(pid) or ""
            self._runs.set_supervisor(row.name, pid, pid_started)
        with self._mutex:
            child = self.children.get(pid)
        lives = child.poll() is None if child is not None else processes.is_same(pid, pid_started, row.token)
        return pid if lives else None

    def pause(self, row: RunRow) -> None:
        """Ask a run to pause; of one that was asked before the first time counts, and one that has ended is left."""
        if (pid := self.living(row)) is not None:
            self._runs.set_pause_requested(row.name, self._real.now())
            _signal(pid, signal.SIGTERM)

    def kill(self, row: RunRow) -> None:
        """End a run's supervisor at once."""
        if (pid := self.living(row)) is not None:
            _signal(pid, signal.SIGKILL)

    def end_run(self, row: RunRow) -> None:
        """End a run at once, with all that it started."""
        if (pid := self.living(row)) is not None:
            processes.kill_tree(pid)
        processes.end_run(row.token)  # what left the tree

    def clear(self, row: RunRow) -> None:
        """End what an earlier run left: two attempts of one job never compute side by side.

        Raises:
            Refused: something of it does not end.
        """
        for _ in range(_END_POLLS if run_files.has_exit(row.folder) else 1):
            if self.living(row) is None:
                break
            time.sleep(_END_POLL_S)
        else:
            raise Refused(f"run {row.attempt} still goes on")
        if left := self._end_left_behind(row):
            pids = ", ".join(map(str, left))
            raise Refused(f"run {row.attempt} left processes that do not end: {pids}; end them")

    def clear_once(self, row: RunRow) -> RunRow:
        """End what a dead supervisor left, else it computes on, unmetered. Returns the run as it is noted then."""
        if row.name in self._cleared:
            return row
        self._end_left_behind(row)
        return next((r for r in self._runs.of_job(row.uid) if r.name == row.name), row)

    def note_seen(self, row: RunRow) -> None:
        """Keep that a run is alive, every now and then: of one that is lost, all until then is booked."""
        now, noted = self._real.now(), self._seen.get(row.name)
        if noted is None or not timedelta(0) <= now - noted < SEEN_EVERY:
            self._seen[row.name] = now
            self._runs.set_seen(row.name, now)

    def last_alive(self, row: RunRow) -> datetime:
        """Returns until when a run that is gone was alive, as far as anybody knows: never later than now."""
        signs = [row.started_real, row.seen_real, run_files.last_sign(row.folder)]
        return min(self._real.now(), max(t for t in signs if t is not None))

    def _end_left_behind(self, row: RunRow) -> list[int]:
        """End what a dead supervisor left, and note that the run was alive until now. Returns what goes on."""
        self._cleared.add(row.name)
        count, left = processes.end_run(row.token)
        if count:
            self._runs.add_left_behind(row.name, count)
            self._runs.set_seen(row.name, self._real.now())
        return left

    def _wait_for_command(self, row: RunRow, supervisor: subprocess.Popen[bytes]) -> None:
        """Wait until a run's command was started, and note it: that its supervisor loads takes no planned time, or a
        fast clock would make hours of it."""
        begun = time.monotonic()
        while not _has_begun(row, supervisor) and time.monotonic() - begun < START_PATIENCE.total_seconds():
            time.sleep(_START_POLL_S)
        self._runs.set_started(row.name, self._clock.now(), self._real.now())


def _has_begun(row: RunRow, supervisor: subprocess.Popen[bytes]) -> bool:
    """Whether a run's command was started, or there is nothing more to wait for."""
    if processes.has_children(supervisor.pid) or run_files.has_exit(row.folder):
        return True
    return supervisor.poll() is not None


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
