"""How good a zone's forecasts have been: the values forecast a day ahead against those measured since."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windward.domain.clock import utc
from windward.domain.series import Quality, Series

LEAD = timedelta(hours=24)
OVER = timedelta(days=7)
FEWEST = 12  # hours compared before an error is stated

_HOUR_S = 3600.0


@dataclass
class Skill:
    """Mean absolute error of one zone's forecasts at a lead of a day, over the last week.

    It covers what this process has seen itself: after a restart it is None for a day and a half.
    """

    predicted: dict[float, float] = field(default_factory=dict)  # hour, epoch seconds -> g/kWh a day ahead
    errors: deque[tuple[float, float]] = field(default_factory=deque)  # hour, |error| in g/kWh

    def note(self, series: Series, now: datetime) -> None:
        """Note the forecast for the hour a day from now; the first one for an hour counts."""
        hour = utc(now + LEAD).timestamp() // _HOUR_S * _HOUR_S
        value = series.at(datetime.fromtimestamp(hour + _HOUR_S / 2, now.tzinfo))
        if value is not None:
            self.predicted.setdefault(hour, value)

    def judge(self, measured: Series, now: datetime) -> None:
        """Compare noted forecasts with the hours measured by now."""
        for hour in sorted(h for h in self.predicted if h + _HOUR_S <= utc(now).timestamp()):
            middle = datetime.fromtimestamp(hour + _HOUR_S / 2, now.tzinfo)
            part = measured.clip(middle, middle + timedelta(seconds=1))
            if part is not None and part.quality[0] is Quality.MEASURED:
                self.errors.append((hour, abs(self.predicted.pop(hour) - float(part.intensity_g_per_kwh[0]))))
            elif utc(now).timestamp() - hour > LEAD.total_seconds() * 2:
                del self.predicted[hour]  # it will not be measured any more
        while self.errors and self.errors[0][0] < utc(now - OVER).timestamp():
            self.errors.popleft()

    @property
    def error_g_per_kwh(self) -> float | None:
        """The mean absolute error, or None while too few hours are known."""
        return sum(e for _, e in self.errors) / len(self.errors) if len(self.errors) >= FEWEST else None
