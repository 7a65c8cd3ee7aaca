"""`reconcile`: every rule on when to act for one GreenJob. Pure; the service gathers what it needs and applies it.

A cycle takes one job through three steps. `reconcile` compares the observation with the plan and returns a `Verdict`.
The service performs it and returns an `Outcome`: whether a run was created or refused, and the receipt. `conclude`
turns both into what is written: status, events, and the `Memory` for the next cycle.

`decide` holds the rules on runs: create, pause, finish, delete. This module holds the others: whether anything needs a
look, whether a refused run waits, whether the receipt is renewed, whether the status is written, when to wake next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from operator import attrgetter

from windward.domain.forecast import Forecast
from windward.domain.observed import Action, CreateRun, DeleteJob, Event, Finish, Observed
from windward.domain.plan import JobPlan
from windward.domain.run import Run
from windward.lifecycle.accounting import Account
from windward.lifecycle.backoff import backoff
from windward.lifecycle.decide import decide, expires_at, retry_at
from windward.lifecycle.events import events_of
from windward.lifecycle.status import Context, status_of
from windward.lifecycle.work import progress_of
from windward_api.greenjob_status import GreenJobStatus

SETTLE_EVERY = timedelta(hours=1)
SETTLE_SOON = timedelta(seconds=15)  # where measured hours were asked for just now
REFUSED_FIRST, REFUSED_MOST = timedelta(seconds=10), timedelta(minutes=5)
_NEVER = datetime.max.replace(tzinfo=UTC)
_BUT_PROGRESS = attrgetter(*(f.name for f in fields(Run) if f.name != "progress"))


class Reporting(Enum):
    """When a job's status is written: at each change, or only at its end, where nobody reads what comes before."""

    EACH_CHANGE = "EachChange"
    AT_END = "AtEnd"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The cluster refused to create a run.

    Attributes:
        message: in its words.
        retry_at: when it is asked again.
        times: how often it refused in a row.
    """

    message: str
    retry_at: datetime
    times: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What one cycle keeps of a job for the next one. It only saves work: after a restart it is empty.

    Attributes:
        seen: observation, plan and issues of forecasts that the last verdict rests on.
        look_at: when the clock alone may change that verdict.
        reported_from: inputs of the current status.
        refusal: the last one, until a run is created.
        settled_at: when the receipt was made last.
    """

    seen: tuple[Observed, JobPlan | None, tuple[object, ...]] | None = None
    look_at: datetime | None = None
    reported_from: tuple[object, ...] = ()
    refusal: Refusal | None = None
    settled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What the service knows of a job beside its observation and its plan.

    Attributes:
        forecasts: zone -> forecast.
        zones: region -> zone.
        issues: what tells this set of forecasts from another.
        account: energy and grams so far; None where nothing is in the ledger.
        fault: what a step of this cycle raised for the job, as a sentence; empty where none did.
    """

    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    issues: tuple[object, ...] = ()
    account: Account | None = None
    fault: str = ""
    reporting: Reporting = Reporting.EACH_CHANGE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do for one job now.

    Attributes:
        memory: to be kept once the verdict is performed.
        actions: in the order in which they are performed; performing one twice does nothing more.
        settle: make the receipt, with what is known of the intensities.
        report: make the status, and write it where it differs from the one that stands.
    """

    memory: Memory
    actions: tuple[Action, ...] = ()
    settle: bool = False
    report: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of performing a verdict.

    Attributes:
        created: a run was created.
        refused: why the cluster refused to create one, in its words.
        account, receipt: account and hash of the receipt that was written; None and empty if none was.
        pending: measured hours were requested and have not arrived.
    """

    created: bool = False
    refused: str = ""
    account: Account | None = None
    receipt: str = ""
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a cycle writes for one job.

    Attributes:
        status: to be written; None if it is unchanged.
        events: emitted after the status is written.
        recorded: whether the decision goes into the ledger.
    """

    memory: Memory
    status: GreenJobStatus | None = None
    events: tuple[Event, ...] = ()
    recorded: bool = False


def reconcile(observed: Observed, plan: JobPlan | None, facts: Facts, memory: Memory, now: datetime) -> Verdict:
    """Returns what to do for a job now; nothing where nothing changed since the last verdict and nothing is due."""
    if _is_unchanged(observed, plan, facts, memory, now):
        return Verdict(memory)
    actions = decide(observed, plan, now)
    memory = replace(memory, seen=(observed, plan, facts.issues), look_at=_look_at(observed, plan, memory, now))
    each_change = facts.reporting is Reporting.EACH_CHANGE
    settles_again = _settles_again(observed, memory, now)
    if not actions and not observed.ended and not (each_change and _is_news(observed, plan, facts, memory, now)):
        return Verdict(memory)
    if memory.refusal is not None and now < memory.refusal.retry_at:
        actions = [a for a in actions if not isinstance(a, CreateRun)]
    if deletes := tuple(a for a in actions if isinstance(a, DeleteJob)):
        return Verdict(memory, deletes)  # its runs go with it
    if observed.ended and not settles_again:
        return Verdict(memory, tuple(actions))  # its status rests on its receipt, and is final until there is another
    ends = any(isinstance(a, Finish) for a in actions)
    # A job's last hour is not over when it ends: where provisional receipts are not made there is none yet.
    settle = settles_again or (ends and each_change)
    return Verdict(memory, tuple(actions), settle, report=each_change or observed.ended or ends)


def conclude(
    observed: Observed, plan: JobPlan | None, facts: Facts, verdict: Verdict, outcome: Outcome, now: datetime
) -> Conclusion:
    """Returns what to write after `verdict` was performed with `outcome`."""
    memory = replace(
        verdict.memory,
        refusal=_refusal(verdict.memory.refusal, outcome, now),
        settled_at=_settled_at(verdict, outcome, now),
    )
    if not verdict.report:
        return Conclusion(memory)
    old, actions, forecasts = observed.job.status, list(verdict.actions), _forecasts_of(observed, facts)
    context = Context(
        forecasts,
        outcome.account or facts.account,
        outcome.receipt or old.accounting.receipt,
        any(f.series is not None and f.series.demo for f in forecasts.values()),
        memory.refusal.message if memory.refusal is not None else "",
        facts.fault,
    )
    status = status_of(observed, plan, actions, now, context)
    events = tuple(events_of(observed, plan, actions, status))
    each_change = facts.reporting is Reporting.EACH_CHANGE
    if each_change and not actions:
        inputs = _status_inputs(observed, plan, facts, verdict.memory, now)
        memory = replace(memory, reported_from=(*inputs, status))
    else:
        memory = replace(memory, reported_from=())
    recorded = each_change and bool(actions or events)
    return Conclusion(memory, status if status != old else None, events, recorded)


def wake_at(observed: Observed, plan: JobPlan | None, now: datetime) -> datetime | None:
    """Returns when a planned job has to be looked at next if no event comes before; None if never."""
    if plan is None:
        return None
    due = [t for w in plan.windows for t in (w.start, w.end)]
    due.append(plan.latest_start)
    if observed.runs:
        due.append(retry_at(observed, now))
    return min((t for t in due if t > now), default=None)


def settle_again_at(pending: bool, now: datetime) -> datetime:
    """Returns when a provisional receipt is computed again: soon if measured hours are pending, else in an hour."""
    return now + (SETTLE_SOON if pending else SETTLE_EVERY)


def issues_of(forecasts: Iterable[Forecast]) -> tuple[object, ...]:
    """Returns a value that is equal for equal sets of forecasts."""
    return tuple((f.vintage, f.freshness) for f in forecasts)


def _is_unchanged(observed: Observed, plan: JobPlan | None, facts: Facts, memory: Memory, now: datetime) -> bool:
    """Whether nothing is due, and the very objects are those of the last verdict: most of what waits; and, where only
    ends are reported, what runs with nothing new but its progress."""
    seen, look_at = memory.seen, memory.look_at
    if facts.fault or seen is None or look_at is None or now >= look_at or seen[1] is not plan:
        return False
    if memory.refusal is not None and now >= memory.refusal.retry_at:
        return False
    same = seen[0] is observed
    if not observed.live:
        return same and seen[2] == facts.issues
    if facts.reporting is Reporting.EACH_CHANGE:
        return False
    return same or (seen[0].job is observed.job and _runs(seen[0].runs) == _runs(observed.runs))


def _look_at(observed: Observed, plan: JobPlan | None, memory: Memory, now: datetime) -> datetime:
    """When time alone may change what is to be done for, or said of, a job that nothing runs of."""
    if observed.ended:
        return min(expires_at(observed) or _NEVER, _settles_at(observed, memory) or _NEVER)
    due = [_NEVER, observed.finish_by, retry_at(observed, now)]
    if plan is not None:
        due += [t for w in plan.windows for t in (w.start, w.end)]
        due.append(plan.latest_start)
    return min(t for t in due if t > now)


def _settles_at(observed: Observed, memory: Memory) -> datetime | None:
    """When the receipt of an ended job is made again: its intensities may have been revised since."""
    old = observed.job.status
    if not observed.ended or old.accounting.settled or old.finished_at is None:
        return None
    return (memory.settled_at or old.finished_at) + SETTLE_EVERY


def _settles_again(observed: Observed, memory: Memory, now: datetime) -> bool:
    due = _settles_at(observed, memory)
    return due is not None and now >= due


def _settled_at(verdict: Verdict, outcome: Outcome, now: datetime) -> datetime | None:
    if not verdict.settle:
        return verdict.memory.settled_at
    return settle_again_at(outcome.pending, now) - SETTLE_EVERY


def _refusal(before: Refusal | None, outcome: Outcome, now: datetime) -> Refusal | None:
    if outcome.created:
        return None
    if not outcome.refused:
        return before
    times = (before.times if before is not None else 0) + 1
    return Refusal(outcome.refused, now + backoff(times, REFUSED_FIRST, REFUSED_MOST), times)


def _is_news(observed: Observed, plan: JobPlan | None, facts: Facts, memory: Memory, now: datetime) -> bool:
    """Whether a status made now would rest on something else than the one that stands."""
    inputs = _status_inputs(observed, plan, facts, memory, now)
    return memory.reported_from != (*inputs, observed.job.status)


def _status_inputs(
    observed: Observed, plan: JobPlan | None, facts: Facts, memory: Memory, now: datetime
) -> tuple[object, ...]:
    """All that a status rests on: equal inputs, equal status."""
    meta = observed.job.metadata
    manifest = (meta.generation, meta.deletion_timestamp, tuple(sorted(meta.annotations.items())))
    progress = int(20 * progress_of(observed, now) + 1e-9)
    late = now > observed.finish_by
    shown = _shown_of_plan(plan, bool(observed.live))
    issues = issues_of(_forecasts_of(observed, facts).values())
    known = (progress, late, shown, observed.durations, issues)
    return (manifest, _runs(observed.runs), *known, memory.refusal, facts.account, facts.fault)


def _forecasts_of(observed: Observed, facts: Facts) -> dict[str, Forecast]:
    """Forecasts of the zones that the job may run in."""
    zones = {facts.zones[r] for r in observed.job.spec.placement.regions if r in facts.zones}
    return {z: facts.forecasts[z] for z in sorted(zones) if z in facts.forecasts}


def _runs(runs: Sequence[Run]) -> tuple[object, ...]:
    return tuple(_BUT_PROGRESS(r) for r in runs)


def _shown_of_plan(plan: JobPlan | None, live: bool) -> tuple[object, ...]:
    """What a status shows of a plan. Of a live run the window begins anew at every look, and the latest start moves
    with what is done: both are left out."""
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
