"""The controller's thread in the operator: runs a cycle after events, when something is due, and at each resync.

Handlers only wake it; a wake-up during a cycle leads to one more. Only one thread runs cycles, so decisions are never
made concurrently.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from windward.cluster.port import ClusterError
from windward.domain.clock import Clock
from windward.ledger.port import LedgerError
from windward.service.controller import Controller, Cycle
from windward.service.metrics import Metrics
from windward.service.watch_monitor import WatchMonitor

log = logging.getLogger(__name__)
FIRST_S = 5.0  # for the first forecasts, so that what has no patience is not started blindly
GATHER_S = 0.3  # what happens within this time leads to one cycle


class Loop:
    """See the module."""

    def __init__(
        self, controller: Controller, clock: Clock, resync_s: float, watch_monitor: WatchMonitor, metrics: Metrics
    ) -> None:
        self.controller, self.clock, self.watch_monitor, self.metrics = controller, clock, watch_monitor, metrics
        self.resync_s = resync_s
        self.stop = threading.Event()
        self.last_good: datetime | None = None
        self.last_error = "no cycle yet"
        self.zones: tuple[str, ...] = ()
        self._woken = threading.Event()
        self._started = clock.now()

    def wake(self) -> None:
        """Requests a cycle."""
        self._woken.set()

    def run(self) -> None:
        """Runs cycles until `stop` is set."""
        while not self.stop.is_set():
            self._woken.clear()
            due = self._cycle()
            wait_s = 2 * self.resync_s  # the resync wakes it; this is for a resync that does not
            if due is not None:
                wait_s = min(wait_s, max(0.2, (due - self.clock.now()).total_seconds()))
            if self._woken.wait(wait_s):
                self.stop.wait(GATHER_S)

    def _cycle(self) -> datetime | None:
        """Runs one cycle; returns when the next one is due. After an error that is the next resync."""
        began = time.perf_counter()
        try:
            self._first_forecasts()
            cycle = self.controller.cycle()
        except (ClusterError, LedgerError) as e:
            self.last_error = str(e)
            self.metrics.errors.labels(type(e).__name__).inc()
            log.warning("this cycle failed, the next is at the next resync: %s", e)
            return None
        except Exception:  # a bug of ours must not end the operator's work for all other jobs
            self.last_error = "an unexpected error; see the log"
            self.metrics.errors.labels("Bug").inc()
            log.exception("this cycle failed")
            return None
        self.last_good, self.last_error = self.clock.now(), ""
        try:
            self._note(cycle)
            self.metrics.cycled(cycle, self.controller.grid, time.perf_counter() - began, self.last_good)
        except Exception:  # what is counted of a cycle never undoes it
            log.exception("this cycle is not in the metrics")
        return cycle.wake_at

    def _first_forecasts(self) -> None:
        """Requests the first forecasts before the first cycle; later ones come with the forecast tick.

        Waits for them for at most `FIRST_S`.
        """
        regions = self.controller.cluster.snapshot().regions if not self.zones else ()
        if regions:
            self.zones = tuple(self.controller.zones(regions))
            answered = threading.Event()
            self._ask(answered.set)
            answered.wait(FIRST_S)

    def _ask(self, then: Callable[[], None] = lambda: None) -> None:
        """Requests the forecasts of all zones on another thread; their arrival leads to a cycle."""

        def come() -> None:
            then()
            self.wake()

        self.controller.grid.refresh_soon(self.zones, self.clock.now(), come)

    def _note(self, cycle: Cycle) -> None:
        watched = [o.job.metadata for o in cycle.snapshot.jobs if o.job.object_kind == o.job.kind]  # by kopf
        versions = {meta.uid: meta.resource_version for meta in watched}
        self.watch_monitor.listed(versions, self.clock.now())
        zones = tuple(self.controller.zones(cycle.snapshot.regions))
        new = set(zones) - set(self.zones)
        self.zones = zones
        if new:
            self._ask()

    def refresh(self) -> None:
        """Refreshes all forecasts: the forecast tick."""
        self.controller.grid.refresh(self.zones, self.clock.now())
        self.wake()

    def dead(self) -> str | None:
        """Liveness: what is wrong, or None."""
        now = self.clock.now()
        if self.watch_monitor.stale(now):
            return "the watch no longer delivers what lists show"
        patience = timedelta(seconds=max(120.0, 5 * self.resync_s))
        if now - (self.last_good or self._started) > patience:
            return f"no good cycle for {patience.total_seconds():.0f} s: {self.last_error}"
        return None

    def unready(self) -> str | None:
        """Readiness: what is wrong, or None."""
        return None if self.last_good is not None else self.last_error

    def good(self) -> str:
        """Returns when the last good cycle was, as text for a probe."""
        if self.last_good is None:
            return "no good cycle yet"
        return f"good cycle {(self.clock.now() - self.last_good).total_seconds():.0f} s ago"
