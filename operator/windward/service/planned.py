"""What operator, laptop and `windward plan` share around the planner: forecasts long enough, plans as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from windward.domain.forecast import Forecast
from windward.domain.plan import JobPlan
from windward.forecasting import extend, flat_days

WEEK = timedelta(days=7)  # of the hours ahead that are weighed one by one
LONG = timedelta(days=5)  # work that runs longer, pauses and all, may not fit into them
BEYOND = timedelta(days=30)  # for long work: what is looked at beyond its own length


def needed_until(work: Iterable[tuple[timedelta, datetime]], now: datetime) -> datetime:
    """How far forecasts must reach to plan work, given as (how long it runs, finish-by): a week at most, but for work
    that is about as long: to its finish-by, or to 30 days more than it runs."""
    given = list(work)
    until = min(max((end for _, end in given), default=now), now + WEEK)
    return max([until, *(min(end, now + runs + BEYOND) for runs, end in given if runs > LONG)])


def lengthened(forecast: Forecast, until: datetime, now: datetime) -> Forecast:
    """A forecast that ends before `until`, prolonged by the day before's shape and, beyond a week from now, by its
    mean; marked so."""
    if forecast.series is None or until <= forecast.series.end or not forecast.freshness.usable:
        return forecast
    longer = extend(None, forecast.series, min(until, max(now + WEEK, forecast.series.end)))
    longer = flat_days(longer, until)
    if longer.end <= forecast.series.end:
        return forecast
    said = f"the issue ends {forecast.series.end:%m-%d %H:%MZ}; beyond it the day before is repeated (estimated)"
    return replace(forecast, series=longer, detail="; ".join(x for x in (forecast.detail, said) if x))


def plan_body(plan: JobPlan) -> dict[str, object]:
    """A plan as JSON, for the ledger and for `-o json`."""
    return {
        "reason": str(plan.reason),
        "explanation": plan.explanation,
        "windows": [
            {
                "region": w.region,
                "start": w.start.isoformat(),
                "end": w.end.isoformat(),
                "emissionsGrams": w.emissions_g,
            }
            for w in plan.windows
        ],
        "powerLevel": plan.level_name,
        "emissionsGrams": plan.emissions_g,
        "runNowGrams": plan.run_now_g,
        "savedGrams": plan.saved_g,
        "latestStart": plan.latest_start.isoformat(),
        "feasible": plan.feasible,
        "roomGrams": plan.capacity_g,
        "edge": plan.edge,
        "demo": plan.demo,
        "vintages": dict(plan.vintages),
        "alternatives": [
            {
                "region": a.region,
                "powerLevel": a.level_name,
                "emissionsGrams": a.emissions_g,
                "roomGrams": a.capacity_g,
                "windows": [{"start": w.start.isoformat(), "end": w.end.isoformat()} for w in a.windows],
                "excludedBy": a.excluded_by,
            }
            for a in plan.alternatives
        ],
    }
