"""Observe mode: plans are made and shown, but every job runs at once in its home region, as without Windward."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Reason, Window
from windward.lifecycle.work import home_of, remaining_of, running_in


def undelayed(observed: Observed, planned: JobPlan, now: datetime) -> JobPlan:
    """Returns the plan that a job follows in Observe mode: now, without a pause, in its home region.

    Args:
        planned: the plan that Windward would have followed; the explanation names its saving.
    """
    if planned.reason is Reason.NO_ALLOWED_REGION:
        return planned
    region = running_in(observed) or home_of(observed.job.spec)
    end = now + remaining_of(observed, now)
    current = observed.job.status.plan
    explanation = current.explanation if current.reason == Reason.OBSERVING else _explanation(planned, now)
    return replace(
        planned,
        reason=Reason.OBSERVING,
        windows=(Window(region, now, end, planned.run_now_g),),
        emissions_g=planned.run_now_g,
        feasible=end <= observed.finish_by,
        explanation=explanation,
        level=None,
        level_name="",
        go_on_g=None,
    )


def _explanation(planned: JobPlan, now: datetime) -> str:
    why = "Observes only, so it runs at once at home: there is no live carbon source, or mode is Observe."
    share, windows = planned.saved_share, planned.windows
    if not windows or share is None or share < 0.005:
        return f"{why} Windward would have done the same."
    return (
        f"{why} Windward would have started it {windows[0].start:%m-%d %H:%MZ} in {windows[0].region} and saved "
        f"about {100 * share:.0f} %" + (" on demonstration data." if planned.demo else ".")
    )
