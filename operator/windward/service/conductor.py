"""The conductor: observes, plans, decides, acts, keeps the book, tells. The same loop for a cluster and a laptop.

It keeps no truth of its own: what it remembers (which rows are in the book, who was refused when) only saves work,
and a new conductor finds its way from what it observes. Killed between any two writes it goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from windward import planning
from windward.cluster import AttemptConflict, Cluster, ClusterError, Snapshot
from windward.domain.clock import Clock
from windward.domain.fleet import Fleet, Region, Work
from windward.domain.forecast import Forecast
from windward.domain.observed import Action, Observed
from windward.domain.plan import Plan
from windward.domain.series import Series
from windward.grid.cache import Grid
from windward.ledger.port import Ledger, LedgerError
from windward.lifecycle.accounting import Account
from windward.lifecycle.decide import retry_at
from windward.lifecycle.status import refused
from windward.lifecycle.work import power_w, remaining_of, work_of
from windward.service.book import Book
from windward.service.crons import refused_cron, tend_crons
from windward.service.grounds import Grounds, to_be_placed
from windward.service.planned import lengthened, needed_until
from windward.service.regions import regions_of, tend_regions
from windward.service.turn import Memory, Turn, World, issues_of
from windward_api.greenjob import GreenJobStatus
from windward_api.greenregion import GreenRegion

log = logging.getLogger(__name__)
REPLAN_EVERY = timedelta(minutes=15)


Planner = Callable[[Fleet, Mapping[str, Forecast], datetime, Plan | None], Plan]


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one turn saw and did."""

    at: datetime
    snapshot: Snapshot
    plan: Plan
    forecasts: Mapping[str, Forecast]
    actions: Mapping[str, tuple[Action, ...]]
    accounts: Mapping[str, Account | None]
    wake_at: datetime | None
    errors: Mapping[str, str]


@dataclass
class Conductor:
    """See the module.

    Attributes:
        planner: `planning.plan`, or another policy to compare with it.
        previous: the plan that stands.
        replan_every: while something is not as planned, a plan is made anew this often.
        tells: whether anybody reads what is said of jobs and regions. Where nobody does, a job's status is written when
            it ends, which is a fact, and no other; decisions are not noted, and only settled receipts are.
    """

    cluster: Cluster
    grid: Grid
    ledger: Ledger
    clock: Clock
    planner: Planner = planning.plan
    previous: Plan | None = None
    replan_every: timedelta = REPLAN_EVERY
    tells: bool = True
    _planned_for: Grounds | None = None
    _memory: dict[str, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = Book(self.ledger, self.grid, self.clock)

    def cycle(self) -> Cycle:
        """One turn. Trouble with one job is that job's; trouble with the whole world is raised (`ClusterError`)."""
        now = self.clock.now()
        snapshot = self.cluster.snapshot()  # 1. observe
        regions, objects = regions_of(snapshot.regions), {r.metadata.name: r for r in snapshot.regions}
        forecasts = self._forecasts(snapshot, regions, now)
        errors: dict[str, str] = {}
        self._memory = {o.uid: self._memory.get(o.uid) or Memory() for o in snapshot.jobs}
        placed = [o for o in snapshot.jobs if to_be_placed(o)]
        weighed = snapshot.jobs if self.tells else placed
        accounts = self._accounts(snapshot, weighed, regions, forecasts, now, errors)  # 2. book what ended
        plan = self._plan(placed, accounts, regions, forecasts, now)  # 3. plan all of it
        actions: dict[str, tuple[Action, ...]] = {}
        conflicts = False
        world = World(self.cluster, self.book, self.tells, regions, objects, forecasts, issues_of(forecasts))
        for observed in snapshot.jobs:  # 4. decide and act, job by job
            made, memory = plan.jobs.get(observed.key), self._memory[observed.uid]
            turn = Turn(world, observed, made, accounts[observed.key], memory)
            try:
                actions[observed.key] = turn.take(now)
                accounts[observed.key] = turn.account
            except AttemptConflict as e:
                conflicts = True
                log.info("%s: %s; looking again", observed.key, e)
            except (ClusterError, LedgerError) as e:
                errors[observed.key] = str(e)
                log.warning("%s: %s", observed.key, e)
        self._tell_bad(snapshot, now)
        tend_crons(self.cluster, snapshot, now)
        if self.tells:
            tend_regions(self.cluster, snapshot, forecasts, now)
        soon = now + timedelta(seconds=1) if conflicts or errors else None
        wake_at = soon or self._wake_at(snapshot, plan, now)
        return Cycle(now, snapshot, plan, forecasts, actions, accounts, wake_at, errors)

    def _plan(
        self,
        placed: Sequence[Observed],
        accounts: Mapping[str, Account | None],
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
    ) -> Plan:
        """The plan as it stands, or a new one where anything that it rests on changed."""
        world = (regions, tuple((z, f.vintage, f.freshness.usable) for z, f in sorted(forecasts.items())))
        grounds = Grounds.of(world, placed, self.previous, self.replan_every, now)
        if self.previous is None or not grounds.hold(self._planned_for, self.previous, now):
            series = {z: f.series for z, f in forecasts.items() if f.series is not None}
            spent = [self._spent_g(o, accounts[o.key], regions, series, now) for o in placed]
            work = tuple(self._work_of(o, g, now) for o, g in zip(placed, spent, strict=True))
            fleet = Fleet(work, regions, grounds.standing(self._planned_for, self.previous, now))
            self.previous, self._planned_for = self.planner(fleet, forecasts, now, self.previous), grounds
        return self.previous

    def _work_of(self, o: Observed, spent_g: float, now: datetime) -> Work:
        """What is to be planned of a job; while it is the same object, time changes only what is left to do."""
        memory = self._memory[o.uid]
        if memory.work is None or memory.work[0] is not o:
            memory.work = (o, work_of(o, now, spent_g=spent_g))
        made = memory.work[1]
        if o.live or made.spent_g != spent_g:
            made = replace(made, remaining=remaining_of(o, now), spent_g=spent_g)
        return made

    def zones(self, regions: Iterable[GreenRegion]) -> list[str]:
        """Zones whose forecasts are needed."""
        return sorted({r.spec.grid_zone for r in regions})

    def _forecasts(self, snapshot: Snapshot, regions: Mapping[str, Region], now: datetime) -> dict[str, Forecast]:
        """What is known of each zone; where it ends before what is to be planned, yesterday's shape goes on."""
        known = self.grid.forecasts(self.zones(snapshot.regions), now)
        until = needed_until(((o.job.spec.duration, o.finish_by) for o in snapshot.jobs if not o.ended), now)
        return {zone: lengthened(f, until, now) for zone, f in known.items()}

    @staticmethod
    def _spent_g(
        o: Observed, booked: Account | None, regions: Mapping[str, Region], series: Mapping[str, Series], now: datetime
    ) -> float:
        """Grams so far: what the book weighs, and declared watts for what runs now. Unknown counts as nothing here;
        the account itself says that it is unknown."""
        grams = (booked.emissions_g or 0.0) if booked is not None else 0.0
        for run in o.live:
            region = regions.get(run.region)
            known = series.get(region.zone) if region is not None else None
            if region is None or known is None or run.started_at is None or not run.started_at < now:
                continue
            if known.covers(run.started_at, now):
                hours = (now - run.started_at) / timedelta(hours=1)
                mean = region.effective(known).mean(run.started_at, now)
                grams += power_w(o.job.spec, run.level) / 1000 * hours * mean * region.pue
        return grams

    def _accounts(
        self,
        snapshot: Snapshot,
        weighed: Sequence[Observed],
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
        errors: dict[str, str],
    ) -> dict[str, Account | None]:
        """What each of `weighed` emitted so far, as far as the book can be asked; of the others, only into the book."""
        self.book.keep(snapshot.jobs)
        out: dict[str, Account | None] = {}
        asked = {o.uid for o in weighed}
        for o in snapshot.jobs:
            out[o.key] = None
            try:
                if o.uid in asked:
                    out[o.key] = self.book.weighed(o, regions, forecasts, now)
                else:
                    self.book.record(o, regions, now)
            except LedgerError as e:
                errors[o.key] = str(e)
                log.warning("%s: %s", o.key, e)
        return out

    def _tell_bad(self, snapshot: Snapshot, now: datetime) -> None:
        for bad in snapshot.bad:
            if bad.kind == "GreenCronJob":
                if (refusal := refused_cron(bad, now)) is not None:
                    self.cluster.write_bad(bad, refusal)
                continue
            if bad.kind != "GreenJob":
                log.warning("%s %s: %s", bad.kind, bad.key, bad.message)
                continue
            try:
                old = GreenJobStatus.model_validate(bad.status)
            except ValueError:
                old = GreenJobStatus()
            status = refused(bad.generation, old, bad.message, now)
            if status != old:
                self.cluster.write_bad(bad, status)

    def _wake_at(self, snapshot: Snapshot, plan: Plan, now: datetime) -> datetime | None:
        """When something is due next, if nothing happens before."""
        due: list[datetime] = []
        for o in snapshot.jobs:
            made = plan.jobs.get(o.key)
            if made is None:
                continue
            due += [t for w in made.windows for t in (w.start, w.end)]
            due.append(made.latest_start)
            if o.runs:
                due.append(retry_at(o, now))
        return min((t for t in due if t > now), default=None)
