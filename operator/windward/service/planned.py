"""What operator, laptop and `windward plan` share around the planner: forecasts long enough, plans as JSON."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from windward.domain.forecast import Forecast
from windward.domain.plan import JobPlan
from windward.forecasting import extend


def lengthened(forecast: Forecast, until: datetime, now: datetime) -> Forecast:
    """A forecast that ends before `until`, prolonged by the day before's shape and marked so."""
    if forecast.series is None or until <= forecast.series.end or not forecast.freshness.usable:
        return forecast
    longer = extend(None, forecast.series, until)
    if longer.end <= forecast.series.end:
        return forecast
    said = f"the issue ends {forecast.series.end:%m-%d %H:%MZ}; beyond it the day before is repeated (estimated)"
    return replace(forecast, series=longer, detail="; ".join(x for x in (forecast.detail, said) if x))


def plan_body(plan: JobPlan) -> dict[str, object]:
    """A plan as JSON, for the book and for `-o json`."""
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
