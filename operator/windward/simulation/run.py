"""The loop of a simulation: time passes, jobs arrive, the controller runs its cycles."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from windward.domain.clock import FixedClock
from windward.domain.plan import Plan
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import Provider
from windward.ledger import MemoryLedger
from windward.lifecycle.accounting import account, energy_of_run
from windward.service.controller import Controller
from windward.service.reporter import DiscardingReporter
from windward.service.sync_regions import regions_of
from windward.simulation.arrivals import Arrival
from windward.simulation.bound import Site, baseline_g, least_possible_g
from windward.simulation.cluster import SimulatedCluster
from windward.simulation.faults import Faults
from windward.simulation.foresight import Foresight, Hindcast, Publication
from windward.simulation.job import SimulatedJob
from windward.simulation.policies import Policy
from windward.simulation.result import JobOutcome, PolicyRun, Result, outcome_of, weighed_under_all
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
    publication: Publication | None = None,
    progress: Progress = lambda policy, now: None,
) -> Result:
    """Run the same arrivals, with the same faults, under each policy.

    Args:
        actuals: recorded intensities; what a policy may know of them is `foresight`'s matter.
        step: the operator looks at least this often, and at each planned start and end.
        issue_every: how often there is a new forecast; weather models, on which forecasts rest, run every six hours.
        publication: forecasts that were published, and how late actuals were; None: no forecast, actuals at once.
        progress: called with policy and simulated time, about once a simulated day.
    """
    faults = faults or Faults()
    arrivals = sorted(arrivals, key=lambda a: (a.at, a.job.metadata.name))
    if not arrivals:
        raise ValueError("no job arrives: nothing to simulate")
    end = max(a.job.finish_by() for a in arrivals) + AFTER
    known = regions_of(regions)
    sites = {n: Site.of(r, actuals.history(r.zone, arrivals[0].at, end)) for n, r in known.items()}
    policy_runs = [
        _Year(p, arrivals, regions, actuals, sites, foresight, faults, step, issue_every, publication, progress).run(
            end
        )
        for p in policies
    ]
    weighed = weighed_under_all(policy_runs)
    return Result(
        title=title,
        start=arrivals[0].at,
        end=end,
        zones=tuple(sorted({r.zone for r in known.values()})),
        foresight=str(foresight),
        faults=faults.nonzero_rates(),
        source=actuals.name,
        demo=any(s.effective.demo for s in sites.values()),
        bound_g=sum(_least_g(i, arrivals[i], policy_runs, sites, faults) for i, counts in enumerate(weighed) if counts),
        outcomes=tuple(outcome_of(t, weighed) for t in policy_runs),
    )


def _least_g(
    i: int, arrival: Arrival, policy_runs: Sequence[PolicyRun], sites: Mapping[str, Site], faults: Faults
) -> float:
    """A lower bound of a job's grams under any policy; a late one may have met cleaner hours after its finish-by."""
    ends = [t.jobs[i].finished for t in policy_runs]
    until = max([arrival.job.finish_by(), *(e for e in ends if e is not None)])
    least_g = least_possible_g(arrival, faults.duration(arrival.job), until, sites)
    return min(least_g, policy_runs[0].jobs[i].run_now_g or 0.0)


class _Year:
    """One policy's simulation."""

    def __init__(
        self,
        policy: Policy,
        arrivals: Sequence[Arrival],
        regions: Sequence[GreenRegion],
        actuals: Provider,
        sites: Mapping[str, Site],
        foresight: Foresight,
        faults: Faults,
        step: timedelta,
        issue_every: timedelta,
        publication: Publication | None,
        progress: Progress,
    ) -> None:
        self.policy, self.arrivals, self.step, self.progress = policy, arrivals, step, progress
        self.sites, self.faults = sites, faults
        self.clock = FixedClock(arrivals[0].at.replace(minute=0, second=0, microsecond=0))
        self.cluster = SimulatedCluster(self.clock, regions, faults)
        self.ledger = MemoryLedger()
        sight = Foresight.PERFECT if policy.perfect else foresight
        provider = Hindcast(actuals, sight, self.clock, faults, publication=publication)
        self.zones = sorted({r.spec.grid_zone for r in regions})
        ahead = Ahead(provider)
        dice = random.Random(1)  # noqa: S311
        every = issue_every - timedelta(minutes=10)
        self.grid = Grid(provider, self.ledger, every=every, dice=dice, ahead=ahead, workers=1, background=False)
        self.controller = Controller(
            self.cluster,
            self.grid,
            self.ledger,
            self.clock,
            policy.make(),
            replan_every=step,
            reporter=DiscardingReporter(),
            simulated=True,
        )
        self.moves = 0
        self.cycles = 0

    def run(self, end: datetime) -> PolicyRun:
        """From the first arrival until all that arrived has ended, or `end`."""
        waiting, day = list(reversed(self.arrivals)), None
        quiet = logging.getLogger("windward")
        level = quiet.level
        quiet.setLevel(logging.ERROR)  # an outage that was asked for is no news
        try:
            while self.clock.now() < end and (waiting or self.cluster.jobs):
                while waiting and waiting[-1].at <= self.clock.now():
                    self.cluster.submit(waiting.pop().job)
                due = self._cycle()
                if day != self.clock.now().date():
                    day = self.clock.now().date()
                    self.progress(self.policy.name, self.clock.now())
                self.cluster.pass_time(self._until(due, waiting[-1].at if waiting else end))
            jobs = self._jobs()
        finally:
            quiet.setLevel(level)
            self.ledger.close()
        return PolicyRun(self.policy.name, self.policy.what, jobs, self.clock.now(), self.moves, self.cycles)

    def _jobs(self) -> tuple[JobOutcome, ...]:
        """What became of each job that arrived."""
        receipts = {r.uid: r.body for r in self.ledger.receipts(include_demo=True)}
        world = {**self.cluster.gone, **{j.job.metadata.uid: j for j in self.cluster.jobs.values()}}
        return tuple(self._job(a, world[a.job.metadata.uid], receipts.get(a.job.metadata.uid)) for a in self.arrivals)

    def _job(self, arrival: Arrival, job: SimulatedJob, receipt: Mapping[str, Any] | None) -> JobOutcome:
        """Its receipt counts; where it has none, what its runs drew until now is weighed alike."""
        if receipt is not None:
            energy_j, emissions_g = float(receipt["energyJoules"]), receipt["emissionsGrams"]
        else:
            energy_j, emissions_g = self._weighed(job)
        finished, waited = job.finished_at, timedelta(0)
        if finished is not None:
            waited = max(timedelta(0), finished - arrival.at - timedelta(seconds=job.takes_s))
        return JobOutcome(
            name=arrival.job.metadata.name,
            submitted=arrival.at,
            finish_by=arrival.job.finish_by(),
            finished=finished,
            failed=any(c.type == "Failed" and c.status == "True" for c in job.job.status.conditions),
            wait_h=waited / timedelta(hours=1),
            runs=len(job.runs),
            energy_j=energy_j,
            emissions_g=emissions_g,
            run_now_g=baseline_g(arrival, self.faults.duration(arrival.job), self.sites),
        )

    def _weighed(self, job: SimulatedJob) -> tuple[float, float | None]:
        """Joules and grams of a job without a receipt: of its rows in the ledger, and of runs that have none yet."""
        observed, regions = job.observed(), {n: s.region for n, s in self.sites.items()}
        rows = list(self.ledger.energy(observed.uid))
        booked = {r.attempt for r in rows}
        for run in (r for r in job.runs if r.attempt not in booked):
            rows += energy_of_run(observed, run, regions[run.region], self.clock.now())
        total = account(observed, rows, {s.region.zone: s.recorded for s in self.sites.values()}, regions)
        return total.energy_j, total.emissions_g

    def _cycle(self) -> datetime | None:
        now = self.clock.now()
        if now.timestamp() % self.step.total_seconds() == 0:  # issues come on the hour, not whenever something happens
            self.grid.refresh(self.zones, now)
        before = self.controller.previous
        cycle = self.controller.cycle()
        self.cycles += 1
        if cycle.errors:
            raise RuntimeError(f"the simulated operator failed at {now}: {cycle.errors}")
        if before is not None and cycle.plan is not before:
            self.moves += _moved(before, cycle.plan, now)
        return cycle.wake_at

    def _until(self, due: datetime | None, arrives: datetime) -> timedelta:
        """To the next full step, or to what the controller waits for before that; without jobs, to the next arrival."""
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
