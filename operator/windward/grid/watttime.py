"""WattTime, API v3: the marginal operating emissions rate (MOER) in pounds per megawatt-hour, every five minutes.

Marginal, direct, as one more kilowatt-hour of demand causes it: never to be joined with or judged against an average.
A token holds 30 minutes. Plans are made from `/forecast`, reports from `/historical`, which may change when the model
does: its date is part of the source. Both ends of a historical range are inclusive, so chunks must not overlap.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.cloud_regions import cloud_regions
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import (
    ForecastInvalid,
    InvalidReason,
    NotEntitled,
    Provider,
    UnknownZone,
    checked_range,
    checked_zone,
)
from windward.grid.provider_spec import Environment, Key, ProviderSpec, declared_pairs
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import Row, epoch_s, gathered, iso, issued, not_over, nothing_from, past_periods, rows_at

BASE_URL = "https://api.watttime.org"
ATTRIBUTION = "WattTime"
KIND = Kind(Signal.MARGINAL, Scope.DIRECT, Basis.CONSUMPTION)
SIGNAL = "co2_moer"
HORIZON_H = 72
USER_VARIABLE, PASSWORD_VARIABLE = "WINDWARD_WATTTIME_USER", "WINDWARD_WATTTIME_PASSWORD"
REGIONS_VARIABLE = "WINDWARD_WATTTIME_REGIONS"

_CHUNK = timedelta(days=30)
_TOKEN_FOR = timedelta(minutes=25)  # of the 30 it holds


class WattTimeProvider:
    """Forecast up to 72 hours and history, five minutes by five minutes.

    Args:
        regions: zone -> WattTime region, for zones that the table of cloud regions knows several or none for. A zone
            that already is a WattTime region (`CAISO_NORTH`) stands for itself.
    """

    name = "watttime"
    kind = KIND
    revised_for = timedelta(days=2)

    def __init__(
        self,
        clock: Clock,
        user: str,
        password: str,
        *,
        regions: Mapping[str, str] | None = None,
        base_url: str = BASE_URL,
        total_s: float = TOTAL_S,
    ) -> None:
        self._clock = clock
        self._basic = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        self._regions = dict(regions or {})
        self._http = JsonClient(base_url, private=base_url != BASE_URL, total_s=total_s)
        self._lock = threading.Lock()  # one login for all zones
        self._token = ""
        self._token_until: datetime | None = None

    def zones(self) -> None:
        return None

    def issue(self, zone: str, now: datetime) -> Series:
        region = self._region(zone)
        now = utc(now)
        params = {"region": region, "signal_type": SIGNAL, "horizon_hours": str(HORIZON_H)}
        body = self._get(zone, "/v3/forecast", params)
        records, meta = rows_at(zone, body, "data"), _meta(zone, body)
        step_s, starts = _step_s(zone, meta), [epoch_s(r.get("point_time")) for r in records]
        kept = not_over(zone, starts, step_s, now)
        answer = _answer(zone, region, meta, starts[kept], records[kept], Quality.FORECAST, step_s)
        origin = Origin(KIND, self.name, issued(meta.get("generated_at"), now), now, ATTRIBUTION)
        return validate(zone, answer, origin, now=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        checked_range(start, end)
        region = self._region(zone)
        now = utc(self._clock.now())
        meta: Mapping[str, Any] = {}

        def ask(a: datetime, b: datetime) -> list[Row]:
            nonlocal meta
            last = b - timedelta(seconds=1)  # both ends are inclusive
            params = {
                "region": region,
                "signal_type": SIGNAL,
                "start": iso(a),
                "end": last.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            body = self._get(zone, "/v3/historical", params)
            piece, meta = rows_at(zone, body, "data"), _meta(zone, body)
            return piece

        records = gathered(start, min(utc(end), now), _CHUNK, ask, lambda row: epoch_s(row.get("point_time")))
        if not records:
            raise nothing_from(zone, start, end)
        step_s = _step_s(zone, meta)
        starts = [epoch_s(r.get("point_time")) for r in records]
        records, starts = past_periods(zone, records, starts, step_s, start, end, now)
        answer = _answer(zone, region, meta, starts, records, Quality.MEASURED, step_s)
        return validate(zone, answer, Origin(KIND, self.name, now, now, ATTRIBUTION))

    def close(self) -> None:
        self._http.close()

    def _region(self, zone: str) -> str:
        """The WattTime region of a zone; several are no answer, since their rates differ."""
        checked_zone(zone)
        if zone in self._regions:
            return self._regions[zone]
        named = {r.watttime_region for r in cloud_regions() if r.watttime_region}
        if zone in named:
            return zone
        regions = sorted({r.watttime_region for r in cloud_regions() if r.zone == zone and r.watttime_region})
        if len(regions) == 1:
            return regions[0]
        cause = (
            f"the zone lies in {len(regions)} WattTime regions ({', '.join(regions)})"
            if regions
            else "no WattTime region"
        )
        raise UnknownZone(zone, cause, f"Name one in {REGIONS_VARIABLE}, as {zone}=REGION.")

    def _get(self, zone: str, path: str, params: Mapping[str, str]) -> Any:
        """One renewal of the token for one refusal: it may have ended early."""
        try:
            return self._http.get(zone, path, params, self._bearer(zone))
        except NotEntitled as refusal:
            if " answers 401" not in refusal.cause:
                raise NotEntitled(
                    zone, refusal.cause, "The plan does not include this region: see /v3/my-access."
                ) from None
            with self._lock:
                self._token_until = None
            return self._http.get(zone, path, params, self._bearer(zone))

    def _bearer(self, zone: str) -> dict[str, str]:
        with self._lock:
            now = utc(self._clock.now())
            if self._token_until is None or not now < self._token_until:
                body = self._http.get(zone, "/login", None, {"Authorization": f"Basic {self._basic}"})
                token = body.get("token") if isinstance(body, dict) else None
                if not isinstance(token, str) or not token:
                    raise NotEntitled(zone, "WattTime gave no token", "Check user and password.")
                self._token, self._token_until = token, now + _TOKEN_FOR
            return {"Authorization": f"Bearer {self._token}"}


def _meta(zone: str, body: Any) -> Mapping[str, Any]:
    meta = body.get("meta")
    if not isinstance(meta, dict):
        raise ForecastInvalid(zone, InvalidReason.MALFORMED, "the answer has no meta: its unit and step are unknown")
    return meta


def _step_s(zone: str, meta: Mapping[str, Any]) -> float:
    step = meta.get("data_point_period_seconds")
    if isinstance(step, bool) or not isinstance(step, int | float) or not 60 <= step <= 86_400:
        raise ForecastInvalid(zone, InvalidReason.MALFORMED, "meta.data_point_period_seconds is no length of a period")
    return float(step)


def _answer(
    zone: str,
    region: str,
    meta: Mapping[str, Any],
    starts: list[float],
    records: list[Row],
    quality: Quality,
    step_s: float,
) -> Answer:
    answered_for = meta.get("region")
    if answered_for != region:
        raise ForecastInvalid(zone, InvalidReason.WRONG_ZONE, f"the answer is for {str(answered_for)[:64]!r}")
    if meta.get("signal_type", SIGNAL) != SIGNAL:
        raise ForecastInvalid(
            zone, InvalidReason.WRONG_UNIT, f"the answer's signal is {str(meta['signal_type'])[:32]!r}"
        )
    unit = meta.get("units")
    return Answer(
        None,
        unit if isinstance(unit, str) else "(none)",
        starts,
        [r.get("value") for r in records],
        quality,
        step_s=step_s,
    )


def _open(clock: Clock, _: Path | None, env: Environment) -> Provider:
    regions = declared_pairs(env, REGIONS_VARIABLE, "ZONE=REGION")
    return WattTimeProvider(clock, env[USER_VARIABLE], env[PASSWORD_VARIABLE], regions=regions)


SPEC = ProviderSpec(
    name=WattTimeProvider.name,
    about="marginal, five-minute forecast of 72 h",
    open=_open,
    kind=KIND,
    required=(USER_VARIABLE, PASSWORD_VARIABLE),
    optional=(REGIONS_VARIABLE,),
    key=Key.YES,
)
