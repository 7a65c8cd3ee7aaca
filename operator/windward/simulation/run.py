"""The loop of a simulation: time passes, jobs arrive, the conductor turns."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from windward.domain.clock import FixedClock
from windward.domain.plan import Plan
from windward.domain.series import Series
from windward.forecasting import filled
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import Provider
from windward.ledger import MemoryLedger
from windward.lifecycle.work import levels_of, power_w
from windward.service.conductor import Conductor
from windward.simulation.arrivals import Arrival
from windward.simulation.cluster import SimulatedCluster
from windward.simulation.faults import Faults
from windward.simulation.foresight import Foresight, Hindcast
from windward.simulation.policies import Policy
from windward.simulation.result import Outcome, Result, least_possible_g, outcome_of
from windward_api.greenregion import GreenRegion

AFTER = timedelta(days=3)  # the last jobs may finish, and their hours settle
Progress = Callable[[str, datetime], None]


def simulate(
    title: str,
    arrivals: Sequence[Arrival],
    regions: Sequence[GreenRegion],
    actuals: Provider,
    policies: Iterable[Policy],
    *,
    foresight: Foresight = Foresight.OWN,
    faults: Faults | None = None,
    step: timedelta = timedelta(hours=1),
    issue_every: timedelta = timedelta(hours=6),
    progress: Progress = lambda policy, now: None,
) -> Result:
    """Run the same arrivals, with the same faults, under each policy.

    Args:
        actuals: recorded intensities; what a policy may know of them is `foresight`'s matter.
        step: the operator looks at least this often, and at each planned start and end.
        issue_every: how often there is a new forecast; weather models, on which forecasts rest, run every six hours.
        progress: called with policy and simulated time, about once a simulated day.
    """
    faults = faults or Faults()
    arrivals = sorted(arrivals, key=lambda a: (a.at, a.job.metadata.name))
    if not arrivals:
        raise ValueError("no job arrives: nothing to simulate")
    end = max(a.job.finish_by() for a in arrivals) + AFTER
    outcomes = tuple(
        _Year(p, arrivals, regions, actuals, foresight, faults, step, issue_every, progress).run(end) for p in policies
    )
    known = {r.metadata.name: r for r in regions}
    recorded = {r.spec.grid_zone: actuals.history(r.spec.grid_zone, arrivals[0].at, end) for r in regions}
    # The bound is for jobs that were weighed, so for none that ran in a hole: more hours to choose from only lower it.
    series = {zone: filled(known) for zone, known in recorded.items()}
    weighed = {j.name for j in outcomes[0].jobs if j.emissions_g is not None and j.run_now_g is not None}
    return Result(
        title=title,
        start=arrivals[0].at,
        end=end,
        zones=tuple(sorted(series)),
        foresight=str(foresight),
        faults=faults.asked_for(),
        source=actuals.name,
        demo=any(s.demo for s in series.values()),
        bound_g=sum(_least_g(a, known, series, faults) for a in arrivals if a.job.metadata.name in weighed),
        outcomes=outcomes,
    )


def _least_g(arrival: Arrival, regions: dict[str, GreenRegion], series: dict[str, Series], faults: Faults) -> float:
    allowed = {n: regions[n] for n in arrival.job.spec.placement.regions if n in regions}
    where = {n: (series[r.spec.grid_zone], float(r.spec.pue)) for n, r in allowed.items()}
    spec = arrival.job.spec
    ways = [(power_w(spec), 1.0), *((v.power_w, v.speed) for v in levels_of(spec))]
    return least_possible_g(arrival, faults.duration(arrival.job), ways, where)


class _Year:
    """One policy's simulation."""

    def __init__(
        self,
        policy: Policy,
        arrivals: Sequence[Arrival],
        regions: Sequence[GreenRegion],
        actuals: Provider,
        foresight: Foresight,
        faults: Faults,
        step: timedelta,
        issue_every: timedelta,
        progress: Progress,
    ) -> None:
        self.policy, self.arrivals, self.step, self.progress = policy, arrivals, step, progress
        self.clock = FixedClock(arrivals[0].at.replace(minute=0, second=0, microsecond=0))
        self.cluster = SimulatedCluster(self.clock, regions, faults)
        self.ledger = MemoryLedger()
        provider = Hindcast(actuals, Foresight.PERFECT if policy.perfect else foresight, self.clock, faults)
        self.zones = sorted({r.spec.grid_zone for r in regions})
        ahead = Ahead(provider)
        dice = random.Random(1)  # noqa: S311
        every = issue_every - timedelta(minutes=10)
        self.grid = Grid(provider, self.ledger, every=every, dice=dice, ahead=ahead, workers=1, background=False)
        self.conductor = Conductor(
            self.cluster, self.grid, self.ledger, self.clock, policy.make(), replan_every=step, tells=False
        )
        self.moves = 0
        self.cycles = 0

    def run(self, end: datetime) -> Outcome:
        """From the first arrival until all that arrived has ended, or `end`."""
        waiting, day = list(reversed(self.arrivals)), None
        quiet = logging.getLogger("windward")
        level = quiet.level
        quiet.setLevel(logging.ERROR)  # an outage that was asked for is no news
        try:
            while self.clock.now() < end and (waiting or self.cluster.jobs):
                while waiting and waiting[-1].at <= self.clock.now():
                    self.cluster.submit(waiting.pop().job)
                due = self._turn()
                if day != self.clock.now().date():
                    day = self.clock.now().date()
                    self.progress(self.policy.name, self.clock.now())
                self.cluster.pass_time(self._until(due, waiting[-1].at if waiting else end))
            receipts = {r.uid: r.body for r in self.ledger.receipts(include_demo=True)}
        finally:
            quiet.setLevel(level)
            self.ledger.close()
        p = self.policy
        return outcome_of(
            p.name, p.what, self.arrivals, self.cluster, receipts, self.clock.now(), self.moves, self.cycles
        )

    def _turn(self) -> datetime | None:
        now = self.clock.now()
        if now.timestamp() % self.step.total_seconds() == 0:  # issues come on the hour, not whenever something happens
            self.grid.refresh(self.zones, now)
        before = self.conductor.previous
        cycle = self.conductor.cycle()
        self.cycles += 1
        if cycle.errors:
            raise RuntimeError(f"the simulated operator failed at {now}: {cycle.errors}")
        if before is not None and cycle.plan is not before:
            self.moves += _moved(before, cycle.plan, now)
        return cycle.wake_at

    def _until(self, due: datetime | None, arrives: datetime) -> timedelta:
        """To the next full step, or to what the conductor waits for before that; while no job is there, to the next."""
        now = self.clock.now()
        seconds = self.step.total_seconds()
        if not self.cluster.jobs:
            due, seconds = None, max(seconds, seconds * ((arrives - now).total_seconds() // seconds))
        target = now + timedelta(seconds=seconds - now.timestamp() % seconds)
        if due is not None:  # at a full second, as runs end: not a microsecond before
            second = math.ceil(max(due, now + timedelta(seconds=1)).timestamp())
            target = min(target, datetime.fromtimestamp(second, UTC))
        return target - now


def _moved(before: Plan, after: Plan, now: datetime) -> int:
    """Jobs whose next start was put elsewhere, in place or time, before it came."""
    n = 0
    for key, old in before.jobs.items():
        new = after.jobs.get(key)
        if new is None or not old.windows or not new.windows or old.windows[0].start <= now:
            continue
        a, b = old.windows[0], new.windows[0]
        n += (a.region, a.start) != (b.region, b.start)
    return n
