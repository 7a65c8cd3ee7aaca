"""What the simulated operator may know of the coming hours: a provider over recorded actuals that hides the future."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from windward.domain.clock import Clock
from windward.domain.series import Kind, Quality, Series
from windward.forecasting import same_hour_yesterday
from windward.grid.port import ForecastInvalid, InvalidReason, NoForecast, Provider, Unreachable
from windward.simulation.faults import Faults

LEARNS_FROM = timedelta(days=56)


class Foresight(StrEnum):
    """How well the coming hours are known.

    PERFECT: the actual hours, so that what is left is the policy's own error. OWN: our forecaster, from the past alone,
    and behind the issues where some are published. YESTERDAY: the same hour of the day before.
    """

    PERFECT = "perfect"
    OWN = "own"
    YESTERDAY = "yesterday"


@dataclass(frozen=True, slots=True)
class Publication:
    """How a zone's hours were published: what an operator of then could have fetched.

    Attributes:
        issue: (zone, moment) -> the newest forecast that was out at that moment; raises `ProviderError` where none was.
            None: no forecast is published.
        lags: zone -> how long after its end an hour's actual is published; a zone that is not listed: at once.
    """

    issue: Callable[[str, datetime], Series] | None = None
    lags: Mapping[str, timedelta] = field(default_factory=dict)


class Hindcast:
    """A provider whose actuals are recorded, and whose issues at any moment rest on what was known at that moment."""

    revised_for = timedelta(0)

    def __init__(
        self,
        actuals: Provider,
        foresight: Foresight,
        clock: Clock,
        faults: Faults | None = None,
        horizon: timedelta = timedelta(hours=96),
        publication: Publication | None = None,
    ) -> None:
        self._actuals, self._foresight, self._clock = actuals, foresight, clock
        self._faults, self._horizon = faults or Faults(), horizon
        self._published = publication or Publication()
        self.name = f"{actuals.name}:{foresight}"
        self.kind: Kind = actuals.kind

    def zones(self) -> tuple[str, ...] | None:
        return self._actuals.zones()

    def issue(self, zone: str, now: datetime) -> Series:
        if self._faults.outage(now):
            raise Unreachable(zone, "a simulated outage")
        if self._foresight is Foresight.OWN:
            if self._published.issue is not None:
                return replace(self._published.issue(zone, now), source=self.name, issued_at=now, fetched_at=now)
            raise NoForecast(zone, "the coming hours are left to our own forecaster")
        if self._foresight is Foresight.PERFECT:
            known = self._actuals.history(zone, now, now + self._horizon)
            issue, quality = known.stretches[0], Quality.RECORDED
        else:
            past = self.history(zone, now - LEARNS_FROM, now)
            # Nothing in an issue is measured, not even the hour that has begun.
            issue, quality = same_hour_yesterday(past, now, now + self._horizon), Quality.ESTIMATED
        qualities = (quality,) * len(issue.quality)
        return replace(issue, quality=qualities, source=self.name, issued_at=now, fetched_at=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """Actuals of periods that are over, and published, at the simulated time."""
        now = self._clock.now() - self._published.lags.get(zone, timedelta(0))
        if min(end, now) <= start:
            raise ForecastInvalid(zone, InvalidReason.EMPTY, f"nothing is known yet of {start:%Y-%m-%d %H:%M}")
        known = self._actuals.history(zone, start, min(end, now))
        over = [
            replace(s.part(0, n), source=self.name)
            for s in known.stretches
            if (n := int(np.searchsorted(s.edges[1:], now.timestamp(), side="right"))) > 0
        ]
        if not over:
            raise ForecastInvalid(zone, InvalidReason.EMPTY, f"the period from {start:%H:%M} is not over yet")
        return Series.of_stretches(over)
