"""What is known of a zone's coming intensity, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from windward.domain.quantiles import Quantiles
from windward.domain.series import Series


class Freshness(StrEnum):
    """Reasons of the condition `ForecastFresh`; True for the first two."""

    LIVE = "Live"
    CACHED = "Cached"  # the last refresh failed or is not due; the issue is young enough
    STALE = "Stale"
    PROVIDER_UNAVAILABLE = "ProviderUnavailable"  # nothing was ever received
    BUNDLED_TRACE = "BundledTrace"

    @property
    def usable(self) -> bool:
        """Whether a plan may rest on it."""
        return self in (Freshness.LIVE, Freshness.CACHED, Freshness.BUNDLED_TRACE)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The newest good issue for a zone.

    Attributes:
        series: from the recent past to the horizon; None where nothing is known.
        vintage: sha256 of the archived issue, so that the decision can be replayed.
        detail: one sentence for people: why the forecast is not live, or what stands in for it.
        holes: what is missing in issue and history, with zone and hours, and what stands there; part of `detail` too.
        error_g_per_kwh: mean absolute error of the forecasts made a day ahead, over the last week, where it is known.
        band: quantiles of the hours ahead, where they are known; their edges may begin later and end earlier.
    """

    zone: str
    series: Series | None
    freshness: Freshness
    vintage: str = ""
    detail: str = ""
    band: Quantiles | None = None
    error_g_per_kwh: float | None = None
    holes: str = ""

    def age(self, now: datetime) -> timedelta | None:
        return now - self.series.issued_at if self.series is not None else None


def band_at(forecast: Forecast, moment: datetime) -> tuple[float, float] | None:
    """The 10 % and 90 % quantile of the intensity at `moment` in g/kWh: it lies between with 80 % probability."""
    band = forecast.band
    if band is None or not {0.1, 0.9} <= set(band.levels):
        return None
    t = moment.timestamp()
    if not band.edges[0] <= t < band.edges[-1]:
        return None
    i = int(np.searchsorted(band.edges, t, side="right")) - 1
    return float(band.at(0.1)[i]), float(band.at(0.9)[i])
