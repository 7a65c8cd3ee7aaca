"""EIA-930, United States: hourly generation by fuel of each balancing authority, weighed with published factors.

It publishes no intensity and no forecast: the intensity is computed here from generation, and the coming hours come
from Windward's own forecaster (`grid.ahead`). `period` names the **end** of the hour, UTC; data lags by about a day.

    intensity = sum over fuels (generation x factor) / sum over fuels (generation)

Factors: IPCC SRREN 2011, Annex II, medians, life-cycle. Storage alone (batteries, pumped hydro) moves energy and
generates none: left out. Solar and wind plants with a battery of their own (`SNB`, `WNB`) generate. `OTH` and unknown
fuels have no factor: an hour in which they are above 10 % of generation is absent, and so is one in which a usual fuel
is not reported.
Average, life-cycle, production.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import (
    ForecastInvalid,
    InvalidReason,
    NoForecast,
    UnknownZone,
    checked_range,
    checked_zone,
)
from windward.grid.provider_spec import Key, ProviderSpec
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import Row, epoch_s, gathered, nothing_from, rows_at

BASE_URL = "https://api.eia.gov"
ATTRIBUTION = "U.S. Energy Information Administration, Form EIA-930; factors IPCC SRREN 2011"
KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.PRODUCTION)

# g/kWh, IPCC SRREN 2011 Annex II
FACTORS_G_PER_KWH: Mapping[str, float] = {
    "COL": 1001.0,
    "NG": 469.0,
    "OIL": 840.0,
    "NUC": 16.0,
    "WAT": 4.0,
    "SUN": 46.0,
    "WND": 12.0,
    "GEO": 45.0,
    "SNB": 46.0,  # solar with integrated battery storage: generation, as SUN
    "WNB": 12.0,  # wind with integrated battery storage: generation, as WND
}
# Batteries, pumped hydro, other storage, storage of unknown kind: they move energy and generate none.
STORAGE = ("BAT", "PS", "OES", "UES")
MOST_UNKNOWN = 0.10
KEY_VARIABLE = "WINDWARD_EIA_KEY"

_ZONE = re.compile(r"US-[A-Z]+-([A-Z]{2,4})")
_HOUR_S = 3600.0
_CHUNK = timedelta(days=14)  # some 20 fuels x 24 x 14 stays below the 5000 rows of one answer
_MOST_ROWS = 5000


class EiaProvider:
    """History of a US balancing authority, zone `US-<region>-<respondent>`; no forecast of its own."""

    name = "eia-930"
    kind = KIND
    revised_for = timedelta(days=3)

    def __init__(self, clock: Clock, key: str, *, base_url: str = BASE_URL, total_s: float = TOTAL_S) -> None:
        self._clock, self._key = clock, key
        self._http = JsonClient(base_url, private=base_url != BASE_URL, total_s=total_s)

    def zones(self) -> None:
        return None

    def issue(self, zone: str, now: datetime) -> Series:
        _respondent(zone)
        utc(now)
        raise NoForecast(zone, "EIA-930 publishes no forecast", "Windward forecasts from its history.")

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        checked_range(start, end)
        respondent, now = _respondent(zone), utc(self._clock.now())
        end = min(utc(end), now)
        hours_by_fuel = gathered(
            start,
            end,
            _CHUNK,
            lambda a, b: self._rows(zone, respondent, a, b),
            lambda row: _period_s(row.get("period")) - _HOUR_S,
        )
        hours = _intensities(zone, respondent, hours_by_fuel)
        # `period` is the hour's end: the hour that overlaps [start, end) ends after start and begins before end.
        kept = [t for t in sorted(hours) if t > utc(start).timestamp() and t - _HOUR_S < end.timestamp()]
        kept = [t for t in kept if t <= now.timestamp()]
        if not kept:
            raise nothing_from(zone, start, end)
        if all(hours[t] is None for t in kept):
            cause = f"above {100 * MOST_UNKNOWN:.0f} % of each hour's generation is of a fuel without a factor"
            raise ForecastInvalid(zone, InvalidReason.EMPTY, cause, "Choose another provider for this zone.")
        answer = Answer(
            None, "gCO2eq/kWh", [t - _HOUR_S for t in kept], [hours[t] for t in kept], Quality.MEASURED, step_s=_HOUR_S
        )
        return validate(zone, answer, Origin(KIND, self.name, now, now, ATTRIBUTION))

    def close(self) -> None:
        self._http.close()

    def _rows(self, zone: str, respondent: str, start: datetime, end: datetime) -> list[Row]:
        params = {
            "api_key": self._key,
            "frequency": "hourly",
            "data[0]": "value",
            "facets[respondent][]": respondent,
            "start": _hour(start),
            "end": _hour(end + timedelta(hours=2)),  # whether or not the end belongs to a range
            "sort[0][column]": "period",
            "sort[0][direction]": "asc",
            "length": str(_MOST_ROWS),
        }
        body = self._http.get(zone, "/v2/electricity/rto/fuel-type-data/data/", params)
        if not isinstance(body, dict):
            raise ForecastInvalid(zone, InvalidReason.MALFORMED, "the answer is not {response: {data: [...]}}")
        hours_by_fuel = rows_at(zone, body.get("response", {}), "data")
        if len(hours_by_fuel) >= _MOST_ROWS:
            raise ForecastInvalid(zone, InvalidReason.TOO_LARGE, f"the answer was cut at {_MOST_ROWS} rows")
        return hours_by_fuel


def _respondent(zone: str) -> str:
    match = _ZONE.fullmatch(checked_zone(zone))
    if match is None:
        cause = "EIA-930 covers balancing authorities of the United States"
        raise UnknownZone(zone, cause, "Use a zone such as US-CAL-CISO.")
    return match[1]


def _intensities(zone: str, respondent: str, hours_by_fuel: list[Row]) -> dict[float, object]:
    """Hour's end, epoch seconds -> g/kWh, or None where too much of the generation is of unknown kind."""
    generation: dict[float, dict[str, float | None]] = {}
    for row in hours_by_fuel:
        if row.get("respondent") != respondent:
            answered_for = str(row.get("respondent"))[:64]
            raise ForecastInvalid(zone, InvalidReason.WRONG_ZONE, f"the answer is for {answered_for!r}")
        end = _period_s(row.get("period"))
        if end != end:
            raise ForecastInvalid(zone, InvalidReason.BAD_TIME, f"{str(row.get('period'))[:32]!r} is no hour")
        fuels, fuel = generation.setdefault(end, {}), str(row.get("fueltype"))
        if fuel in fuels:
            raise ForecastInvalid(zone, InvalidReason.DOUBLED, f"{fuel} of one hour stands there twice")
        unit = row.get("value-units", "megawatthours")
        if unit != "megawatthours":
            cause = f"generation is in {str(unit)[:32]!r}, not in megawatthours"
            raise ForecastInvalid(zone, InvalidReason.WRONG_UNIT, cause)
        value = _megawatt_hours(zone, row.get("value"))
        fuels[fuel] = value
    named = [f for fuels in generation.values() for f in fuels]
    usual = {f for f in set(named) if named.count(f) > len(generation) / 2 and f not in STORAGE}
    return {end: _intensity(fuels, usual) for end, fuels in generation.items()}


def _intensity(fuels: Mapping[str, float | None], usual: set[str]) -> float | None:
    """g/kWh of one hour's generation; what a plant draws (negative) is no generation. An hour that lacks a usual fuel
    is absent: coal that was not reported yet is not wind."""
    if any(fuels.get(f) is None for f in usual):
        return None
    burnt = {f: max(0.0, v) for f, v in fuels.items() if f not in STORAGE and v is not None}
    known = sum(v for f, v in burnt.items() if f in FACTORS_G_PER_KWH)
    total = sum(burnt.values())
    if known <= 0 or total - known > MOST_UNKNOWN * total:
        return None
    return sum(v * FACTORS_G_PER_KWH[f] for f, v in burnt.items() if f in FACTORS_G_PER_KWH) / known


def _megawatt_hours(zone: str, value: object) -> float | None:
    """The service sends numbers as text, too."""
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    except ValueError:
        number = float("nan")
    if number != number and (value != value or str(value).strip().lower() == "nan"):
        return None  # NaN is how some exports write a missing value
    if number != number or abs(number) == float("inf"):
        raise ForecastInvalid(zone, InvalidReason.NOT_A_NUMBER, f"{str(value)[:32]!r} is no generation")
    if abs(number) > 1e6:
        raise ForecastInvalid(zone, InvalidReason.IMPLAUSIBLE, f"{number:g} MWh in an hour is more than any grid makes")
    return number


def _period_s(period: object) -> float:
    """`2026-11-20T05` is the hour that ends at 05:00 UTC."""
    return epoch_s(f"{period}:00+00:00") if isinstance(period, str) and len(period) == 13 else float("nan")


def _hour(moment: datetime) -> str:
    return utc(moment).astimezone(UTC).strftime("%Y-%m-%dT%H")


SPEC = ProviderSpec(
    name=EiaProvider.name,
    about="United States, hourly history; the forecast is our own",
    open=lambda clock, _, env: EiaProvider(clock, env[KEY_VARIABLE]),
    kind=KIND,
    required=(KEY_VARIABLE,),
    key=Key.FREE,
)
