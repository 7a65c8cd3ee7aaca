"""Electricity Maps, API v4: average, life-cycle, consumption-based (flow-traced) intensity of some 350 zones.

Period starts in UTC, gCO2eq/kWh. Two habits of the service are switched off here: an unknown zone answered for the
caller's own location (`disableCallerLookup`, and the answer's zone is checked), and the 401 that means "not in your
plan" (told as such). `access` of `/zones` says what a key may read; it is asked once a day and not believed where it
promises. There is no archive of forecasts: Windward's own is the only one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import (
    ForecastInvalid,
    InvalidReason,
    NotEntitled,
    Provider,
    ProviderError,
    UnknownZone,
    checked_range,
    checked_zone,
)
from windward.grid.provider_spec import Environment, Key, ProviderSpec, flag
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import Row, epoch_s, gathered, iso, issued, not_over, past_periods, rows_at

BASE_URL = "https://api.electricitymaps.com"
ATTRIBUTION = "Electricity Maps"
KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
HORIZON_H = 72
KEY_VARIABLE, SANDBOX_VARIABLE = "WINDWARD_ELECTRICITYMAPS_KEY", "WINDWARD_ELECTRICITYMAPS_SANDBOX"

_HOUR_S = 3600.0
_CHUNK = timedelta(days=10)  # of one `past-range` request, hourly
_ACCESS_FOR = timedelta(days=1)
_FORECAST = "carbon-intensity/forecast"


class ElectricityMapsProvider:
    """Forecast up to 72 hours and history by the hour.

    Args:
        key: the `auth-token`.
        sandbox: the key is a test key whose values are randomised: everything is marked as demonstration data.
    """

    name = "electricitymaps"
    kind = KIND
    revised_for = timedelta(days=2)

    def __init__(
        self, clock: Clock, key: str, *, sandbox: bool = False, base_url: str = BASE_URL, total_s: float = TOTAL_S
    ) -> None:
        self._clock, self._sandbox = clock, sandbox
        self._headers = {"auth-token": key} if key else {}
        self._http = JsonClient(base_url, private=base_url != BASE_URL, total_s=total_s)
        self._lock = threading.Lock()
        self._access: Mapping[str, Any] | None = None
        self._access_until: datetime | None = None

    def zones(self) -> tuple[str, ...] | None:
        return None if self._access is None else tuple(sorted(self._access))

    def issue(self, zone: str, now: datetime) -> Series:
        checked_zone(zone)
        now = utc(now)
        self._check_access(zone, now)
        body = self._get(zone, f"/v4/{_FORECAST}", {"zone": zone, "horizonHours": str(HORIZON_H)})
        records = rows_at(zone, body, "forecast", "data")
        starts = [epoch_s(r.get("datetime")) for r in records]
        kept = not_over(zone, starts, _HOUR_S, now)
        origin = self._origin(issued(body.get("updatedAt"), now), now)
        values = [r.get("carbonIntensity") for r in records[kept]]
        return validate(zone, self._answer(body, starts[kept], values, Quality.FORECAST), origin, now=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """Hours that are over. Newest hours are the service's own estimates, marked so, and replaced later.

        Where the plan refuses ranges, the free `history` (24 h) answers for what it reaches.
        """
        checked_range(start, end)
        checked_zone(zone)
        now = utc(self._clock.now())
        try:
            records = self._ranges(zone, start, min(utc(end), now))
        except NotEntitled:
            body = self._get(zone, "/v4/carbon-intensity/history", {"zone": zone})
            self._check_zone(zone, body)
            records = rows_at(zone, body, "history", "data")
        starts = [epoch_s(r.get("datetime")) for r in records]
        records, starts = past_periods(zone, records, starts, _HOUR_S, start, end, now)
        quality = [Quality.ESTIMATED if r.get("isEstimated") else Quality.MEASURED for r in records]
        values = [r.get("carbonIntensity") for r in records]
        answer = Answer(zone, "gCO2eq/kWh", starts, values, quality, step_s=_HOUR_S)
        return validate(zone, answer, self._origin(now, now))

    def close(self) -> None:
        self._http.close()

    def _ranges(self, zone: str, start: datetime, end: datetime) -> list[Row]:
        def ask(a: datetime, b: datetime) -> list[Row]:
            body = self._get(zone, "/v4/carbon-intensity/past-range", {"zone": zone, "start": iso(a), "end": iso(b)})
            self._check_zone(zone, body)
            return rows_at(zone, body, "data", "history")

        first = start.replace(minute=0, second=0, microsecond=0)
        return gathered(first, end, _CHUNK, ask, lambda row: epoch_s(row.get("datetime")))

    def _get(self, zone: str, path: str, params: Mapping[str, str]) -> Any:
        return self._http.get(zone, path, {**params, "disableCallerLookup": "true"}, self._headers)

    def _check_access(self, zone: str, now: datetime) -> None:
        """What `/zones` refuses is refused here, without a request each time; what it promises is tried."""
        with self._lock:
            due = self._access_until is None or not now < self._access_until
            if due:
                self._access_until = now + _ACCESS_FOR
        if due:
            try:
                body = self._http.get(zone, "/v4/zones", None, self._headers)
            except ProviderError:
                return  # the forecast itself will tell what is wrong
            if isinstance(body, dict) and body and all(isinstance(v, dict) for v in body.values()):
                self._access = body
        if self._access is None:
            return
        if zone not in self._access:
            raise UnknownZone(zone, "Electricity Maps has no such zone", "windward zones search finds the zone.")
        allowed = self._access[zone].get("access")
        if isinstance(allowed, list) and allowed and not any(str(a) in ("*", _FORECAST) for a in allowed):
            fix = "Ask for forecast access, or choose another provider for this zone."
            raise NotEntitled(zone, "the plan of this key has no forecast for the zone", fix)

    def _check_zone(self, zone: str, body: Any) -> None:
        answered_for = body.get("zone") if isinstance(body, dict) else None
        if answered_for is not None and answered_for != zone:
            raise ForecastInvalid(zone, InvalidReason.WRONG_ZONE, f"the answer is for {str(answered_for)[:64]!r}")

    def _answer(self, body: Any, starts: list[float], values: list[object], quality: Quality) -> Answer:
        answered_for = body.get("zone")
        # An answer that names no zone may be anybody's.
        return Answer(
            answered_for if isinstance(answered_for, str) else "(none)",
            str(body.get("unit", "gCO2eq/kWh")),  # documented; where an answer names one, that one counts
            starts,
            values,
            quality,
            step_s=_HOUR_S,
        )

    def _origin(self, issued_at: datetime, now: datetime) -> Origin:
        return Origin(KIND, self.name, issued_at, now, ATTRIBUTION, demo=self._sandbox)


def _open(clock: Clock, _: Path | None, env: Environment) -> Provider:
    return ElectricityMapsProvider(clock, env[KEY_VARIABLE], sandbox=flag(env, SANDBOX_VARIABLE))


SPEC = ProviderSpec(
    name=ElectricityMapsProvider.name,
    about="some 350 zones, hourly forecast of 72 h",
    open=_open,
    kind=KIND,
    required=(KEY_VARIABLE,),
    optional=(SANDBOX_VARIABLE,),
    key=Key.YES,
)
