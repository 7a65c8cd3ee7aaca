"""Energy-Charts of Fraunhofer ISE: average intensity of European countries by the quarter of an hour, without a key.

The answer is a set of parallel arrays; `co2eq` holds what is known, `co2eq_forecast` what is foreseen, each null where
the other stands. Greenhouse gases with their chain of supply (CO2eq), of a country's public generation: average,
life-cycle, production; the service documents neither a horizon nor a licence beyond CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import ForecastInvalid, InvalidReason, UnknownZone, checked_range, checked_zone
from windward.grid.provider_spec import ProviderSpec
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import chunks, iso, not_over, nothing_from

BASE_URL = "https://api.energy-charts.info"
ATTRIBUTION = "Energy-Charts, Fraunhofer ISE, CC BY 4.0"
KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.PRODUCTION)
# Countries that are one grid zone; Denmark, Italy, Norway and Sweden are several.
ZONES = (
    "AT",
    "BE",
    "BG",
    "CH",
    "CZ",
    "DE",
    "EE",
    "ES",
    "FI",
    "FR",
    "GR",
    "HR",
    "HU",
    "LT",
    "LU",
    "LV",
    "ME",
    "MK",
    "NL",
    "PL",
    "PT",
    "RO",
    "RS",
    "SI",
    "SK",
)

_CHUNK = timedelta(days=14)


class EnergyChartsProvider:
    """Forecast as far as the service publishes, and history, by the quarter of an hour."""

    name = "energy-charts"
    kind = KIND
    revised_for = timedelta(days=2)

    def __init__(self, clock: Clock, *, base_url: str = BASE_URL, total_s: float = TOTAL_S) -> None:
        self._clock = clock
        self._http = JsonClient(base_url, private=base_url != BASE_URL, total_s=total_s)

    def zones(self) -> tuple[str, ...]:
        return ZONES

    def issue(self, zone: str, now: datetime) -> Series:
        """From the current period on: what is known of it already, then what is foreseen. No issue time is named."""
        _check_zone(zone)
        now = utc(now)
        starts, known, foreseen = self._arrays(zone, {"country": zone.lower()})
        step_s = _step_s(starts)
        kept = not_over(zone, starts, step_s, now)
        values = [f if k is None else k for k, f in zip(known[kept], foreseen[kept], strict=True)]
        answer = Answer(None, "gCO2eq/kWh", starts[kept], values, Quality.FORECAST, step_s=step_s)
        return validate(zone, answer, Origin(KIND, self.name, now, now, ATTRIBUTION), now=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """Periods that are over; where only the forecast is known of one, it stands and is marked `estimated`."""
        checked_range(start, end)
        _check_zone(zone)
        now = utc(self._clock.now())
        rows: dict[float, tuple[object, object]] = {}
        for a, b in chunks(start, min(utc(end), now), _CHUNK):
            params = {"country": zone.lower(), "start": iso(a), "end": iso(b)}
            try:
                times, known, foreseen = self._arrays(zone, params)
            except ForecastInvalid as refusal:
                if refusal.reason is not InvalidReason.EMPTY:
                    raise
                continue  # a fortnight without data costs only itself
            rows.update(zip(times, zip(known, foreseen, strict=True), strict=True))
        if not rows:
            raise nothing_from(zone, start, end)
        starts = sorted(rows)
        step_s, a_s, b_s = _step_s(starts), utc(start).timestamp(), min(utc(end), now).timestamp()
        kept = [t for t in starts if t + step_s > a_s and t < b_s and t + step_s <= now.timestamp()]
        if not kept:
            raise nothing_from(zone, start, end)
        values = [rows[t][1] if rows[t][0] is None else rows[t][0] for t in kept]
        quality = [Quality.ESTIMATED if rows[t][0] is None else Quality.MEASURED for t in kept]
        answer = Answer(None, "gCO2eq/kWh", kept, values, quality, step_s=step_s)
        return validate(zone, answer, Origin(KIND, self.name, now, now, ATTRIBUTION))

    def close(self) -> None:
        self._http.close()

    def _arrays(self, zone: str, params: dict[str, str]) -> tuple[list[float], list[Any], list[Any]]:
        body = self._http.get(zone, "/co2eq", params)
        if not isinstance(body, dict):
            raise ForecastInvalid(
                zone, InvalidReason.MALFORMED, "the answer is not {unix_seconds: [...], co2eq: [...]}"
            )
        times = body.get("unix_seconds", [])
        known, foreseen = body.get("co2eq", []), body.get("co2eq_forecast", [])
        if not all(isinstance(x, list) for x in (times, known, foreseen)):
            raise ForecastInvalid(zone, InvalidReason.MALFORMED, "an array of the answer is none")
        if not times:
            raise ForecastInvalid(zone, InvalidReason.EMPTY, "the answer holds no value")
        if len(known) != len(times) or len(foreseen) != len(times):
            raise ForecastInvalid(zone, InvalidReason.MALFORMED, "the arrays of the answer are of several lengths")
        return [float(t) if type(t) in (int, float) else float("nan") for t in times], known, foreseen


def _check_zone(zone: str) -> None:
    if checked_zone(zone) not in ZONES:
        raise UnknownZone(zone, "Energy-Charts has no such single zone", f"It has {', '.join(ZONES)}.")


def _step_s(starts: Sequence[float]) -> float:
    """The usual distance of two periods; a quarter of an hour where one stands alone."""
    steps = sorted(b - a for a, b in pairwise(starts) if b > a)
    return steps[len(steps) // 2] if steps else 900.0


SPEC = ProviderSpec(
    name=EnergyChartsProvider.name,
    about="European countries, quarter-hourly, no key",
    open=lambda clock, _, __: EnergyChartsProvider(clock),
    kind=KIND,
)
