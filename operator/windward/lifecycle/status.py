"""Builds the status of a GreenJob: conditions, summary, plan, runs, accounting. The conditions are authoritative.

One function builds the whole status from the observation, the plan and the actions, so that its parts agree. Reasons
are those that the API lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from windward.domain.durations import whole
from windward.domain.forecast import Forecast, Freshness
from windward.domain.observed import Action, CreateRun, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan, Reason
from windward.domain.run import Phase, Run, TroubleReason
from windward.lifecycle.accounting import Account
from windward.lifecycle.work import progress_of
from windward_api.greenjob_status import (
    Accounting,
    DurationStatus,
    GreenJobStatus,
    PlannedWindow,
    PlanStatus,
    RunStatus,
    Summary,
)
from windward_api.meta import Condition, transition

_MOST_SHARE = 10.0  # times the baseline: beyond it a per cent says how small the baseline is, not what was lost
_HOLDING = (Reason.NO_ALLOWED_REGION, Reason.AWAITING_FORECAST, Reason.CAPACITY_FULL, Reason.DEADLINE_TOO_SOON)


@dataclass(frozen=True, slots=True)
class Context:
    """What a status needs beside the observation, the plan and the actions.

    Attributes:
        forecasts: zone -> forecast, of the zones this job may run in.
        account: energy and grams so far.
        receipt: hash of the receipt in the ledger; empty before there is one.
        demo: some of the intensities are demonstration data.
        refusal: why the cluster refused to create the next run, if it did.
        fault: what a step of the cycle raised for this job, if it did.
    """

    forecasts: Mapping[str, Forecast]
    account: Account | None = None
    receipt: str = ""
    demo: bool = False
    refusal: str = ""
    fault: str = ""


def status_of(
    observed: Observed, plan: JobPlan | None, actions: list[Action], now: datetime, context: Context
) -> GreenJobStatus:
    """Returns the status to write."""
    old = observed.job.status
    finish = next((a for a in actions if isinstance(a, Finish)), None)
    ended_now = finish is not None
    conditions = old.conditions if observed.ended else _conditions(observed, plan, actions, finish, now, context)
    if observed.ended:
        conditions = (*[c for c in conditions if c.type != "Accounted"], _accounted(context))
    created = next((a for a in actions if isinstance(a, CreateRun)), None)
    status = GreenJobStatus(
        observed_generation=observed.job.metadata.generation,
        attempt=created.attempt if created else observed.attempt,
        attempt_region=created.region if created else old.attempt_region,
        failures=sum(r.phase is Phase.FAILED for r in observed.runs),
        finished_at=old.finished_at or (now if ended_now else None),
        progress_percent=5 * int(20 * progress_of(observed, now) + 1e-9),
        duration=old.duration if observed.ended else _duration_status(observed),
        plan=old.plan if observed.ended or plan is None else _plan_status(plan),
        runs=tuple(_run_status(r) for r in observed.runs[-20:]),
        accounting=_accounting(observed, context),
        conditions=transition(old.conditions, conditions, now, observed.job.metadata.generation),
    )
    return status.model_copy(update={"summary": _summary(observed, status, plan, actions, now, context)})


def refused(observed_generation: int, old: GreenJobStatus, message: str, now: datetime) -> GreenJobStatus:
    """Returns the status of a GreenJob that cannot be read: the old one with the conditions Accepted and Stalled."""
    conditions = (
        _condition("Accepted", "False", "InvalidSpec", message),
        _condition("Stalled", "True", "InvalidSpec", message),
    )
    return _with(old, observed_generation, conditions, Summary(state="Refused", reason="InvalidSpec"), now)


def stalled(observed_generation: int, old: GreenJobStatus, message: str, now: datetime) -> GreenJobStatus:
    """Returns the status of a job for which a step of the cycle failed: the old one with the condition Stalled."""
    others = [c for c in old.conditions if c.type != "Stalled"]
    conditions = (*others, _condition("Stalled", "True", "InternalError", message))
    summary = old.summary.model_copy(update={"reason": "InternalError"})
    return _with(old, observed_generation, conditions, summary, now)


def _with(
    old: GreenJobStatus, generation: int, conditions: tuple[Condition, ...], summary: Summary, now: datetime
) -> GreenJobStatus:
    known = transition(old.conditions, conditions, now)
    return old.model_copy(update={"observed_generation": generation, "conditions": known, "summary": summary})


def _condition(kind: str, status: Literal["True", "False", "Unknown"], reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message[:1024])


def _conditions(
    observed: Observed,
    plan: JobPlan | None,
    actions: list[Action],
    finish: Finish | None,
    now: datetime,
    context: Context,
) -> tuple[Condition, ...]:
    out = [_condition("Accepted", "True", "Valid")]
    if context.fault:
        out.append(_condition("Stalled", "True", "InternalError", context.fault))
    if plan is not None:
        held = plan.reason in _HOLDING
        out.append(_condition("Planned", "False" if held else "True", plan.reason, plan.explanation))
    elif finish is not None:  # the last plan stays told
        out += [c for c in observed.job.status.conditions if c.type == "Planned"]
    if (fresh := _fresh(context.forecasts)) is not None:
        out.append(fresh)
    out.append(_admitted(observed, plan, actions, now))
    out.append(_running(observed, actions, finish, context.refusal))
    out.append(_on_track(observed, plan, now))
    if context.account is not None and context.account.intervals:
        out.append(_accounted(context))
    if finish is not None:
        out.append(_condition("Complete" if finish.succeeded else "Failed", "True", finish.reason, finish.message))
    return tuple(out)


def _fresh(forecasts: Mapping[str, Forecast]) -> Condition | None:
    """The worst freshness among the zones."""
    order = [Freshness.LIVE, Freshness.CACHED, Freshness.BUNDLED_TRACE, Freshness.STALE, Freshness.PROVIDER_UNAVAILABLE]
    if not forecasts:
        return None
    worst = max(forecasts.values(), key=lambda f: order.index(f.freshness))
    live = worst.freshness in (Freshness.LIVE, Freshness.CACHED)
    return _condition("ForecastFresh", "True" if live else "False", worst.freshness, f"{worst.zone}: {worst.detail}")


def _admitted(observed: Observed, plan: JobPlan | None, actions: list[Action], now: datetime) -> Condition:
    if observed.job.spec.suspend:
        return _condition("Admitted", "False", "Held", observed.job.held_message)
    if observed.live or any(isinstance(a, CreateRun) for a in actions) or (plan and plan.window_at(now)):
        return _in_queue(observed)
    return _condition(
        "Admitted",
        "False",
        "WaitingForWindow",
        f"to start at once: {observed.job.run_now_command}",
    )


def _in_queue(observed: Observed) -> Condition:
    """Whether what is to run has room in its queue, if it has one, in the queue's words."""
    if not observed.job.queue_name:
        return _condition("Admitted", "True", "NoQueue")
    trouble = observed.live[-1].trouble if observed.live else None
    if trouble is not None and trouble.reason is TroubleReason.AWAITING_QUOTA:
        return _condition("Admitted", "False", trouble.reason, str(trouble))
    return _condition("Admitted", "True", "Queued", f"LocalQueue {observed.job.queue_name}")


def _running(observed: Observed, actions: list[Action], finish: Finish | None, refusal: str) -> Condition:
    if refusal and not observed.live:
        return _condition("Running", "False", "ChildRefused", refusal)
    if finish is not None or observed.ended:
        return _condition("Running", "False", finish.reason if finish else "Succeeded")
    pause = next((a for a in actions if isinstance(a, PauseRun)), None)
    if pause is not None:
        return _condition("Running", "False", "Checkpointing", pause.why)
    live = observed.live[-1] if observed.live else None
    if live is None:
        if any(isinstance(a, CreateRun) for a in actions):
            return _condition("Running", "False", "Starting")
        last = observed.runs[-1] if observed.runs else None
        paused = last is not None and last.phase in (Phase.PAUSED, Phase.LOST) and last.started_at is not None
        reason = "PausedByUser" if observed.job.spec.suspend else "PausedCarbonPeak" if paused else "NotStarted"
        return _condition("Running", "False", reason)
    if live.trouble is not None and live.phase is not Phase.STARTING:
        return _condition("Running", "Unknown", live.trouble.reason, live.message)
    if live.phase is Phase.RUNNING:
        return _condition("Running", "True", "PodsReady", f"run {live.attempt} in {live.region}")
    if live.phase is Phase.STOPPING:
        return _condition("Running", "False", "Checkpointing", live.message)
    return _condition("Running", "False", live.trouble.reason if live.trouble else "Starting", live.message)


def _on_track(observed: Observed, plan: JobPlan | None, now: datetime) -> Condition:
    finish_by = observed.finish_by
    if now > finish_by:
        return _condition("OnTrack", "False", "DeadlineMissed", f"was to be finished by {finish_by:%Y-%m-%d %H:%MZ}")
    if plan is not None and not plan.feasible and (plan.windows or plan.reason is Reason.CAPACITY_FULL):
        late = f"expected to finish {plan.windows[-1].end:%m-%d %H:%MZ}, " if plan.windows else ""
        return _condition(
            "OnTrack", "False", "DeadlineAtRisk", f"{late}finish by {finish_by:%m-%d %H:%MZ}: {plan.explanation}"
        )
    return _condition("OnTrack", "True", "SlackAvailable")


def _accounted(context: Context) -> Condition:
    a = context.account
    if a is None or not a.intervals:
        return _condition("Accounted", "Unknown", "MeterMissing", "no run reported or estimated any energy")
    if a.settled and context.receipt:
        return _condition("Accounted", "True", "Settled", f"receipt {context.receipt[:19]}")
    return _condition("Accounted", "False", "Provisional", "intensities of the last hours may still be revised")


def _duration_status(observed: Observed) -> DurationStatus:
    d = observed.durations
    return DurationStatus(
        source=d.source, expected=whole(d.expected), p90=None if d.p90 is None else whole(d.p90),
        profile=d.profile, runs=d.runs, differs=d.differs,
    )  # fmt: skip


def _plan_status(plan: JobPlan) -> PlanStatus:
    return PlanStatus(
        windows=tuple(
            PlannedWindow(
                region=w.region, start=_minute(w.start), end=_minute(w.end), emissions_grams=_rough(w.emissions_g)
            )
            for w in plan.windows[:32]
        ),
        region=plan.windows[0].region if plan.windows else "",
        power_level=plan.level_name,
        reason=plan.reason,
        explanation=plan.explanation,
        latest_start=plan.latest_start,
        expected_emissions_grams=_rough(plan.emissions_g),
        run_now_emissions_grams=_rough(plan.run_now_g),
        forecast_vintages=tuple(f"{z}@{v[:19]}" for z, v in plan.vintages),
        demo=plan.demo,
    )


def _run_status(run: Run) -> RunStatus:
    return RunStatus(
        name=run.name,
        attempt=run.attempt,
        uid=run.uid,
        region=run.region,
        power_level=run.level,
        phase=run.phase,
        started_at=run.started_at,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        message=run.message[:256],
    )


def _accounting(observed: Observed, context: Context) -> Accounting:
    a = context.account
    if a is None or not a.intervals:
        return observed.job.status.accounting
    progress = [r.report.progress for r in observed.runs if r.report is not None and r.report.progress is not None]
    units = max((t.units_done for t in progress), default=0.0)
    return Accounting(
        energy_joules=_number(a.energy_j),
        emissions_grams=_number(a.emissions_g),
        run_now_grams=_number(a.run_now_g),
        saved_grams=_number(a.saved_g),
        method=a.method,
        units_done=_number(units) if units else "",
        unit=progress[-1].unit if units else "",
        joules_per_unit=f"{a.energy_j / units:.6g}" if units else "",
        settled=a.settled and bool(context.receipt),
        receipt=context.receipt,
        demo=context.demo,
    )


def _rough(value: float | None) -> str:
    """An expected figure: three digits are all it is worth, and a status that is written less often."""
    return "" if value is None else f"{float(f'{value:.3g}'):g}"


def _minute(moment: datetime) -> datetime:
    """To the minute: a window that has begun starts anew at every look, and its status should not."""
    return moment.replace(second=0, microsecond=0)


def _number(value: float | None) -> str:
    """A figure as text: the API conventions want no floats in objects."""
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _summary(
    observed: Observed,
    status: GreenJobStatus,
    plan: JobPlan | None,
    actions: list[Action],
    now: datetime,
    context: Context,
) -> Summary:
    by_type = {c.type: c for c in status.conditions}
    state, reason = _state(observed, by_type, plan, context)
    live = observed.live[-1] if observed.live else None
    window = (plan.window_at(now) if plan else None) or (plan.windows[0] if plan and plan.windows else None)
    region = live.region if live else window.region if window else observed.job.status.summary.region
    start = min((r.started_at for r in observed.runs if r.started_at), default=None) or (
        window.start if window else None
    )
    grams, saved, mark = _outcome(status, plan, context)
    energy_j = context.account.energy_j if context.account else 0.0
    return Summary(
        state=state,
        reason=reason,
        region=region,
        start=f"{start:%m-%d %H:%MZ}" if start else "",
        finish_by=f"{observed.finish_by:%m-%d %H:%MZ}",
        energy=f"{energy_j / 3.6e6:.3g} kWh" if energy_j else "",
        emissions="" if grams is None else f"{mark}{grams:.3g} g" if grams < 100 else f"{mark}{grams:.0f} g",
        saved="" if saved is None else f"{mark}{round(100 * saved) or 0} %",
    )


def _outcome(status: GreenJobStatus, plan: JobPlan | None, context: Context) -> tuple[float | None, float | None, str]:
    """Grams and saved share to show: what was accounted once it ended, what is expected before (marked `~`)."""
    a = context.account
    if status.finished_at is not None and a is not None and a.emissions_g is not None:
        share = a.saved_g / a.run_now_g if a.saved_g is not None and a.run_now_g else None
        if share is not None and abs(share) > _MOST_SHARE:
            share = None
        return a.emissions_g, share, "" if a.method == "measured" else "~"
    if plan is None:
        return None, None, ""
    return plan.emissions_g, plan.saved_share, "~"


def _state(
    observed: Observed, by_type: Mapping[str, Condition], plan: JobPlan | None, context: Context
) -> tuple[str, str]:
    """One word for people, and why. Never an empty why."""
    for kind in ("Complete", "Failed"):
        if kind in by_type and by_type[kind].status == "True":
            return kind, by_type[kind].reason
    running = by_type["Running"]
    if observed.job.spec.suspend:
        return ("Pausing", "PausedByUser") if observed.live else ("Held", "PausedByUser")
    if running.status == "True":
        return "Running", plan.reason if plan else "PodsReady"
    if context.fault:
        return ("Running" if observed.live else "Waiting"), "InternalError"
    if observed.live and (trouble := observed.live[-1].trouble) is not None:
        phase = observed.live[-1].phase
        return {Phase.STARTING: "Starting", Phase.STOPPING: "Pausing"}.get(phase, "Running"), trouble.reason
    if running.reason in ("Starting", "Checkpointing"):
        word = {"Starting": "Starting", "Checkpointing": "Pausing"}[running.reason]
        return word, running.reason if running.reason != "Starting" or not plan else plan.reason
    if running.reason == "ChildRefused":
        return "Waiting", "ChildRefused"
    if running.reason == "PausedCarbonPeak":
        return "Paused", "PausedCarbonPeak"
    return "Waiting", plan.reason if plan else "Pending"
