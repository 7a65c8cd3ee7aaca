"""The web API of the Green Software Foundation's Carbon Aware SDK, self-hosted: whatever stands behind it.

It does not say which signal it serves, so the administrator does. Of its habits these are met here: wrong parameter
names return the current value (the exact names of each route are sent), a null becomes rating -1 (absent), and points
of a forecast asked for with a window are rolling means (none is asked for, and one that comes is refused).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.domain.clock import Clock, utc
from windward.domain.series import Kind, Quality, Series
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import ForecastInvalid, InvalidReason, Provider, checked_range, checked_zone
from windward.grid.provider_spec import Environment, ProviderSpec, declared_kind
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import Row, epoch_s, gathered, iso, issued, not_over, nothing_from, past_periods, rows

ATTRIBUTION = "Carbon Aware SDK (self-hosted)"
URL_VARIABLE, KIND_VARIABLE = "WINDWARD_CARBON_AWARE_SDK_URL", "WINDWARD_CARBON_AWARE_SDK_KIND"

_CHUNK = timedelta(days=7)
_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})")  # .NET TimeSpan


class CarbonAwareSdkProvider:
    """Forecast and history of the SDK's locations; a zone is the name of a location.

    Args:
        base_url: of the installation, from the operator's own settings; it may be on a private network.
        kind: what its source counts, as the administrator declares.
    """

    name = "carbon-aware-sdk"
    revised_for = timedelta(days=2)

    def __init__(self, clock: Clock, base_url: str, kind: Kind, *, total_s: float = TOTAL_S) -> None:
        self._clock, self.kind = clock, kind
        self._http = JsonClient(base_url, private=True, total_s=total_s)

    def zones(self) -> None:
        return None

    def issue(self, zone: str, now: datetime) -> Series:
        checked_zone(zone)
        now = utc(now)
        forecasts = rows(zone, self._http.get(zone, "/emissions/forecasts/current", {"location": zone}))
        forecast = forecasts[0]
        points = rows(zone, forecast.get("forecastData", []))
        step_s = _step_s(zone, [p.get("duration") for p in points], minutes=True)
        window = forecast.get("windowSize")
        if isinstance(window, int | float) and window * 60 > step_s:
            cause = f"its points are rolling means over {window:g} minutes"
            raise ForecastInvalid(zone, InvalidReason.MALFORMED, cause)
        starts = [epoch_s(p.get("timestamp")) for p in points]
        kept = not_over(zone, starts, step_s, now)
        answer = self._answer(zone, points[kept], starts[kept], "value", Quality.FORECAST, step_s)
        return validate(zone, answer, self._origin(issued(forecast.get("generatedAt"), now), now), now=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        checked_range(start, end)
        checked_zone(zone)
        now = utc(self._clock.now())

        def ask(a: datetime, b: datetime) -> list[Row]:
            params = {"location": zone, "time": iso(a), "toTime": iso(b)}
            return rows(zone, self._http.get(zone, "/emissions/bylocation", params))

        records = gathered(start, min(utc(end), now), _CHUNK, ask, lambda row: epoch_s(row.get("time")))
        if not records:
            raise nothing_from(zone, start, end)
        step_s = _step_s(zone, [r.get("duration") for r in records], minutes=False)
        starts = [epoch_s(r.get("time")) for r in records]
        records, starts = past_periods(zone, records, starts, step_s, start, end, now)
        answer = self._answer(zone, records, starts, "rating", Quality.MEASURED, step_s)
        return validate(zone, answer, self._origin(now, now))

    def close(self) -> None:
        self._http.close()

    def _answer(
        self, zone: str, records: list[Row], starts: list[float], field: str, quality: Quality, step_s: float
    ) -> Answer:
        strange = next((r.get("location") for r in records if r.get("location") != zone), zone)
        if strange != zone:
            raise ForecastInvalid(zone, InvalidReason.WRONG_ZONE, f"the answer is for {str(strange)[:64]!r}")
        return Answer(None, "gCO2/kWh", starts, [r.get(field) for r in records], quality, step_s=step_s)

    def _origin(self, issued_at: datetime, now: datetime) -> Origin:
        return Origin(self.kind, self.name, issued_at, now, ATTRIBUTION)


def _step_s(zone: str, spans: list[Any], *, minutes: bool) -> float:
    """Length of a period: minutes as a number in forecasts, a .NET TimeSpan in history; the same for all."""
    lengths = {_span_s(s, minutes=minutes) for s in spans}
    if len(lengths) != 1 or None in lengths:
        raise ForecastInvalid(zone, InvalidReason.MIXED_STEPS, "the points are of several or unknown lengths")
    step = lengths.pop()
    assert step is not None
    return step


def _span_s(span: object, *, minutes: bool) -> float | None:
    if minutes and isinstance(span, int | float) and not isinstance(span, bool) and 1 <= span <= 1440:
        return span * 60.0
    match = _SPAN.fullmatch(span) if isinstance(span, str) else None
    if match is None:
        return None
    days, hours, mins, secs = (int(x or 0) for x in match.groups())
    length = days * 86_400.0 + hours * 3600 + mins * 60 + secs
    return length if 60 <= length <= 86_400 else None


def _open(clock: Clock, _: Path | None, env: Environment) -> Provider:
    return CarbonAwareSdkProvider(clock, env[URL_VARIABLE], declared_kind(env, KIND_VARIABLE))


SPEC = ProviderSpec(
    name=CarbonAwareSdkProvider.name,
    about="your own installation of the Green Software Foundation's web API",
    open=_open,
    kind=None,
    required=(URL_VARIABLE, KIND_VARIABLE),
)
