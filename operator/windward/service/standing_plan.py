"""The plan that stands: made anew where anything that it rests on changed, and never lost to one job that cannot be
planned."""

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
from windward.lifecycle.work import remaining_of, work_of
from windward.service.guard import Guard

log = logging.getLogger(__name__)
REPLAN_EVERY = timedelta(minutes=15)
FLEET = "all jobs"  # the guard's name of a fault that no single job has

Planner = Callable[[Fleet, Mapping[str, Forecast], datetime, Plan | None], Plan]


def version_of(o: Observed) -> object:
    """What tells one state of a job's manifest from another; its status, which we write, is no part of it."""
    return o.uid, o.job.metadata.generation, o.run_now


@dataclass
class StandingPlan:
    """See the module.

    Attributes:
        planner: `planning.plan`, or another policy to compare with it.
        previous: the plan that stands.
        replan_every: while something is not as planned, a plan is made anew this often.
        observes: plans are made and told, and every job runs at once.
    """

    guard: Guard
    planner: Planner = planning.plan
    previous: Plan | None = None
    replan_every: timedelta = REPLAN_EVERY
    observes: bool = False
    _planned_for: PlanInputs | None = None
    _work: dict[str, tuple[Observed, Work]] = field(default_factory=dict)

    def plan(
        self,
        placed: Sequence[Observed],
        accounts: Mapping[str, Account | None],
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
    ) -> Plan:
        """Returns the plan as it stands, or a new one where anything that it rests on changed.

        A job that cannot be planned is left out, and told by the guard.
        """
        if self.previous is None:
            self.previous = self._told(placed, now)
        made = self.guard.run("plan", FLEET, None, now, partial(self._made, placed, accounts, regions, forecasts, now))
        plan = made if made is not None else self.previous
        if not self.observes:
            return plan
        by_key = {o.key: o for o in placed}
        told = {k: undelayed(by_key[k], p, now) for k, p in plan.jobs.items() if k in by_key}
        return replace(plan, jobs=told)

    def _told(self, placed: Sequence[Observed], now: datetime) -> Plan:
        """The plan that stood when another operator wrote the statuses."""
        read = {o.key: self.guard.run("plan", o.key, version_of(o), now, partial(plan_from_status, o)) for o in placed}
        return Plan(now, {k: p for k, p in read.items() if p is not None})

    def _made(
        self,
        placed: Sequence[Observed],
        accounts: Mapping[str, Account | None],
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
    ) -> Plan:
        placed = [o for o in placed if not self.guard.waits("plan", o.key, version_of(o), now)]
        world = (regions, tuple((z, f.vintage, f.freshness.usable) for z, f in sorted(forecasts.items())))
        inputs = PlanInputs.of(world, placed, self.previous, self.replan_every, now)
        if self.previous is not None and inputs.still_hold(self._planned_for, self.previous, now):
            return self.previous
        series = {z: f.series for z, f in forecasts.items() if f.series is not None}
        self._work = {o.uid: self._work[o.uid] for o in placed if o.uid in self._work}
        work: list[Work] = []
        for o in placed:
            # One step for each job: what passed of it would have the guard forget that the rest failed.
            plannable = partial(self._plannable, o, accounts.get(o.key), regions, series, forecasts, now)
            one = self.guard.run("plan", o.key, version_of(o), now, plannable)
            work += [one] if one is not None else []
        fleet = Fleet(tuple(work), regions, inputs.unchanged(self._planned_for, self.previous, now))
        self.previous, self._planned_for = self._planned(fleet, placed, forecasts, now), inputs
        return self.previous

    def _plannable(
        self,
        o: Observed,
        account: Account | None,
        regions: Mapping[str, Region],
        series: Mapping[str, Series],
        forecasts: Mapping[str, Forecast],
        now: datetime,
    ) -> Work:
        """The work of a job; of one that could not be planned the last time only if it can now, by itself."""
        work = self._work_of(o, emitted_g(o, account, regions, series, now), now)
        if self.guard.fault("plan", o.key) is not None:
            self.planner(Fleet((work,), regions), forecasts, now, None)
        return work

    def _work_of(self, o: Observed, spent_g: float, now: datetime) -> Work:
        """What is to be planned of a job; while it is the same object, time changes only what is left to do."""
        kept = self._work.get(o.uid)
        if kept is None or kept[0] is not o:
            kept = self._work[o.uid] = (o, work_of(o, now, spent_g=spent_g))
        work = kept[1]
        if o.live or work.spent_g != spent_g:
            work = replace(work, remaining=remaining_of(o, now), spent_g=spent_g)
        return work

    def _planned(
        self, fleet: Fleet, placed: Iterable[Observed], forecasts: Mapping[str, Forecast], now: datetime
    ) -> Plan:
        """The plan of the fleet; where the planner raises, of all but those that it raises for."""
        try:
            return self.planner(fleet, forecasts, now, self.previous)
        except Exception:
            log.exception("the fleet cannot be planned; looking for the jobs for which it cannot")
        versions = {o.key: version_of(o) for o in placed}
        alone: dict[str, JobPlan] = {}
        for work in fleet.work:
            one = Fleet((work,), fleet.regions)
            seek = partial(self.planner, one, forecasts, now, None)
            made = self.guard.run("plan", work.key, versions.get(work.key), now, seek)
            if made is not None:
                alone |= made.jobs
        sound = Fleet(tuple(w for w in fleet.work if w.key in alone), fleet.regions)
        try:
            return self.planner(sound, forecasts, now, None)
        except Exception:  # each can be planned, and all of them cannot: the cluster has pods wait for room
            log.exception("the rest cannot be planned together; each is planned by itself")
            return Plan(now, alone)
