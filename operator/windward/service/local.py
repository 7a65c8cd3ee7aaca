"""The conductor's loop on one machine, without Kubernetes: for `windward run`, `apply --local` and `demo`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.cluster.local import LocalCluster
from windward.cluster.parse import read_job
from windward.cluster.port import BadObject
from windward.cluster.store import Store
from windward.domain.observed import Observed
from windward.domain.run import Phase
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import Provider
from windward.ledger.port import Ledger, open_ledger
from windward.service.clock import SystemClock, WarpedClock
from windward.service.conductor import Conductor, Cycle
from windward.service.providers import provider_of

STEP = timedelta(hours=1)  # a leap is no longer than this, so that newer forecasts are still looked at on the way
TURN_S = 0.5
PAST = timedelta(days=3)


def state_home() -> Path:
    """Where local state lives: `WINDWARD_HOME`, else `$XDG_STATE_HOME/windward`, else `~/.local/state/windward`."""
    given = os.environ.get("WINDWARD_HOME")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "windward"


@dataclass
class LocalWorld:
    """State, clock and book of one machine, and the conductor over them.

    Attributes:
        home: folder of everything.
        clock: planned time.
        warped: whether the clock runs faster than the real one, and leaps while nothing runs.
    """

    home: Path
    store: Store
    ledger: Ledger
    clock: WarpedClock
    warped: bool
    grid: Grid
    real: SystemClock
    _begins: datetime | None = None  # a warped world stands at its start until it is driven

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        provider: str = "trace",
        trace: Path | None = None,
        start: datetime | None = None,
        speed: float = 1.0,
        made: Provider | None = None,
    ) -> LocalWorld:
        """Open or create the world in `home`.

        Args:
            provider, trace: see `provider_of`; `made` is used instead where given.
            start: planned time at which a warped clock begins.
            speed: planned seconds per real second.
        """
        home.mkdir(parents=True, exist_ok=True)
        real = SystemClock()
        warped = speed != 1.0 or start is not None
        clock = WarpedClock(real, start or real.now(), speed)
        ledger = open_ledger(f"sqlite:///{home / 'book.db'}")
        source = made or provider_of(provider, clock, trace)
        grid = Grid(source, ledger, past=PAST, ahead=Ahead(source), background=False)
        return cls(home, Store(home / "local.db"), ledger, clock, warped, grid, real, start)

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """Create or update objects; returns the uids of the GreenJobs among them."""
        uids = []
        for body in objects:
            stored = self.store.apply(body, self._begins or self.clock.now())
            if body["kind"] == "GreenJob":
                uids.append(stored["metadata"]["uid"])
        return uids

    def renew(self, body: Mapping[str, Any]) -> None:
        """Make room for a job of this name: one that ended is put away (its accounts stay in the book), one that has
        not goes on, with the clock that it was driven by."""
        meta = body["metadata"]
        old = self.store.get("GreenJob", meta.get("namespace", "default"), meta["name"])
        if old is None:
            return
        job = read_job(old)
        if isinstance(job, BadObject) or Observed(job).ended:
            self.store.delete("GreenJob", old["metadata"]["namespace"], meta["name"])
            self.store.delete_runs(old["metadata"]["uid"])
        else:
            self.resume_clock(old["metadata"]["uid"])

    def pause(self, uids: Sequence[str], patience_s: float = 60.0) -> None:
        """Ask what runs for its checkpoint, and wait for it."""
        cluster = LocalCluster(self.store, self.home, self.clock, self.real, self.clock.speed, frozenset(uids))
        try:
            for _ in range(int(patience_s / 0.2)):
                live = [(o.job, r) for o in cluster.snapshot().jobs for r in o.live]
                if not live:
                    return
                for job, run in live:
                    if run.phase is not Phase.STOPPING:
                        cluster.stop_run(job, run.name)
                self.real.sleep(0.2)
        finally:
            cluster.close()

    def resume_clock(self, uid: str) -> None:
        """Take up the planned time where a job's last driver left it: the world stood still while nobody looked,
        unless its run went on."""
        saved = self.store.clock(uid)
        if saved is None:
            return
        sim, real, speed = saved
        probe = LocalCluster(self.store, self.home, self.clock, self.real, speed, frozenset({uid}))
        went_on = any(o.live for o in probe.snapshot().jobs)
        probe.close()
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
        """Turn the conductor until the jobs `uids` have ended, or `stop` says so. Returns the last turn."""
        cluster = LocalCluster(self.store, self.home, self.clock, self.real, self.clock.speed, frozenset(uids))
        conductor = Conductor(cluster, self.grid, self.ledger, self.clock)
        if self._begins is not None:
            self.clock.restart()
            self._begins = None
        try:
            while True:
                now = self.clock.now()
                regions = cluster.snapshot().regions
                self.grid.refresh(conductor.zones(regions), now)
                cycle = conductor.cycle()
                for uid in uids:
                    self.store.save_clock(uid, self.clock.now(), self.real.now(), self.clock.speed)
                on_cycle(cycle)
                if stop() or not cycle.snapshot.jobs or all(o.ended for o in cycle.snapshot.jobs):
                    return cycle
                self._pass_time(cycle)
        finally:
            cluster.close()

    def _pass_time(self, cycle: Cycle) -> None:
        """Wait for the next turn; a warped clock leaps while nothing runs, so that nobody waits for an empty night."""
        busy = any(o.live for o in cycle.snapshot.jobs) or any(cycle.actions.values())
        due = cycle.wake_at
        if self.warped and not busy and due is not None:
            now = self.clock.now()
            next_hour = now.replace(minute=0, second=0, microsecond=0) + STEP
            self.clock.leap(min(due, next_hour))
            return
        wait_s = TURN_S if not self.warped else TURN_S / 2
        if due is not None:
            wait_s = min(wait_s, max(0.02, self.clock.real_seconds(due - self.clock.now())))
        self.real.sleep(wait_s)

    def close(self) -> None:
        self.grid.close()
        self.ledger.close()
