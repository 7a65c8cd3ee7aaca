"""GreenRegions: converts them for the planner and writes their statuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from windward.cluster import Cluster
from windward.domain.fleet import OnSite, Region
from windward.domain.forecast import Forecast, band_at
from windward.domain.observed import Observed
from windward_api.greenregion import GreenRegion, GreenRegionStatus
from windward_api.meta import Condition, transition


def region_of(o: GreenRegion, quota: Mapping[str, float] | None = None) -> Region:
    """Returns a region as the planner sees it.

    Args:
        quota: units of each resource that its queue leaves to our work; None: it has no queue that says so.
    """
    capacity = {c.resource: float(c.count) for c in o.spec.capacity}
    for resource, units in (quota or {}).items():
        capacity[resource] = min(units, capacity.get(resource, units))
    return Region(o.metadata.name, o.spec.grid_zone, float(o.spec.pue), capacity, _on_site(o))


def regions_of(objects: Sequence[GreenRegion]) -> dict[str, Region]:
    """Returns regions as the planner sees them, by name."""
    return {o.metadata.name: region_of(o) for o in objects}


def running_by_region(jobs: Iterable[Observed]) -> Mapping[str, int]:
    """Returns the number of live runs in each region."""
    return Counter(run.region for o in jobs for run in o.live)


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _band(forecast: Forecast | None, hour: datetime) -> str | None:
    span = band_at(forecast, hour + timedelta(hours=24)) if forecast is not None else None
    return None if span is None else f"{span[0]:.0f}-{span[1]:.0f}"


def _on_site(region: GreenRegion) -> OnSite | None:
    own = region.spec.on_site
    if own is None:
        return None
    spans = tuple(sorted((h.from_hour, h.to_hour, h.share_percent / 100) for h in own.hours))
    return OnSite(float(own.intensity_grams_per_kwh), spans)


def sync_region(
    cluster: Cluster,
    region: GreenRegion,
    forecasts: Mapping[str, Forecast],
    running: Mapping[str, int],
    now: datetime,
) -> None:
    """Writes the status of a region if it changed."""
    forecast = forecasts.get(region.spec.grid_zone)
    status = _status(region, forecast, running.get(region.metadata.name, 0), now)
    if status != region.status:
        cluster.write_region_status(region, status)


def _status(region: GreenRegion, forecast: Forecast | None, running: int, now: datetime) -> GreenRegionStatus:
    series = forecast.series if forecast is not None else None
    own = _on_site(region)
    effective = own.mixed(series) if own is not None and series is not None else series
    intensity = effective.at(now) if effective is not None else None
    age = forecast.age(now) if forecast is not None else None
    reason = str(forecast.freshness) if forecast is not None else "ProviderUnavailable"
    condition = Condition(
        type="ForecastFresh",
        status="True" if reason in ("Live", "Cached") else "False",
        reason=reason,
        message=forecast.detail if forecast is not None else "",
    )
    hour = now.replace(minute=0, second=0, microsecond=0)
    return GreenRegionStatus(
        observed_generation=region.metadata.generation,
        zone=region.spec.grid_zone,
        intensity=None if intensity is None else f"{intensity:.0f}",
        intensity_at=hour if intensity is not None else None,
        source=f"{series.source}, {series.kind}" if series is not None else None,
        # To the hour: a status that changes every second would be written every second.
        forecast_age_seconds=None if age is None else 3600 * int(age / timedelta(hours=1)),
        forecast_error=_rounded(forecast.error_g_per_kwh) if forecast is not None else None,
        forecast_band=_band(forecast, hour),
        running=running,
        conditions=transition(region.status.conditions, (condition,), now),
    )
