"""The controller of one machine, without Kubernetes: for `windward run`, `apply --local` and `demo`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.cluster.local import LocalCluster
from windward.cluster.locks import Locks
from windward.cluster.store import Store, is_rehearsal
from windward.domain.run import Phase
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import Provider
from windward.ledger.opening import open_ledger
from windward.ledger.port import Ledger
from windward.service.clock import SystemClock, WarpedClock
from windward.service.controller import Controller, Cycle
from windward.service.cycle_timer import CycleTimer
from windward.service.no_live_source import NoLiveSource
from windward.service.providers import provider_of
from windward.service.submissions import Submission, Submissions

PAST = timedelta(days=3)
_PAUSE_POLL_S = 0.2


def state_home() -> Path:
    """Returns where local state lives: `WINDWARD_HOME`, else `$XDG_STATE_HOME/windward`, else
    `~/.local/state/windward`."""
    given = os.environ.get("WINDWARD_HOME")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "windward"


@dataclass
class LocalController:
    """State, clock and ledger of one machine, and the controller over them.

    Attributes:
        home: folder of everything.
        clock: planned time.
        warped: whether the clock runs faster than the real one, and leaps while nothing runs.
        locks: of the jobs that this process drives.
    """

    home: Path
    store: Store
    ledger: Ledger
    clock: WarpedClock
    warped: bool
    grid: Grid
    real: SystemClock
    _begins: datetime | None = None  # a warped clock stands at its start until jobs are driven

    def __post_init__(self) -> None:
        self.locks = Locks(self.home / "locks")
        self._submissions = Submissions(self.store, self.locks)

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        provider: str = "trace",
        trace: Path | None = None,
        start: datetime | None = None,
        speed: float = 1.0,
        source: Provider | None = None,
        rehearses: bool = True,
    ) -> LocalController:
        """Open or create the state in `home`.

        Args:
            provider, trace: see `provider_of`; `source` is used instead where given.
            rehearses: demonstration data may decide; real work is not to wait on it.
            start: planned time at which a warped clock begins.
            speed: planned seconds per real second.
        """
        real = SystemClock()
        warped = speed != 1.0 or start is not None
        clock = WarpedClock(real, start or real.now(), speed)
        source = source or provider_of(provider, clock, trace)
        if not rehearses:
            source = NoLiveSource(source)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = Store(home / "local.db")
        ledger = open_ledger(f"sqlite:///{home / 'book.db'}")
        grid = Grid(source, ledger, past=PAST, ahead=Ahead(source), background=False)
        return cls(home, store, ledger, clock, warped, grid, real, start)

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """Create or update objects, whoever drives them. Returns the uids of the GreenJobs among them."""
        uids = []
        for body in objects:
            stored = self.store.apply(body, self._now())
            if body["kind"] == "GreenJob":
                uids.append(stored["metadata"]["uid"])
        return uids

    def admit(self, submission: Submission) -> list[str]:
        """Admit jobs, all or none; one that waits goes on with the clock that it was driven by. Returns their uids.

        Raises:
            NameInUse: see `Submissions.admit`.
        """
        return self._submissions.admit(submission, self._now, self.resume_clock)

    def pause(self, uids: Sequence[str], patience_s: float = 60.0) -> None:
        """Ask what runs for its checkpoint, and wait for it."""
        cluster = self._cluster(uids)
        for _ in range(int(patience_s / _PAUSE_POLL_S)):
            live = [(o.job, r) for o in cluster.snapshot().jobs for r in o.live]
            if not live:
                return
            for job, run in live:
                if run.phase is not Phase.STOPPING:
                    cluster.stop_run(job, run.name)
            self.real.sleep(_PAUSE_POLL_S)

    def resume_clock(self, uid: str) -> None:
        """Take up the planned time where a job's last driver left it: time stood still while nobody looked, unless its
        run went on."""
        saved = self.store.clock(uid)
        if saved is None:
            return
        sim, real, speed = saved
        went_on = any(o.live for o in self._cluster([uid]).snapshot().jobs)
        if not is_rehearsal(sim, real, speed):
            return  # it was driven by the real time, which does not stand still
        self.clock = WarpedClock(self.real, sim, speed, real if went_on else self.real.now())
        self._begins = None
        self.warped = self.warped or speed != 1.0

    def drive(
        self,
        uids: Sequence[str],
        *,
        on_cycle: Callable[[Cycle], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Cycle:
        """Run cycles until the jobs `uids` have ended, or `stop` says so. Returns the last cycle."""
        cluster = self._cluster(uids)
        controller = Controller(cluster, self.grid, self.ledger, self.clock)
        timer = CycleTimer(cluster, controller, self.grid, self.clock, self.real, self.warped)
        if self._begins is not None:
            self.clock.restart()
            self._begins = None
        while True:
            cycle = timer.run()
            for uid in uids:
                self.store.save_clock(uid, self.clock.now(), self.real.now(), self.clock.speed)
            on_cycle(cycle)
            if stop() or not cycle.snapshot.jobs or all(o.ended for o in cycle.snapshot.jobs):
                return cycle
            timer.wait(cycle)

    def close(self) -> None:
        """Let go of the jobs, whose runs go on, and of the files."""
        self.locks.release()
        self.store.close()
        self.grid.close()
        self.ledger.close()

    def _now(self) -> datetime:
        return self._begins or self.clock.now()

    def _cluster(self, uids: Sequence[str]) -> LocalCluster:
        return LocalCluster(self.store, self.home, self.clock, self.real, self.clock.speed, frozenset(uids), self.locks)
