"""Small worlds for the planner: series, regions, work; times are hours after T0."""

from datetime import UTC, datetime, timedelta

import numpy as np

from windward.domain.fleet import Region, Work
from windward.domain.forecast import Forecast, Freshness
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours(values, zone="DE", start=T0, step=HOUR):
    return Series.regular(zone, KIND, start, step, values, quality=Quality.FORECAST, source="t", issued_at=start)


def irregular(edges_s, values, zone="DE"):
    edges = T0.timestamp() + np.asarray(edges_s, float)
    return Series(zone, KIND, edges, np.asarray(values, float), (Quality.FORECAST,) * len(values), "t", T0, T0)


def known(*series, freshness=Freshness.LIVE):
    return {s.zone: Forecast(s.zone, s, freshness, vintage="v" + s.zone) for s in series}


def work(key="ns/a", *, by_h=24.0, hours_h=2.0, left_h=None, at_h=0.0, regions=("de",), home=None, **more):
    at = T0 + at_h * HOUR
    return Work(
        key=key,
        earliest=at,
        finish_by=T0 + by_h * HOUR,
        remaining=(hours_h if left_h is None else left_h) * HOUR,
        duration=hours_h * HOUR,
        submitted=at,
        power_w=more.pop("power_w", 1000.0),
        regions=tuple(regions),
        home=home or regions[0],
        **more,
    )


REGIONS = {"de": Region("de", "DE", 1.25), "fr": Region("fr", "FR", 1.1), "se": Region("se", "SE", 1.0)}
