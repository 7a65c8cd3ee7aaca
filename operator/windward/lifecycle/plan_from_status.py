"""The plan of a job as its status tells it: what a restarted operator goes on with."""

from __future__ import annotations

from datetime import timedelta

from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Reason, Window
from windward.lifecycle.work import levels_of


def plan_from_status(observed: Observed) -> JobPlan | None:
    """Returns the plan that stands in a job's status, to the minute and to three digits; None where there is none, or
    it was made for another spec."""
    status, told = observed.job.status, observed.job.status.plan
    old_spec = status.observed_generation != observed.job.metadata.generation
    if old_spec or observed.ended or told.reason not in set(Reason) or told.latest_start is None:
        return None
    windows = tuple(Window(w.region, w.start, w.end, _number(w.emissions_grams)) for w in told.windows)
    if any(w.end <= w.start for w in windows):
        windows = tuple(Window(w.region, w.start, max(w.end, w.start + timedelta(minutes=1))) for w in windows)
    names = [v.name for v in levels_of(observed.job.spec)]
    return JobPlan(
        key=observed.key,
        reason=Reason(told.reason),
        windows=windows,
        emissions_g=_number(told.expected_emissions_grams),
        run_now_g=_number(told.run_now_emissions_grams),
        latest_start=told.latest_start,
        feasible=bool(windows) and windows[-1].end <= observed.finish_by,
        explanation=told.explanation,
        demo=told.demo,
        level=names.index(told.power_level) if told.power_level in names else None,
        level_name=told.power_level,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
