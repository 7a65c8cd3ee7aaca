"""One job's part of a cycle: decide, act, book, tell; and nothing of it where nothing changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from windward.cluster import Cluster, Refused
from windward.domain.fleet import Region, Work
from windward.domain.forecast import Forecast
from windward.domain.observed import Action, CreateRun, DeleteJob, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan
from windward.domain.run import Run
from windward.lifecycle.accounting import Account
from windward.lifecycle.decide import decide, expires_at, retry_at
from windward.lifecycle.events import events_of
from windward.lifecycle.status import Context, status_of
from windward.lifecycle.work import progress_of
from windward.manifests import RunFacts
from windward.service.book import Book
from windward.service.departed import LOOK_AGAIN, SETTLE_EVERY
from windward.service.guard import Fault
from windward.service.planned import plan_body
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion


_NEVER = datetime.max.replace(tzinfo=UTC)
_BUT_PROGRESS = attrgetter(*(f.name for f in fields(Run) if f.name != "progress"))


@dataclass
class Memory:
    """What is remembered of one job; all of it only saves work.

    Attributes:
        told_for: what its status was made from.
        looked_at, due: what its last turn saw, and when the clock alone may change what follows from it.
        refusal: what the cluster said, when to ask again, how often it was asked.
        settled_at: when its receipt was weighed last.
        work: what the planner was asked for, and for which observation.
    """

    told_for: tuple[object, ...] = ()
    looked_at: tuple[Observed, JobPlan | None, tuple[object, ...]] | None = None
    due: datetime | None = None
    refusal: tuple[str, datetime, int] | None = None
    settled_at: datetime | None = None
    work: tuple[Observed, Work] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What all jobs of one cycle share.

    Attributes:
        tells: see `Conductor`.
    """

    cluster: Cluster
    book: Book
    tells: bool
    regions: Mapping[str, Region]
    objects: Mapping[str, GreenRegion]
    forecasts: Mapping[str, Forecast]
    issues: tuple[object, ...]


def issues_of(forecasts: Mapping[str, Forecast]) -> tuple[object, ...]:
    """What tells one set of forecasts from another."""
    return tuple((f.vintage, f.freshness) for f in forecasts.values())


@dataclass(slots=True)
class Turn:
    """One job's part of a cycle."""

    world: World
    observed: Observed
    plan: JobPlan | None
    account: Account | None
    memory: Memory
    fault: Fault | None = None

    def take(self, now: datetime) -> tuple[Action, ...]:
        """Decide, act, book, tell."""
        world, observed = self.world, self.observed
        if self._is_quiet(now):
            return ()
        actions = decide(observed, self.plan, now)
        grounds = self._grounds(now) if world.tells else ()
        self.memory.looked_at, self.memory.due = (observed, self.plan, self.world.issues), self._due(now)
        if not actions and not observed.ended and (self.memory.told_for == grounds or not world.tells):
            return ()
        if self._waits_after_refusal(now):
            actions = [a for a in actions if not isinstance(a, CreateRun)]
        if any(isinstance(a, DeleteJob) for a in actions):
            world.cluster.delete_job(observed.job.metadata.namespace, observed.job.metadata.name)
            return tuple(actions)
        job = observed.job
        for action in actions:
            match action:
                case CreateRun():
                    job = self._create(action, now)
                case PauseRun():
                    world.cluster.stop_run(job, action.name)
                case _:
                    pass
        if observed.ended and not self._settles_again(now):
            return tuple(actions)  # its status rests on its receipt, and is final until there is another
        if not (world.tells or observed.ended or any(isinstance(a, Finish) for a in actions)):
            return tuple(actions)
        receipt = self._settle(actions, now)
        context = self._context(receipt, self.memory.refusal[0] if self.memory.refusal is not None else "")
        status = status_of(observed, self.plan, actions, now, context)
        events = events_of(observed, self.plan, actions, status)
        if (actions or events) and world.tells:
            self._note(actions, now)
        if status != observed.job.status:
            world.cluster.write_status(job, status, events)
        self.memory.told_for = () if actions or not world.tells else (*grounds[:-1], status)
        return tuple(actions)

    def _is_quiet(self, now: datetime) -> bool:
        """Whether nothing is due, and the very objects are those of the last look: most of what waits; and, where
        figures are not told, what runs with nothing new but its progress."""
        seen, due = self.memory.looked_at, self.memory.due
        if self.fault is not None or seen is None or due is None or now >= due or seen[1] is not self.plan:
            return False
        same = seen[0] is self.observed
        if not self.observed.live:
            return same and seen[2] == self.world.issues
        if self.world.tells:
            return False
        return same or (seen[0].job is self.observed.job and _runs(seen[0]) == _runs(self.observed))

    def _due(self, now: datetime) -> datetime:
        """When time alone may change what is to be done, or said, of a job that nothing runs of."""
        o = self.observed
        if o.ended:
            return min(expires_at(o) or _NEVER, self._settles_next() or _NEVER)
        due = [_NEVER, o.finish_by, retry_at(o, now)]
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
        late, refusal = now > o.finish_by, self.memory.refusal
        progress = int(20 * progress_of(o, now) + 1e-9)
        told = _as_told(self.plan, bool(o.live))
        issues = issues_of(self._known())
        return (said, runs, progress, late, told, issues, refusal, self.account, self.fault, o.job.status)

    def _create(self, action: CreateRun, now: datetime) -> GreenJob:
        """First the number, with a precondition; then the child. A refusal is told, and tried again later."""
        world, observed = self.world, self.observed
        job = world.cluster.claim_attempt(observed, action.attempt, action.region)
        try:
            told = self._expected_g_per_kwh(action.region, now)
            world.cluster.create_run(RunFacts(job, action.attempt, world.objects[action.region], told, action.level))
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
        world, observed = self.world, self.observed
        old = observed.job.status
        # Its last hour is not over when a job ends: where provisional receipts are not written there is none yet.
        ends = any(isinstance(a, Finish) for a in actions) and world.tells
        if not ends and not self._settles_again(now):
            return old.accounting.receipt
        self.memory.settled_at = now
        made = world.book.settle(observed, world.regions, old.finished_at or now, provisional=world.tells)
        if made.pending:  # look again in a moment
            self.memory.settled_at = now - SETTLE_EVERY + LOOK_AGAIN
        if made.account is None:
            return old.accounting.receipt
        self.account = made.account
        return made.receipt

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
        fault = self.fault.told() if self.fault is not None else ""
        return Context(known, self.account, receipt, demo, refusal, fault)

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
        self.world.book.ledger.record_decision(meta.uid, meta.namespace, meta.name, now, kind, body)


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
    return (plan.reason, plan.explanation, tuple(windows), plan.level_name, grams, plan.vintages, plan.demo)


def _rough(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _plain(action: Action) -> dict[str, object]:
    return {f: getattr(action, f) for f in action.__dataclass_fields__}
