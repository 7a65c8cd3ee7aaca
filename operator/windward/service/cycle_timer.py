"""Times the cycles of a local controller in planned time, which may run faster than real time."""

from __future__ import annotations

from datetime import datetime, timedelta

from windward.cluster.local import LocalCluster
from windward.domain.run import Run
from windward.grid.cache import Grid
from windward.service.clock import SystemClock, WarpedClock
from windward.service.controller import Controller, Cycle

LEAP = timedelta(hours=1)  # a leap is no longer than this, so that newer forecasts are still looked at on the way
CYCLE_S = 0.5
_SHORTEST_WAIT_S = 0.02


class CycleTimer:
    """Runs cycles and waits between them.

    Under a fast clock a cycle takes no planned time while nothing runs: the clock stops where the last run ended and
    continues when the next one starts.

    Args:
        warped: whether the clock leaps while nothing runs.
    """

    def __init__(
        self,
        cluster: LocalCluster,
        controller: Controller,
        grid: Grid,
        clock: WarpedClock,
        real: SystemClock,
        warped: bool,
    ) -> None:
        self._cluster, self._controller, self._grid = cluster, controller, grid
        self._clock, self._real, self._warped = clock, real, warped
        self._live: set[str] = set()  # runs that had not ended by the last cycle

    def run(self) -> Cycle:
        """Run one cycle, over a snapshot and forecasts of now."""
        fast = self._clock.speed != 1.0
        if fast and not self._live:
            self._clock.hold()
        before, snapshot = self._real.now(), self._cluster.snapshot()
        runs = [r for o in snapshot.jobs for r in o.runs]
        if fast and not any(r.phase.live for r in runs):
            self._clock.hold(self._last_end(runs))
        try:
            self._grid.refresh(self._controller.zones(snapshot.regions), self._clock.now())
            self._cluster.keep(snapshot)
            return self._controller.cycle()
        finally:
            rows = [row for o in snapshot.jobs for row in self._cluster.store.runs.of_job(o.uid)]
            self._live = {row.name for row in rows} - {r.name for r in runs if not r.phase.live}
            self._clock.go_on(min((row.started_real for row in rows if row.started_real >= before), default=None))

    def wait(self, cycle: Cycle) -> None:
        """Wait for the next cycle; while nothing runs a warped clock leaps to it instead."""
        busy = any(o.live for o in cycle.snapshot.jobs) or any(cycle.actions.values())
        due = cycle.wake_at
        if self._warped and not busy and due is not None:
            now = self._clock.now()
            next_hour = now.replace(minute=0, second=0, microsecond=0) + LEAP
            self._clock.leap(min(due, next_hour))
            return
        wait_s = CYCLE_S if not self._warped else CYCLE_S / 2
        if due is not None:
            wait_s = min(wait_s, max(_SHORTEST_WAIT_S, self._clock.real_seconds(due - self._clock.now())))
        self._real.sleep(wait_s)

    def _last_end(self, runs: list[Run]) -> datetime | None:
        """When the last of the runs that were live ended; a run's supervisor takes a moment to say that it has, and in
        planned time that would be minutes."""
        ends = [r.finished_at for r in runs if r.name in self._live and r.exit_code is not None]
        return max((at for at in ends if at is not None), default=None)
