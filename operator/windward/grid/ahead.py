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
from windward.forecasting import Model, blend, filled, overlay
from windward.grid.port import ForecastInvalid, InvalidReason, Provider, ProviderError

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
        holes: what is missing in issue and history, for people; empty where nothing is.
    """

    series: Series
    band: Quantiles | None = None
    detail: str = ""
    past: Series | None = None
    holes: str = ""


class Ahead:
    """Models of the zones of one provider. Each zone is asked about by one thread at a time (`Grid` sees to that)."""

    def __init__(self, provider: Provider, *, learns_from: timedelta = LEARNS_FROM) -> None:
        self._provider = provider
        self._learns_from = learns_from
        self._models: dict[str, Model] = {}
        self._past: dict[str, Series] = {}
        self._whole: dict[str, Series] = {}
        self._learnt_at: dict[str, datetime] = {}

    def own(self, zone: str, now: datetime) -> Seen:
        """A whole forecast of our own.

        Raises:
            ProviderError: the provider has no history to learn from, or none that reaches to within a week of `now`.
        """
        past, whole = self._learn(zone, now)
        if whole.end < now - REACH:
            cause = f"its measured hours end at {whole.end:%Y-%m-%dT%H:%MZ}, more than a week before now"
            raise ForecastInvalid(zone, InvalidReason.PAST_ONLY, cause, "Give it newer hours, or a clock inside them.")
        try:
            own = self._models[zone].forecast(whole, now, now + REACH)
        except ValueError as error:  # not even a day is known
            fix = "A day of measured hours is needed at least."
            raise ForecastInvalid(zone, InvalidReason.EMPTY, f"no forecast can be made of it: {error}", fix) from error
        detail = own.detail or "Forecast by Windward from the zone's own history."
        if whole.end < now - timedelta(hours=6):
            detail = f"{detail} Measured hours end at {whole.end:%m-%d %H:%MZ}."
        series = replace(_rounded(own.series), issued_at=now, fetched_at=now)
        return Seen(series, own.band, detail, past, lacking(past, "history", _FILLED))

    def beyond(self, issue: Series, now: datetime) -> Seen:
        """The provider's issue, and our own from its end on and in its holes.

        Where our own cannot be had the issue stands alone, up to its first hole.
        """
        if not issue.gaps and issue.start <= now and issue.end >= now + REACH:
            return Seen(issue)
        try:
            past, whole = self._learn(issue.zone, now)
            own = self._models[issue.zone].forecast(whole, now, now + REACH)
        except (ProviderError, ValueError) as error:
            log.info("no forecast of our own for %s: %s", issue.zone, error)
            return cut(issue)
        first, *others = issue.stretches
        sentences = [lacking(issue, "issue", "Windward's forecast stands there."), lacking(past, "history", _FILLED)]
        holes = " ".join(x for x in sentences if x)
        learnt = own.method != "day-before" and own.series.start <= issue.end
        if not (learnt or issue.gaps or issue.start > now):
            return Seen(issue, past=past, holes=holes)
        layers, end = [*issue.stretches, own.series], issue.stretches[-1].end
        if learnt:
            blended = blend(first, whole, own.series)
            layers, end = [*others, blended, own.series], max(end, blended.end)
        series = overlay(layers, min(issue.start, now), end)
        if series is None or series.gaps:
            return replace(cut(issue), past=past)
        prolonged = f"From {issue.stretches[-1].end:%m-%d %H:%MZ} on it is Windward's forecast." if learnt else ""
        return Seen(_rounded(series), own.band if learnt else None, prolonged, past, holes)

    def _learn(self, zone: str, now: datetime) -> tuple[Series, Series]:
        """The known past, with its holes, and the same made whole; the newest hours are folded into the model."""
        past, learnt_at = self._past.get(zone), self._learnt_at.get(zone)
        if past is None or learnt_at is None or not timedelta(0) <= now - learnt_at < LEARNS_EVERY:
            start = now - self._learns_from
            if past is not None:
                start = past.stretches[-1].end - timedelta(days=2)  # revised since, maybe
            fresh = self._provider.history(zone, start, now)
            layers = [fresh] if past is None else [fresh, past]
            past = overlay(layers, now - self._learns_from, now) or fresh
            whole = filled(past)
            model = self._models.get(zone)
            self._models[zone] = Model.of(whole) if model is None else model.learn(whole)
            self._past[zone], self._whole[zone], self._learnt_at[zone] = past, whole, now
        return past, self._whole[zone]


_FILLED = "For our own forecast the week before stands there."


def lacking(series: Series, what: str, then: str = "") -> str:
    """One sentence that names the zone and the hours of each hole; empty where there is none."""
    if not series.gaps:
        return ""
    holes = [f"{a:%Y-%m-%dT%H:%MZ} to {b:%Y-%m-%dT%H:%MZ}" for a, b in series.gaps]
    more = f" and {len(holes) - 3} more" if len(holes) > 3 else ""
    return f"The {what} of {series.zone} lacks {', '.join(holes[:3])}{more}. {then}".rstrip()


def cut(issue: Series) -> Seen:
    """The issue up to its first hole."""
    return Seen(issue.stretches[0], holes=lacking(issue, "issue", "The forecast ends there."))


def _rounded(series: Series) -> Series:
    """To a hundredth of a gram: more digits say nothing and treble the archive."""
    return replace(series, intensity_g_per_kwh=np.round(series.intensity_g_per_kwh, 2))
