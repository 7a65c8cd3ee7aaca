"""Reads the plan of a job back from its status, so that a restarted operator keeps it."""

from __future__ import annotations

from datetime import timedelta

from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Reason, Window
from windward.lifecycle.work import levels_of


def plan_from_status(observed: Observed) -> JobPlan | None:
    """Returns the plan in a job's status (times to the minute, grams to three digits); None if there is none or it was
    made for another generation of the spec."""
    status, plan = observed.job.status, observed.job.status.plan
    old_spec = status.observed_generation != observed.job.metadata.generation
    if old_spec or observed.ended or plan.reason not in set(Reason) or plan.latest_start is None:
        return None
    windows = tuple(Window(w.region, w.start, w.end, _number(w.emissions_grams)) for w in plan.windows)
    if any(w.end <= w.start for w in windows):
        windows = tuple(Window(w.region, w.start, max(w.end, w.start + timedelta(minutes=1))) for w in windows)
    names = [v.name for v in levels_of(observed.job.spec)]
    return JobPlan(
        key=observed.key,
        reason=Reason(plan.reason),
        windows=windows,
        emissions_g=_number(plan.expected_emissions_grams),
        run_now_g=_number(plan.run_now_emissions_grams),
        latest_start=plan.latest_start,
        feasible=bool(windows) and windows[-1].end <= observed.finish_by,
        explanation=plan.explanation,
        demo=plan.demo,
        level=names.index(plan.power_level) if plan.power_level in names else None,
        level_name=plan.power_level,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
