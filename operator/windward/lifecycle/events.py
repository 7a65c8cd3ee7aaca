"""Events: one sentence for each transition, emitted after the status that shows it is written."""

from __future__ import annotations

from windward.domain.observed import Action, CreateRun, Event, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan, Reason
from windward.domain.run import TroubleReason
from windward_api.greenjob_status import GreenJobStatus

LIMIT = 180


def events_of(observed: Observed, plan: JobPlan | None, actions: list[Action], new: GreenJobStatus) -> list[Event]:
    """Returns the events for the actions and for the differences between the old status and the new one."""
    old = observed.job.status
    out = [*_planned(old, plan, new), *_warnings_of(old, new)]
    for action in actions:
        match action:
            case CreateRun():
                at = f" at {action.level}" if action.level else ""
                out.append(Event("Started", f"run {action.attempt} in {action.region}{at}: {action.why}"))
            case PauseRun():
                out.append(Event("Paused", f"{action.name}: {action.why}; asked for a checkpoint"))
            case Finish(succeeded=True):
                out.append(Event("Complete", _receipt(new)))
            case Finish():
                out.append(Event("Failed", action.message, warning=True))
            case _:
                pass
    if new.duration.differs and not old.duration.differs:
        out.append(Event("DurationDiffers", new.duration.differs, warning=True))
    return [Event(e.reason, e.message[:LIMIT], e.warning) for e in out]


def _planned(old: GreenJobStatus, plan: JobPlan | None, new: GreenJobStatus) -> list[Event]:
    if plan is None or new.finished_at is not None:
        return []
    before, after = old.plan, new.plan
    if plan.reason is Reason.DEADLINE_TOO_SOON and before.reason != plan.reason:
        return [Event("DeadlineTooSoon", plan.explanation, warning=True)]
    if not before.reason:
        at_once = (Reason.RUN_NOW, Reason.SAVING_BELOW_THRESHOLD, Reason.DURATION_UNKNOWN, Reason.OBSERVING)
        chosen = "RunNowChosen" if plan.reason in at_once else "Planned"
        return [Event(chosen, plan.explanation)]
    waiting = new.attempt == 0 and before.windows and after.windows
    if waiting and abs((before.windows[0].start - after.windows[0].start).total_seconds()) >= 60:
        moved = f"start moved {before.windows[0].start:%m-%d %H:%MZ} -> {after.windows[0].start:%m-%d %H:%MZ}"
        return [Event("Replanned", f"{moved}: {plan.explanation}")]
    return []


_WARNINGS = {  # condition type, reason -> event
    ("ForecastFresh", "Stale"): "ForecastStale",
    ("ForecastFresh", "ProviderUnavailable"): "ForecastStale",
    ("OnTrack", "DeadlineAtRisk"): "DeadlineAtRisk",
    ("OnTrack", "DeadlineMissed"): "DeadlineMissed",
    **{("Running", str(reason)): str(reason) for reason in TroubleReason},
    ("Stalled", "InternalError"): "InternalError",
    ("Running", "ChildRefused"): "ChildRefused",
}


def _warnings_of(old: GreenJobStatus, new: GreenJobStatus) -> list[Event]:
    """Warnings for conditions that turned bad."""
    before = {c.type: c.reason for c in old.conditions}
    out = []
    for c in new.conditions:
        name = _WARNINGS.get((c.type, c.reason))
        if name is not None and before.get(c.type) != c.reason:
            out.append(Event(name, c.message, warning=True))
    return out


def _receipt(new: GreenJobStatus) -> str:
    a = new.accounting
    if not a.energy_joules:
        return "done; no energy was reported"
    kwh = float(a.energy_joules) / 3.6e6
    text = f"{kwh:.3g} kWh ({a.method})"
    if a.emissions_grams:
        text += f", {a.emissions_grams} g"
    if a.saved_grams:
        text += f", saved {a.saved_grams} g against running at submission"
    return f"{text}; {'settled' if a.settled else 'provisional'}" + (" (demo data)" if a.demo else "")
