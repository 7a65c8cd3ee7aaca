"""Our own forecast beside the providers': where a provider has none, and beyond the end of what it has.

It learns from the provider's own history, so that nothing of another kind comes in. A zone's model is asked for history
once, then only for what is new. What cannot be learnt costs nothing: the issue stands as it came.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from windward.domain.quantiles import Quantiles
from windward.domain.series import Series
from windward.forecasting import Model, blend
from windward.grid.port import Provider, ProviderError

log = logging.getLogger(__name__)

REACH = timedelta(hours=168)
LEARNS_FROM = timedelta(days=120)
LEARNS_EVERY = timedelta(minutes=50)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the hours ahead.

    Attributes:
        series: to be planned with, from the period that contains the present.
        band: quantiles of the hours that are our own estimate, or None.
        detail: what is our own in it, for people; empty where nothing is.
        past: what is measured, where it was asked for anyway.
    """

    series: Series
    band: Quantiles | None = None
    detail: str = ""
    past: Series | None = None


class Ahead:
    """Models of the zones of one provider. Each zone is asked about by one thread at a time (`Grid` sees to that)."""

    def __init__(self, provider: Provider, *, learns_from: timedelta = LEARNS_FROM) -> None:
        self._provider = provider
        self._learns_from = learns_from
        self._models: dict[str, Model] = {}
        self._past: dict[str, Series] = {}
        self._asked: dict[str, datetime] = {}

    def own(self, zone: str, now: datetime) -> Seen:
        """A whole forecast of our own.

        Raises:
            ProviderError: the provider has no history to learn from.
        """
        past = self._learn(zone, now)
        made = self._models[zone].forecast(past, now, now + REACH)
        said = made.detail or "Forecast by Windward from the zone's own history."
        return Seen(replace(_rounded(made.series), issued_at=now, fetched_at=now), made.band, said, past)

    def beyond(self, issue: Series, now: datetime) -> Seen:
        """The provider's issue, and our own from its end on; the issue alone where that cannot be had."""
        if issue.end >= now + REACH:
            return Seen(issue)
        try:
            past = self._learn(issue.zone, now)
            made = self._models[issue.zone].forecast(past, now, now + REACH)
            if made.method == "day-before" or made.series.start > issue.end:
                return Seen(issue)
            said = f"From {issue.end:%m-%d %H:%MZ} on it is Windward's forecast."
            return Seen(_rounded(blend(issue, past, made.series)), made.band, said, past)
        except (ProviderError, ValueError) as error:
            log.info("no forecast of our own for %s: %s", issue.zone, error)
            return Seen(issue)

    def _learn(self, zone: str, now: datetime) -> Series:
        """The known past, with the newest hours folded into the model."""
        past, asked = self._past.get(zone), self._asked.get(zone)
        if past is None or asked is None or not timedelta(0) <= now - asked < LEARNS_EVERY:
            start = now - self._learns_from if past is None else past.end - timedelta(days=2)  # revised since, maybe
            fresh = self._provider.history(zone, start, now)
            if past is not None and fresh.start <= past.end:
                fresh = past.followed_by(fresh)
            past = fresh.clip(now - self._learns_from, now) or fresh
            model = self._models.get(zone)
            self._models[zone] = Model.of(past) if model is None else model.learn(past)
            self._past[zone], self._asked[zone] = past, now
        return past


def _rounded(series: Series) -> Series:
    """To a hundredth of a gram: more digits say nothing and treble the archive."""
    return replace(series, intensity_g_per_kwh=np.round(series.intensity_g_per_kwh, 2))
