"""The controller: observes, plans, reconciles, applies. The same loop for a cluster, a laptop and a simulation.

It is stateless: what it remembers (rows in the ledger, refused runs) only saves work, and a new controller derives
all of it from what it observes. It may be killed between any two writes.

An exception that a step raises for one object affects only that object (`guard`): it is reported in its status and
retried with back-off, and all other objects are served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from windward import planning
from windward.cluster import Cluster, Snapshot
from windward.domain.clock import Clock
from windward.domain.fleet import Region
from windward.domain.forecast import Forecast
from windward.domain.observed import Action, Observed
from windward.domain.plan import Plan
from windward.grid.cache import Grid
from windward.ledger.port import Ledger
from windward.lifecycle.accounting import Account
from windward.lifecycle.deleted_jobs import DeletedJobs
from windward.lifecycle.plan_inputs import to_be_placed
from windward.lifecycle.reconcile import Facts, Memory, Reporting, issues_of, wake_at
from windward.service.accountant import Accountant
from windward.service.apply import CycleContext, reconcile_job
from windward.service.guard import Guard
from windward.service.past_durations import PastDurations
from windward.service.planned import lengthened, needed_until
from windward.service.reporter import ClusterReporter, Reporter
from windward.service.standing_plan import REPLAN_EVERY, Planner, Sites, StandingPlan, version_of
from windward.service.sync_crons import report_cron_trouble, sync_cron
from windward.service.sync_regions import region_of
from windward_api.greencronjob import GreenCronJob
from windward_api.greenregion import GreenRegion

LOOK_AGAIN = timedelta(seconds=1)  # after somebody else changed an object between our read and our write


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw and did.

    Attributes:
        actions: by job, what was done.
        errors: of each object for which a step failed, by its name.
    """

    at: datetime
    snapshot: Snapshot
    plan: Plan
    forecasts: Mapping[str, Forecast]
    actions: Mapping[str, tuple[Action, ...]]
    accounts: Mapping[str, Account | None]
    wake_at: datetime | None
    errors: Mapping[str, str]


@dataclass
class Controller:
    """See the module.

    Attributes:
        planner, replan_every, observes: see `StandingPlan`.
        reporter: where statuses go; None: into the objects.
        simulated: whether no job really runs: receipts are marked so, and stand in no report.
    """

    cluster: Cluster
    grid: Grid
    ledger: Ledger
    clock: Clock
    planner: Planner = planning.plan
    replan_every: timedelta = REPLAN_EVERY
    reporter: Reporter | None = None
    observes: bool = False
    simulated: bool = False
    _memory: dict[str, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reports = self.reporter or ClusterReporter(self.cluster)
        self.accountant = Accountant(self.ledger, self.grid, self.clock, self.simulated)
        self.past = PastDurations(self.ledger)
        self.guard = Guard()
        self.standing = StandingPlan(self.guard, self.planner, None, self.replan_every, self.observes)
        self.deleted = DeletedJobs()

    @property
    def previous(self) -> Plan | None:
        """The plan that stands."""
        return self.standing.previous

    def cycle(self) -> Cycle:
        """Runs one cycle over all objects.

        Raises:
            ClusterError: the cluster does not answer. Errors of a single object are not raised.
        """
        now = self.clock.now()
        self.guard.begin()
        snapshot = self._with_durations(self.cluster.snapshot(), now)  # 1. observe
        regions = self._regions(snapshot, now)
        forecasts = self._forecasts(snapshot, now)
        placed = [o for o in snapshot.jobs if to_be_placed(o) and self.guard.fault("durations", o.key) is None]
        sites = Sites(regions, forecasts)
        accounts = self._accounts(snapshot, placed, sites, now)  # 2. book what ended
        plan = self.standing.plan(placed, accounts, sites, now)  # 3. plan the whole fleet
        actions = self._reconcile(snapshot, plan, accounts, sites, now)  # 4. reconcile and apply, by job
        self._settle_deleted(snapshot, regions, now)
        self._sync_crons(snapshot, now)  # 5. all others
        self.reports.report(snapshot, forecasts, self.guard, now)
        errors = {key: fault.message for key, fault in self.guard.faults().items()}
        return Cycle(now, snapshot, plan, forecasts, actions, accounts, self._wake_at(snapshot, plan, now), errors)

    def _with_durations(self, snapshot: Snapshot, now: datetime) -> Snapshot:
        """The snapshot with what past runs say of the jobs' durations; what jobs took that ended just now is recorded
        for the next ones."""
        self.past.keep(snapshot.jobs)
        jobs: list[Observed] = []
        for o in snapshot.jobs:
            resolved = None
            if o.job.profile:
                resolved = self.guard.run("durations", o.key, version_of(o), now, partial(self.past.resolve, o, now))
                self.guard.run("record", o.key, version_of(o), now, partial(self.past.record, o))
            jobs.append(resolved or o)
        return replace(snapshot, jobs=tuple(jobs))

    def zones(self, regions: Iterable[GreenRegion]) -> list[str]:
        """Returns the zones whose forecasts are needed."""
        return sorted({r.spec.grid_zone for r in regions})

    def _regions(self, snapshot: Snapshot, now: datetime) -> dict[str, Region]:
        """Regions as the planner sees them; their zones and PUEs are recorded for runs that outlive them."""
        out: dict[str, Region] = {}
        for r in snapshot.regions:
            name, version = r.metadata.name, (r.metadata.uid, r.metadata.generation)
            region = self.guard.run(
                "region", f"GreenRegion {name}", version, now, partial(region_of, r, snapshot.quotas.get(name))
            )
            if region is not None:
                out[name] = region
        self.guard.run("book", "GreenRegions", None, now, partial(self.accountant.keep_regions, out, now))
        return out

    def _forecasts(self, snapshot: Snapshot, now: datetime) -> dict[str, Forecast]:
        """The forecast of each zone, extended by the previous day's shape as far as planning needs it."""
        until = needed_until(((o.durations.expected, o.finish_by) for o in snapshot.jobs if not o.ended), now)
        out: dict[str, Forecast] = {}
        for zone in self.zones(snapshot.regions):
            known = self.guard.run("forecast", f"zone {zone}", None, now, partial(self._forecast, zone, until, now))
            if known is not None:
                out[zone] = known
        return out

    def _forecast(self, zone: str, until: datetime, now: datetime) -> Forecast:
        return lengthened(self.grid.forecasts([zone], now)[zone], until, now)

    def _accounts(
        self, snapshot: Snapshot, placed: list[Observed], sites: Sites, now: datetime
    ) -> dict[str, Account | None]:
        """The account of each job so far; None if the ledger cannot be read. Where only ends are reported, accounts are
        computed for jobs to be placed alone, and the energy of the others is just recorded."""
        self.accountant.keep(snapshot.jobs)
        each_change = self.reports.reporting is Reporting.EACH_CHANGE
        weighed = {o.uid for o in (snapshot.jobs if each_change else placed)}
        out: dict[str, Account | None] = {}
        for o in snapshot.jobs:
            if o.uid in weighed:
                book = partial(self.accountant.weighed, o, sites.regions, sites.forecasts, now)
                out[o.key] = self.guard.run("book", o.key, version_of(o), now, book)
            else:
                record = partial(self.accountant.record, o, sites.regions, now)
                out[o.key] = self.guard.run("book", o.key, version_of(o), now, record)
        return out

    def _reconcile(
        self, snapshot: Snapshot, plan: Plan, accounts: dict[str, Account | None], sites: Sites, now: datetime
    ) -> dict[str, tuple[Action, ...]]:
        """Reconciles each job and returns its actions; updates `accounts` from new receipts."""
        objects = {r.metadata.name: r for r in snapshot.regions}
        context = CycleContext(self.cluster, self.accountant, sites.regions, objects, sites.forecasts)
        zones = {name: region.zone for name, region in sites.regions.items()}
        issues = issues_of(sites.forecasts.values())
        self._memory = {o.uid: self._memory.get(o.uid) or Memory() for o in snapshot.jobs}
        actions: dict[str, tuple[Action, ...]] = {}
        for o in snapshot.jobs:
            faults = (self.guard.fault(step, o.key) for step in ("plan", "book", "durations"))
            fault = next((f for f in faults if f is not None), None)
            sentence = fault.sentence() if fault is not None else ""
            facts = Facts(sites.forecasts, zones, issues, accounts[o.key], sentence, self.reports.reporting)
            step = partial(reconcile_job, context, o, plan.jobs.get(o.key), facts, self._memory[o.uid], now)
            applied = self.guard.run("reconcile", o.key, version_of(o), now, step)
            if applied is not None:
                self._memory[o.uid], verdict, outcome = applied
                actions[o.key], accounts[o.key] = verdict.actions, outcome.account or accounts[o.key]
        return actions

    def _settle_deleted(self, snapshot: Snapshot, regions: Mapping[str, Region], now: datetime) -> None:
        """Settles the receipts of ended jobs that were deleted before their intensities were final."""
        self.deleted.keep(snapshot.jobs, now)
        each_change = self.reports.reporting is Reporting.EACH_CHANGE
        for o in self.deleted.due(now):
            ended_at = o.job.status.finished_at or now
            settle = partial(self.accountant.settle, o, regions, ended_at, provisional=each_change)
            settlement = self.guard.run("settle", o.key, None, now, settle)
            final = settlement is not None and settlement.account is not None and settlement.account.settled
            self.deleted.settled(o.uid, final, settlement is not None and settlement.pending, now)

    def _sync_crons(self, snapshot: Snapshot, now: datetime) -> None:
        """Creates the due jobs of each GreenCronJob and writes its status."""
        for cron in snapshot.crons:
            key, version = f"GreenCronJob {cron.metadata.namespace}/{cron.metadata.name}", cron.metadata.generation
            self.guard.run("cron", key, version, now, partial(sync_cron, self.cluster, cron, snapshot.jobs, now))
            self._report_cron(cron, key, version, now)

    def _report_cron(self, cron: GreenCronJob, key: str, version: object, now: datetime) -> None:
        fault = self.guard.fault("cron", key)
        if fault is None:
            return
        reason = "ClusterError" if fault.expected else "UnexpectedError"
        report = partial(report_cron_trouble, self.cluster, cron, reason, fault.message, now)
        self.guard.run("report", key, version, now, report)

    def _wake_at(self, snapshot: Snapshot, plan: Plan, now: datetime) -> datetime | None:
        """When the next cycle is due if no event comes before."""
        if self.guard.conflict:
            return now + LOOK_AGAIN
        due = [self.guard.due(), *(wake_at(o, plan.jobs.get(o.key), now) for o in snapshot.jobs)]
        return min((t for t in due if t is not None and t > now), default=None)
