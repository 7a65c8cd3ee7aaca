"""The conductor: observes, plans, decides, acts, keeps the book, tells. The same loop for a cluster and a laptop.

It keeps no truth of its own: what it remembers (which rows are in the book, who was refused when) only saves work,
and a new conductor finds its way from what it observes. Killed between any two writes it goes on.

Whatever one object makes a step raise stays with that object (`guard`): it is told in its status, tried again later,
and all others are served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
from windward.lifecycle.decide import retry_at
from windward.service.book import Book
from windward.service.crons import tell_cron_trouble, tend_cron
from windward.service.departed import Departed
from windward.service.fleet_plan import REPLAN_EVERY, FleetPlan, Planner, version_of
from windward.service.grounds import to_be_placed
from windward.service.guard import Guard
from windward.service.planned import lengthened, needed_until
from windward.service.refusals import tell_bad, tell_fault
from windward.service.regions import region_of, running_by_region, tend_region
from windward.service.turn import Memory, Turn, World, issues_of
from windward_api.greenregion import GreenRegion


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one turn saw and did.

    Attributes:
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
class Conductor:
    """See the module.

    Attributes:
        planner, replan_every, observes: see `FleetPlan`.
        tells: whether anybody reads what is said of jobs and regions. Where nobody does, a job's status is written when
            it ends, which is a fact, and no other; decisions are not noted, and only settled receipts are.
        simulated: whether no job really runs: receipts are marked so, and stand in no report.
    """

    cluster: Cluster
    grid: Grid
    ledger: Ledger
    clock: Clock
    planner: Planner = planning.plan
    replan_every: timedelta = REPLAN_EVERY
    tells: bool = True
    observes: bool = False
    simulated: bool = False
    _memory: dict[str, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = Book(self.ledger, self.grid, self.clock, self.simulated)
        self.guard = Guard()
        self.fleet = FleetPlan(self.guard, self.planner, None, self.replan_every, self.observes)
        self.departed = Departed()

    @property
    def previous(self) -> Plan | None:
        """The plan that stands."""
        return self.fleet.previous

    def cycle(self) -> Cycle:
        """One turn. Trouble with one object is that object's; a cluster that does not answer is raised
        (`ClusterError`)."""
        now = self.clock.now()
        self.guard.begin()
        snapshot = self.cluster.snapshot()  # 1. observe
        objects = {r.metadata.name: r for r in snapshot.regions}
        regions = self._regions(snapshot, now)
        forecasts = self._forecasts(snapshot, now)
        self._memory = {o.uid: self._memory.get(o.uid) or Memory() for o in snapshot.jobs}
        placed = [o for o in snapshot.jobs if to_be_placed(o)]
        accounts = self._accounts(snapshot, placed, regions, forecasts, now)  # 2. book what ended
        plan = self.fleet.of(placed, accounts, regions, forecasts, now)  # 3. plan all of it
        actions: dict[str, tuple[Action, ...]] = {}
        world = World(self.cluster, self.book, self.tells, regions, objects, forecasts, issues_of(forecasts))
        for o in snapshot.jobs:  # 4. decide and act, job by job
            fault = self.guard.fault("plan", o.key) or self.guard.fault("book", o.key)
            turn = Turn(world, o, plan.jobs.get(o.key), accounts[o.key], self._memory[o.uid], fault)
            done = self.guard.run("turn", o.key, version_of(o), now, partial(turn.take, now))
            if done is not None:
                actions[o.key], accounts[o.key] = done, turn.account
        self.departed.keep(snapshot.jobs, now)
        self.departed.settle(self.book, regions, self.guard, now)
        self._tend(snapshot, forecasts, now)  # 5. all others, and what went wrong
        faults = self.guard.faults()
        wake_at = now + timedelta(seconds=1) if self.guard.conflict else self._wake_at(snapshot, plan, now)
        errors = {key: fault.message for key, fault in faults.items()}
        return Cycle(now, snapshot, plan, forecasts, actions, accounts, wake_at, errors)

    def zones(self, regions: Iterable[GreenRegion]) -> list[str]:
        """Zones whose forecasts are needed."""
        return sorted({r.spec.grid_zone for r in regions})

    def _regions(self, snapshot: Snapshot, now: datetime) -> dict[str, Region]:
        """Regions as the planner sees them; the ledger keeps what they were, for runs that outlive them."""
        out: dict[str, Region] = {}
        for r in snapshot.regions:
            name, version = r.metadata.name, (r.metadata.uid, r.metadata.generation)
            region = self.guard.run("region", f"GreenRegion {name}", version, now, partial(region_of, r))
            if region is not None:
                out[name] = region
        self.guard.run("book", "GreenRegions", None, now, partial(self.book.keep_regions, out, now))
        return out

    def _forecasts(self, snapshot: Snapshot, now: datetime) -> dict[str, Forecast]:
        """What is known of each zone; where it ends before what is to be planned, yesterday's shape goes on."""
        until = needed_until(((o.job.spec.duration, o.finish_by) for o in snapshot.jobs if not o.ended), now)
        out: dict[str, Forecast] = {}
        for zone in self.zones(snapshot.regions):
            known = self.guard.run("forecast", f"zone {zone}", None, now, partial(self._forecast, zone, until, now))
            if known is not None:
                out[zone] = known
        return out

    def _forecast(self, zone: str, until: datetime, now: datetime) -> Forecast:
        return lengthened(self.grid.forecasts([zone], now)[zone], until, now)

    def _accounts(
        self,
        snapshot: Snapshot,
        placed: list[Observed],
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
    ) -> dict[str, Account | None]:
        """What each job emitted so far, as far as the book can be asked; where nobody is told, of what is to be placed
        alone, and of the others only into the book."""
        self.book.keep(snapshot.jobs)
        asked = {o.uid for o in (snapshot.jobs if self.tells else placed)}
        out: dict[str, Account | None] = {}
        for o in snapshot.jobs:

            def weigh(o: Observed = o) -> Account | None:
                if o.uid in asked:
                    return self.book.weighed(o, regions, forecasts, now)
                self.book.record(o, regions, now)
                return None

            out[o.key] = self.guard.run("book", o.key, version_of(o), now, weigh)
        return out

    def _tend(self, snapshot: Snapshot, forecasts: Mapping[str, Forecast], now: datetime) -> None:
        """Crons, regions, objects that cannot be read, and jobs for which a step failed: each in a guard of its own."""
        for cron in snapshot.crons:
            key, version = f"GreenCronJob {cron.metadata.namespace}/{cron.metadata.name}", cron.metadata.generation
            self.guard.run("cron", key, version, now, partial(tend_cron, self.cluster, cron, snapshot.jobs, now))
            if (fault := self.guard.fault("cron", key)) is not None:
                reason = "ClusterError" if fault.expected else "UnexpectedError"
                tell = partial(tell_cron_trouble, self.cluster, cron, reason, fault.message, now)
                self.guard.run("tell", key, version, now, tell)
        if not self.tells:
            return
        running = running_by_region(snapshot.jobs)
        for r in snapshot.regions:
            key, version = f"GreenRegion {r.metadata.name}", r.metadata.generation
            tell = partial(tend_region, self.cluster, r, forecasts, running, now)
            self.guard.run("tell", key, version, now, tell)
        for bad in snapshot.bad:
            key = bad.key if bad.kind == "GreenJob" else f"{bad.kind} {bad.key}"
            self.guard.run("tell", key, bad.generation, now, partial(tell_bad, self.cluster, bad, now))
        for o in snapshot.jobs:
            fault = self.guard.fault("turn", o.key)
            if fault is not None and not fault.expected:
                self.guard.run("tell", o.key, version_of(o), now, partial(tell_fault, self.cluster, o, fault, now))

    def _wake_at(self, snapshot: Snapshot, plan: Plan, now: datetime) -> datetime | None:
        """When something is due next, if nothing happens before."""
        retry = self.guard.due()
        due: list[datetime] = [retry] if retry is not None else []
        for o in snapshot.jobs:
            made = plan.jobs.get(o.key)
            if made is None:
                continue
            due += [t for w in made.windows for t in (w.start, w.end)]
            due.append(made.latest_start)
            if o.runs:
                due.append(retry_at(o, now))
        return min((t for t in due if t > now), default=None)
