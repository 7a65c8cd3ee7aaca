"""The conductor's thread in the operator: turns when something happened, when something is due, and at every sweep.

Handlers only ring; whatever rings while a turn is going on leads to one more turn. One thread turns, so that no two
decisions are ever made at once.
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
from windward.service.conductor import Conductor, Cycle
from windward.service.ears import Ears
from windward.service.metrics import Metrics

log = logging.getLogger(__name__)
FIRST_S = 5.0  # for the first forecasts, so that what has no patience is not started blindly
GATHER_S = 0.3  # rings within this time lead to one turn


class Loop:
    """See the module."""

    def __init__(self, conductor: Conductor, clock: Clock, sweep_s: float, ears: Ears, metrics: Metrics) -> None:
        self.conductor, self.clock, self.ears, self.metrics = conductor, clock, ears, metrics
        self.sweep_s = sweep_s
        self.stop = threading.Event()
        self.last_good: datetime | None = None
        self.last_error = "no turn yet"
        self.zones: tuple[str, ...] = ()
        self._bell = threading.Event()
        self._started = clock.now()

    def ring(self) -> None:
        """Something happened."""
        self._bell.set()

    def run(self) -> None:
        """Turn until `stop` is set."""
        while not self.stop.is_set():
            self._bell.clear()
            due = self._turn()
            wait_s = 2 * self.sweep_s  # the sweep rings; this is for a sweep that does not
            if due is not None:
                wait_s = min(wait_s, max(0.2, (due - self.clock.now()).total_seconds()))
            if self._bell.wait(wait_s):
                self.stop.wait(GATHER_S)

    def _turn(self) -> datetime | None:
        """One turn; when the next thing is due. A world that does not answer is asked again at the next sweep."""
        began = time.perf_counter()
        try:
            self._first_forecasts()
            cycle = self.conductor.cycle()
        except (ClusterError, LedgerError) as e:
            self.last_error = str(e)
            self.metrics.errors.labels(type(e).__name__).inc()
            log.warning("this turn failed, the next is at the next sweep: %s", e)
            return None
        except Exception:  # a bug of ours must not end the operator's work for all other jobs
            self.last_error = "an unexpected error; see the log"
            self.metrics.errors.labels("Bug").inc()
            log.exception("this turn failed")
            return None
        self.last_good, self.last_error = self.clock.now(), ""
        try:
            self._heard(cycle)
            self.metrics.turned(cycle, self.conductor.grid, time.perf_counter() - began, self.last_good)
        except Exception:  # what is counted of a cycle never undoes it
            log.exception("this cycle is not in the metrics")
        return cycle.wake_at

    def _first_forecasts(self) -> None:
        """A zone that was never asked for is asked for once before it is planned with; later ones come by the tick.

        A source that does not answer at once delays this one cycle by `FIRST_S`, and no other.
        """
        regions = self.conductor.cluster.snapshot().regions if not self.zones else ()
        if regions:
            self.zones = tuple(self.conductor.zones(regions))
            answered = threading.Event()
            self._ask(answered.set)
            answered.wait(FIRST_S)

    def _ask(self, then: Callable[[], None] = lambda: None) -> None:
        """Ask for the forecasts of all zones, on another thread; what comes leads to a cycle."""

        def come() -> None:
            then()
            self.ring()

        self.conductor.grid.refresh_soon(self.zones, self.clock.now(), come)

    def _heard(self, cycle: Cycle) -> None:
        versions = {o.uid: o.job.metadata.resource_version for o in cycle.snapshot.jobs}
        self.ears.listed(versions, self.clock.now())
        zones = tuple(self.conductor.zones(cycle.snapshot.regions))
        new = set(zones) - set(self.zones)
        self.zones = zones
        if new:
            self._ask()

    def refresh(self) -> None:
        """The forecast tick."""
        self.conductor.grid.refresh(self.zones, self.clock.now())
        self.ring()

    def dead(self) -> str | None:
        """Liveness: what is wrong, or None."""
        now = self.clock.now()
        if self.ears.deaf(now):
            return "the watch no longer tells what lists show"
        patience = timedelta(seconds=max(120.0, 5 * self.sweep_s))
        if now - (self.last_good or self._started) > patience:
            return f"no good turn for {patience.total_seconds():.0f} s: {self.last_error}"
        return None

    def unready(self) -> str | None:
        """Readiness: what is wrong, or None."""
        return None if self.last_good is not None else self.last_error

    def good(self) -> str:
        """When the last good cycle was, for whoever asks how things are."""
        if self.last_good is None:
            return "no good cycle yet"
        return f"good cycle {(self.clock.now() - self.last_good).total_seconds():.0f} s ago"
