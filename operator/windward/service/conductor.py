"""The conductor: observes, plans, decides, acts, keeps the book, tells. The same loop for a cluster and a laptop.

It keeps no truth of its own: what it remembers (which rows are in the book, who was refused when) only saves work,
and a new conductor finds its way from what it observes. Killed between any two writes it goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from windward import planning
from windward.cluster import AttemptConflict, Cluster, ClusterError, Refused, Snapshot
from windward.domain.clock import Clock
from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Fleet, Region
from windward.domain.forecast import Forecast
from windward.domain.observed import Action, CreateRun, DeleteJob, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan, Plan
from windward.domain.run import Phase, Run
from windward.domain.series import Series
from windward.grid.cache import Grid
from windward.grid.port import ProviderError
from windward.ledger import codec
from windward.ledger.port import Ledger, LedgerError
from windward.lifecycle.accounting import Account, account, energy_of_run
from windward.lifecycle.decide import decide, expires_at, retry_at
from windward.lifecycle.events import events_of
from windward.lifecycle.receipt import receipt_of
from windward.lifecycle.status import Context, refused, status_of
from windward.lifecycle.work import power_w, progress_of, work_of
from windward.service.crons import tend_crons
from windward.service.grounds import Grounds, to_be_placed
from windward.service.planned import lengthened, plan_body
from windward.service.regions import regions_of, tend_regions
from windward_api.greenjob import GreenJob, GreenJobStatus
from windward_api.greenregion import GreenRegion

log = logging.getLogger(__name__)
SETTLE_EVERY = timedelta(hours=1)
LAST_WORDS = timedelta(seconds=15)
REPLAN_EVERY = timedelta(minutes=15)

_NEVER = datetime.max.replace(tzinfo=UTC)
_BUT_PROGRESS = attrgetter(*(f.name for f in fields(Run) if f.name != "progress"))

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
class _Memory:
    """What is remembered of one job; all of it only saves work.

    Attributes:
        rows: its energy in the book.
        account, weighed_with: its account, and what that was weighed with.
        told_for: what its status was made from.
        looked_at, due: what its last turn saw, and when the clock alone may change what follows from it.
        refusal: what the cluster said, when to ask again, how often it was asked.
        settled_at: when its receipt was weighed last.
    """

    rows: Sequence[EnergyInterval] | None = None
    account: Account | None = None
    weighed_with: tuple[object, ...] = ()
    told_for: tuple[object, ...] = ()
    looked_at: tuple[Observed, JobPlan | None, tuple[object, ...]] | None = None
    due: datetime | None = None
    refusal: tuple[str, datetime, int] | None = None
    settled_at: datetime | None = None


@dataclass
class Conductor:
    """See the module.

    Attributes:
        planner: `planning.plan`, or another policy to compare with it.
        previous: the plan that stands.
        replan_every: while something is not as planned, a plan is made anew this often.
        tells_figures: whether a status is written anew because a figure in it changed. Where nobody reads them, a job's
            is written when something happens, and a region's, which is nothing but figures, never.
    """

    cluster: Cluster
    grid: Grid
    ledger: Ledger
    clock: Clock
    planner: Planner = planning.plan
    previous: Plan | None = None
    replan_every: timedelta = REPLAN_EVERY
    tells_figures: bool = True
    _planned_for: Grounds | None = None
    _memory: dict[str, _Memory] = field(default_factory=dict)

    def cycle(self) -> Cycle:
        """One turn. Trouble with one job is that job's; trouble with the whole world is raised (`ClusterError`)."""
        now = self.clock.now()
        snapshot = self.cluster.snapshot()  # 1. observe
        regions, objects = regions_of(snapshot.regions), {r.metadata.name: r for r in snapshot.regions}
        forecasts = self._forecasts(snapshot, regions, now)
        errors: dict[str, str] = {}
        self._memory = {o.uid: self._memory.get(o.uid, _Memory()) for o in snapshot.jobs}
        accounts = {o.key: self._book(o, regions, forecasts, now, errors) for o in snapshot.jobs}  # 2. book what ended
        plan = self._plan(snapshot, accounts, regions, forecasts, now)  # 3. plan all of it
        actions: dict[str, tuple[Action, ...]] = {}
        conflicts = False
        world = _World(regions, objects, forecasts, _issues(forecasts))
        for observed in snapshot.jobs:  # 4. decide and act, job by job
            made, memory = plan.jobs.get(observed.key), self._memory[observed.uid]
            turn = _Turn(self, world, observed, made, accounts[observed.key], memory)
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
        if self.tells_figures:
            tend_regions(self.cluster, snapshot, forecasts, now)
        soon = now + timedelta(seconds=1) if conflicts or errors else None
        wake_at = soon or self._wake_at(snapshot, plan, now)
        return Cycle(now, snapshot, plan, forecasts, actions, accounts, wake_at, errors)

    def _plan(
        self,
        snapshot: Snapshot,
        accounts: Mapping[str, Account | None],
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
    ) -> Plan:
        """The plan as it stands, or a new one where anything that it rests on changed."""
        placed = [o for o in snapshot.jobs if to_be_placed(o)]
        world = (regions, tuple((z, f.vintage, f.freshness.usable) for z, f in sorted(forecasts.items())))
        grounds = Grounds.of(world, placed, self.previous, self.replan_every, now)
        if self.previous is None or not grounds.hold(self._planned_for, self.previous, now):
            series = {z: f.series for z, f in forecasts.items() if f.series is not None}
            spent = [self._spent_g(o, accounts[o.key], regions, series, now) for o in placed]
            work = tuple(work_of(o, now, spent_g=g) for o, g in zip(placed, spent, strict=True))
            fleet = Fleet(work, regions, grounds.standing(self._planned_for, self.previous, now))
            self.previous, self._planned_for = self.planner(fleet, forecasts, now, self.previous), grounds
        return self.previous

    def zones(self, regions: Iterable[GreenRegion]) -> list[str]:
        """Zones whose forecasts are needed."""
        return sorted({r.spec.grid_zone for r in regions})

    def _forecasts(self, snapshot: Snapshot, regions: Mapping[str, Region], now: datetime) -> dict[str, Forecast]:
        """What is known of each zone; where it ends before the last finish-by, yesterday's shape goes on."""
        known = self.grid.forecasts(self.zones(snapshot.regions), now)
        ends = [o.job.finish_by() for o in snapshot.jobs if not o.ended]
        until = min(max(ends, default=now), now + timedelta(days=7))
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
                grams += power_w(o.job.spec) / 1000 * hours * mean * region.pue
        return grams

    def _book(
        self,
        observed: Observed,
        regions: Mapping[str, Region],
        forecasts: Mapping[str, Forecast],
        now: datetime,
        errors: dict[str, str],
    ) -> Account | None:
        """Put the energy of ended runs into the book, once; weigh all that is there."""
        if not observed.runs or (observed.ended and observed.job.status.accounting.settled):
            return None
        memory = self._memory[observed.uid]
        if not memory.rows and all(r.phase.live for r in observed.runs) and len(observed.runs) == observed.attempt:
            return None  # nothing ended yet
        try:
            if memory.rows is None:
                memory.rows = self.ledger.energy(observed.uid)
            # What is in the book stays: of a run whose pod is gone less is known now than when it was booked.
            booked = {r.attempt for r in memory.rows}
            for run in observed.runs:
                region = regions.get(run.region)
                if region is None or run.attempt in booked or not _final(run, now):
                    continue
                if energy := energy_of_run(observed, run, region, now):
                    memory.rows = None
                    self.ledger.record_energy(energy)
                    memory.rows = self.ledger.energy(observed.uid)
        except LedgerError as e:
            errors[observed.key] = str(e)
            log.warning("%s: %s", observed.key, e)
            return None
        return self._weigh(observed, memory, regions, forecasts)

    @staticmethod
    def _weigh(
        observed: Observed, memory: _Memory, regions: Mapping[str, Region], forecasts: Mapping[str, Forecast]
    ) -> Account | None:
        """The account of what is in the book, weighed anew when there is more of it or the intensities changed."""
        if not memory.rows:
            return None
        with_ = (len(memory.rows), regions, tuple((z, f.vintage) for z, f in sorted(forecasts.items())))
        if memory.account is None or memory.weighed_with != with_:
            series = {z: f.series for z, f in forecasts.items() if f.series is not None}
            memory.account, memory.weighed_with = account(observed, memory.rows, series, regions), with_
        return memory.account

    def settle(self, observed: Observed, regions: Mapping[str, Region], at: datetime) -> tuple[Account, str] | None:
        """Weigh an ended job with the best known intensities and put the receipt into the book.

        Until the provider revises none of them any more this is done again and again: a revised intensity makes the
        next revision of the receipt, which restates the account; the earlier ones stay in the book.

        Returns:
            The account and the receipt's hash; None where nothing is known of its energy or the hours.
        """
        memory = self._memory.get(observed.uid, _Memory())
        rows = memory.rows if memory.rows is not None else self.ledger.energy(observed.uid)
        submitted = observed.job.metadata.creation_timestamp
        if not rows or submitted is None:
            return None
        end = max(at, max(r.end for r in rows))
        zones = {r.zone for r in rows} | {regions[h].zone for h in observed.job.spec.placement.regions if h in regions}
        intensities: dict[str, Series] = {}
        for zone in sorted(zones):
            try:
                intensities[zone] = self.grid.actuals(zone, submitted, end + timedelta(seconds=1))
            except ProviderError as e:
                log.warning("%s: no intensities of %s to account with: %s", observed.key, zone, e)
        made = account(observed, rows, intensities, regions, self.clock.now() - self.grid.provider.revised_for)
        used = {
            z: s for z, s in intensities.items() if z in {r.zone for r in rows} | self._home_zone(observed, regions)
        }
        body = receipt_of(observed, made, used, regions, at)
        meta = observed.job.metadata
        self.ledger.record_receipt(
            meta.uid, meta.namespace, meta.name, at, body, settled=made.settled, demo="demo" in body
        )
        return made, codec.sha256(codec.canonical(body))

    @staticmethod
    def _home_zone(observed: Observed, regions: Mapping[str, Region]) -> set[str]:
        home = observed.job.spec.placement.home or observed.job.spec.placement.regions[0]
        return {regions[home].zone} if home in regions else set()

    def _tell_bad(self, snapshot: Snapshot, now: datetime) -> None:
        for bad in snapshot.bad:
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
            due.append(retry_at(o, now))
        return min((t for t in due if t > now), default=None)


@dataclass(frozen=True, slots=True)
class _World:
    """What all jobs of one cycle share."""

    regions: Mapping[str, Region]
    objects: Mapping[str, GreenRegion]
    forecasts: Mapping[str, Forecast]
    issues: tuple[object, ...]


def _issues(forecasts: Mapping[str, Forecast]) -> tuple[object, ...]:
    return tuple((f.vintage, f.freshness) for f in forecasts.values())


@dataclass(slots=True)
class _Turn:
    """One job's part of a cycle."""

    conductor: Conductor
    world: _World
    observed: Observed
    plan: JobPlan | None
    account: Account | None
    memory: _Memory

    def take(self, now: datetime) -> tuple[Action, ...]:
        """Decide, act, book, tell."""
        c, observed = self.conductor, self.observed
        if self._is_quiet(now):
            return ()
        actions = decide(observed, self.plan, now)
        grounds = self._grounds(now)
        self.memory.looked_at, self.memory.due = (observed, self.plan, self.world.issues), self._due(now)
        if not actions and not observed.ended and self.memory.told_for == grounds:
            return ()
        if self._waits_after_refusal(now):
            actions = [a for a in actions if not isinstance(a, CreateRun)]
        if any(isinstance(a, DeleteJob) for a in actions):
            c.cluster.delete_job(observed.job.metadata.namespace, observed.job.metadata.name)
            return tuple(actions)
        job = observed.job
        for action in actions:
            match action:
                case CreateRun():
                    job = self._create(action, now)
                case PauseRun():
                    c.cluster.stop_run(job, action.name)
                case _:
                    pass
        if observed.ended and not self._settles_again(now):
            return tuple(actions)  # its status rests on its receipt, and is final until there is another
        receipt = self._settle(actions, now)
        context = self._context(receipt, self.memory.refusal[0] if self.memory.refusal is not None else "")
        status = status_of(observed, self.plan, actions, now, context)
        events = events_of(observed, self.plan, actions, status)
        if actions or events:
            self._note(actions, now)
        if status != observed.job.status:
            c.cluster.write_status(job, status, events)
        self.memory.told_for = () if actions else (*grounds[:-1], status)
        return tuple(actions)

    def _is_quiet(self, now: datetime) -> bool:
        """Whether nothing is due, and the very objects are those of the last look: most of what waits; and, where
        figures are not told, what runs with nothing new but its progress."""
        seen, due = self.memory.looked_at, self.memory.due
        if seen is None or due is None or now >= due or seen[1] is not self.plan:
            return False
        if not self.observed.live:
            return seen[0] is self.observed and seen[2] == self.world.issues
        same = seen[0].job is self.observed.job and _runs(seen[0]) == _runs(self.observed)
        return same and not self.conductor.tells_figures

    def _due(self, now: datetime) -> datetime:
        """When time alone may change what is to be done, or said, of a job that nothing runs of."""
        o = self.observed
        if o.ended:
            return min(expires_at(o) or _NEVER, self._settles_next() or _NEVER)
        due = [_NEVER, o.job.finish_by(), retry_at(o, now)]
        if self.plan is not None:
            due += [t for w in self.plan.windows for t in (w.start, w.end)]
            due.append(self.plan.latest_start)
        return min(t for t in due if t > now)

    def _grounds(self, now: datetime) -> tuple[object, ...]:
        """All that a status rests on, and last the status that stands: equal grounds, equal status."""
        o = self.observed
        meta = o.job.metadata
        said = (meta.generation, meta.deletion_timestamp, tuple(sorted(meta.annotations.items())))
        runs = _runs(o)
        late, refusal = now > o.job.finish_by(), self.memory.refusal
        if not self.conductor.tells_figures:
            return (said, runs, late, refusal, self.account is None, o.job.status)
        progress = int(20 * progress_of(o, now) + 1e-9)
        told = _as_told(self.plan, bool(o.live))
        return (said, runs, progress, late, told, _issues(self._known()), refusal, self.account, o.job.status)

    def _create(self, action: CreateRun, now: datetime) -> GreenJob:
        """First the number, with a precondition; then the child. A refusal is told, and tried again later."""
        c, observed = self.conductor, self.observed
        job = c.cluster.claim_attempt(observed, action.attempt, action.region)
        try:
            told = self._expected_g_per_kwh(action.region, now)
            c.cluster.create_run(job, action.attempt, self.world.objects[action.region], told)
            self.memory.refusal = None
        except Refused as e:
            times = self.memory.refusal[2] if self.memory.refusal is not None else 0
            pause = min(timedelta(seconds=10) * (1 << min(times, 8)), timedelta(minutes=5))
            self.memory.refusal = (str(e), now + pause, times + 1)
        return job

    def _expected_g_per_kwh(self, name: str, now: datetime) -> float | None:
        """Mean of the window that begins, at the meter; None where the forecast does not cover it."""
        region = self.world.regions.get(name)
        forecast = self.world.forecasts.get(region.zone) if region is not None else None
        window = self.plan.window_at(now) if self.plan is not None else None
        if region is None or forecast is None or forecast.series is None or window is None:
            return None
        if not forecast.series.covers(now, window.end):
            return None
        return region.effective(forecast.series).mean(now, window.end) * region.pue

    def _waits_after_refusal(self, now: datetime) -> bool:
        return self.memory.refusal is not None and now < self.memory.refusal[1]

    def _settle(self, actions: Sequence[Action], now: datetime) -> str:
        """The receipt when a job ends, and again while its intensities may still be revised."""
        c, observed = self.conductor, self.observed
        old = observed.job.status
        ends = any(isinstance(a, Finish) for a in actions)
        if not ends and not self._settles_again(now):
            return old.accounting.receipt
        self.memory.settled_at = now
        made = c.settle(observed, self.world.regions, old.finished_at or now)
        if made is None:
            return old.accounting.receipt
        self.account, receipt = made
        return receipt

    def _settles_again(self, now: datetime) -> bool:
        """Whether an ended job's intensities may have been revised since it was weighed last."""
        due = self._settles_next()
        return due is not None and now >= due

    def _settles_next(self) -> datetime | None:
        old = self.observed.job.status
        if not self.observed.ended or old.accounting.settled or old.finished_at is None:
            return None
        return (self.memory.settled_at or old.finished_at) + SETTLE_EVERY

    def _context(self, receipt: str, refusal: str) -> Context:
        known = self._known()
        demo = any(f.series is not None and f.series.demo for f in known.values())
        return Context(known, self.account, receipt, demo, refusal)

    def _known(self) -> dict[str, Forecast]:
        """Forecasts of the zones that the job may run in."""
        regions, forecasts = self.world.regions, self.world.forecasts
        zones = {regions[r].zone for r in self.observed.job.spec.placement.regions if r in regions}
        return {z: forecasts[z] for z in sorted(zones) if z in forecasts}

    def _note(self, actions: Sequence[Action], now: datetime) -> None:
        """The decision and its grounds, into the book."""
        meta, plan = self.observed.job.metadata, self.plan
        body = {
            "actions": [{"do": type(a).__name__, **_plain(a)} for a in actions],
            "plan": plan_body(plan) if plan is not None else None,
        }
        kind = type(actions[0]).__name__ if actions else "Planned"
        self.conductor.ledger.record_decision(meta.uid, meta.namespace, meta.name, now, kind, body)


def _runs(o: Observed) -> tuple[object, ...]:
    return tuple(_BUT_PROGRESS(r) for r in o.runs)


def _as_told(plan: JobPlan | None, live: bool) -> tuple[object, ...]:
    """What a status says of a plan. Of a live run the window begins anew at every look, and the latest start moves with
    what is done: both are left out."""
    if plan is None:
        return ()
    windows = [(w.region, w.start, w.end, _rough(w.emissions_g)) for w in plan.windows]
    if live and windows:
        windows[0] = (windows[0][0], windows[0][2], windows[0][2], "")
    latest = None if live else plan.latest_start
    grams = (_rough(plan.emissions_g), _rough(plan.run_now_g), latest, plan.feasible)
    return (plan.reason, plan.explanation, tuple(windows), grams, plan.vintages, plan.demo)


def _rough(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _final(run: Run, now: datetime) -> bool:
    """Whether a run has ended and nothing more will be heard of it. Of a run that was told to stop the last words may
    come a moment after its pod is seen to be gone, and a row once in the book stays."""
    if run.phase.live:
        return False
    wordless = run.report is None and run.phase in (Phase.PAUSED, Phase.LOST)
    return not wordless or run.finished_at is None or now >= run.finished_at + LAST_WORDS


def _plain(action: Action) -> dict[str, object]:
    return {f: getattr(action, f) for f in action.__dataclass_fields__}
