"""Keeps the current plan of the fleet; replans when its inputs change, and leaves out jobs that cannot be planned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from windward import planning
from windward.domain.fleet import Fleet, Region, Work
from windward.domain.forecast import Forecast
from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Plan
from windward.domain.series import Series
from windward.lifecycle.accounting import Account
from windward.lifecycle.booking import emitted_g
from windward.lifecycle.observing import undelayed
from windward.lifecycle.plan_from_status import plan_from_status
from windward.lifecycle.plan_inputs import PlanInputs
from windward.lifecycle.work import progressed, work_of
from windward.service.guard import Guard

log = logging.getLogger(__name__)
REPLAN_EVERY = timedelta(minutes=15)
FLEET = "all jobs"  # the guard's name of a fault that no single job has

Planner = Callable[[Fleet, Mapping[str, Forecast], datetime, Plan | None], Plan]


def version_of(o: Observed) -> object:
    """Returns a value that changes with the job's manifest, but not with its status, which we write."""
    return o.uid, o.job.metadata.generation, o.run_now


@dataclass(frozen=True, slots=True)
class Sites:
    """Where work can run, as it is known in one cycle: regions by name, forecasts by zone."""

    regions: Mapping[str, Region]
    forecasts: Mapping[str, Forecast]


@dataclass
class StandingPlan:
    """See the module.

    Attributes:
        planner: `planning.plan`, or another policy to compare with it.
        previous: the plan that stands.
        replan_every: how often to replan while jobs have drifted from the plan.
        observes: plans are only shown, and every job runs at once.
    """

    guard: Guard
    planner: Planner = planning.plan
    previous: Plan | None = None
    replan_every: timedelta = REPLAN_EVERY
    observes: bool = False
    _planned_for: PlanInputs | None = None
    _work: dict[str, tuple[Observed, Work]] = field(default_factory=dict)

    def plan(
        self, placed: Sequence[Observed], accounts: Mapping[str, Account | None], sites: Sites, now: datetime
    ) -> Plan:
        """Returns the standing plan, or a new one when anything that it rests on has changed.

        A job that cannot be planned is left out; the guard keeps its fault.

        Args:
            placed: the jobs to plan.
            accounts: by key, what each job has emitted so far.
        """
        if self.previous is None:
            self.previous = self._from_statuses(placed, now)
        replan = partial(self._replan, placed, accounts, sites, now)
        plan = self.guard.run("plan", FLEET, None, now, replan) or self.previous
        if not self.observes:
            return plan
        by_key = {o.key: o for o in placed}
        undelayed_plans = {k: undelayed(by_key[k], p, now) for k, p in plan.jobs.items() if k in by_key}
        return replace(plan, jobs=undelayed_plans)

    def _from_statuses(self, placed: Sequence[Observed], now: datetime) -> Plan:
        """The plan that an earlier operator wrote into the statuses."""
        read = {o.key: self.guard.run("plan", o.key, version_of(o), now, partial(plan_from_status, o)) for o in placed}
        return Plan(now, {k: p for k, p in read.items() if p is not None})

    def _replan(
        self, placed: Sequence[Observed], accounts: Mapping[str, Account | None], sites: Sites, now: datetime
    ) -> Plan:
        """The standing plan while its inputs hold, else the fleet planned anew."""
        placed = [o for o in placed if not self.guard.waits("plan", o.key, version_of(o), now)]
        issues = tuple((z, f.vintage, f.freshness.usable) for z, f in sorted(sites.forecasts.items()))
        world = (sites.regions, issues)
        inputs = PlanInputs.of(world, placed, self.previous, self.replan_every, now)
        if self.previous is not None and inputs.still_hold(self._planned_for, self.previous, now):
            return self.previous
        self._work = {o.uid: self._work[o.uid] for o in placed if o.uid in self._work}
        series = {z: f.series for z, f in sites.forecasts.items() if f.series is not None}
        work: list[Work] = []
        for o in placed:
            plannable = partial(self._plannable, o, accounts.get(o.key), series, sites, now)
            one = self.guard.run("plan", o.key, version_of(o), now, plannable)
            work += [one] if one is not None else []
        fleet = Fleet(tuple(work), sites.regions, inputs.unchanged(self._planned_for, self.previous, now))
        self.previous, self._planned_for = self._plan_fleet(fleet, placed, sites.forecasts, now), inputs
        return self.previous

    def _plannable(
        self, o: Observed, account: Account | None, series: Mapping[str, Series], sites: Sites, now: datetime
    ) -> Work:
        """The work of a job. A job that could not be planned the last time is first planned alone, and raises again if
        it still cannot."""
        work = self._work_of(o, emitted_g(o, account, sites.regions, series, now), now)
        if self.guard.fault("plan", o.key) is not None:
            self.planner(Fleet((work,), sites.regions), sites.forecasts, now, None)
        return work

    def _work_of(self, o: Observed, spent_g: float, now: datetime) -> Work:
        """The work of a job; cached while its observation is the same object, up to what time changes."""
        kept = self._work.get(o.uid)
        if kept is None or kept[0] is not o:
            kept = self._work[o.uid] = (o, work_of(o, now, spent_g=spent_g))
        work = kept[1]
        return progressed(work, o, now, spent_g) if o.live or work.spent_g != spent_g else work

    def _plan_fleet(
        self, fleet: Fleet, placed: Iterable[Observed], forecasts: Mapping[str, Forecast], now: datetime
    ) -> Plan:
        """The plan of the fleet; if the planner raises, of all jobs but those for which it raises."""
        try:
            return self.planner(fleet, forecasts, now, self.previous)
        except Exception:
            log.exception("the fleet cannot be planned; looking for the jobs for which it cannot")
        versions = {o.key: version_of(o) for o in placed}
        alone: dict[str, JobPlan] = {}
        for work in fleet.work:
            one = Fleet((work,), fleet.regions)
            seek = partial(self.planner, one, forecasts, now, None)
            plan = self.guard.run("plan", work.key, versions.get(work.key), now, seek)
            if plan is not None:
                alone |= plan.jobs
        sound = Fleet(tuple(w for w in fleet.work if w.key in alone), fleet.regions)
        try:
            return self.planner(sound, forecasts, now, None)
        except Exception:  # each can be planned, and all of them cannot: the cluster has pods wait for room
            log.exception("the rest cannot be planned together; each is planned by itself")
            return Plan(now, alone)
