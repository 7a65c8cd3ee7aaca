"""A `Provider` in memory: a weather of its own, forecasts that err anew with each issue, and outages on demand."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.port import Unreachable

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
HOUR = timedelta(hours=1)


class FakeProvider:
    """Hourly values that follow from (zone, hour) for the truth, and from (zone, hour, issue) for a forecast."""

    name = "fake"
    kind = KIND
    revised_for = timedelta(hours=3)

    def __init__(self, *, horizon_h: int = 24, error: float = 0.3, offset: dict[str, float] | None = None) -> None:
        self.revision: dict[datetime, float] = {}  # hour -> what the provider says of it by now
        self.horizon_h = horizon_h
        self.error = error
        self.offset = offset or {}
        self.out = False

    def zones(self) -> None:
        return None

    def issue(self, zone: str, now: datetime) -> Series:
        if self.out:
            raise Unreachable(zone, "the service does not answer")
        first = now.replace(minute=0, second=0, microsecond=0)
        values = [
            max(0.0, self.truth(zone, first + k * HOUR) * (1 + self.error * (_dice(zone, first, k) - 0.5)))
            for k in range(self.horizon_h)
        ]
        return Series.regular(zone, KIND, first, HOUR, values, quality=Quality.FORECAST, source="fake", issued_at=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        if self.out:
            raise Unreachable(zone, "the service does not answer")
        first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        count = math.ceil((end - first) / HOUR)
        values = [self.truth(zone, first + k * HOUR) for k in range(count)]
        return Series.regular(zone, KIND, first, HOUR, values, quality=Quality.MEASURED, source="fake", issued_at=end)

    def truth(self, zone: str, hour: datetime) -> float:
        """What the hour turns out to be."""
        if hour in self.revision:
            return self.revision[hour]
        day = 200 + 120 * math.sin(hour.timestamp() / 86400 * 2 * math.pi) + self.offset.get(zone, 0.0)
        return max(0.0, day + 100 * _dice(zone, hour, 0))


def _dice(zone: str, hour: datetime, k: int) -> float:
    return random.Random(f"{zone} {hour.isoformat()} {k}").random()
