"""Energinet, Denmark: the intensity of consumed electricity in five-minute steps, measured and foreseen, without a key.

`CO2EmisProg` is the prognosis, `CO2Emis` what was; grams of CO2 per kWh consumed in a price area, imports traced,
direct emissions. The service answers the newest 100 rows first unless told otherwise, so start, order and number are
always sent. Times in `Minutes5UTC` are UTC without saying so.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import ForecastInvalid, InvalidReason, UnknownZone, checked_range, checked_zone
from windward.grid.provider_spec import ProviderSpec
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import Row, epoch_s, gathered, not_over, past_periods, rows_at

BASE_URL = "https://api.energidataservice.dk"
ATTRIBUTION = "Energinet, Energi Data Service"
KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
AREAS = {"DK-DK1": "DK1", "DK-DK2": "DK2"}

_STEP_S = 300.0
_CHUNK = timedelta(days=7)
_MOST_ROWS = "2500"


class EnerginetProvider:
    """Forecast of the published days and history, five minutes by five minutes."""

    name = "energinet"
    kind = KIND
    revised_for = timedelta(days=2)

    def __init__(self, clock: Clock, *, base_url: str = BASE_URL, total_s: float = TOTAL_S) -> None:
        self._clock = clock
        self._http = JsonClient(base_url, private=base_url != BASE_URL, total_s=total_s)

    def zones(self) -> tuple[str, ...]:
        return tuple(AREAS)

    def issue(self, zone: str, now: datetime) -> Series:
        """The prognosis from the current five minutes on. No issue time is named, so it is the time of asking."""
        area, now = _area(zone), utc(now)
        records = self._rows(zone, "CO2EmisProg", area, now - timedelta(seconds=_STEP_S), now + timedelta(days=3))
        starts = [epoch_s(r.get("Minutes5UTC"), zoneless_utc=True) for r in records]
        kept = not_over(zone, starts, _STEP_S, now)
        answer = _answer(zone, area, records[kept], starts[kept], Quality.FORECAST)
        return validate(zone, answer, Origin(KIND, self.name, now, now, ATTRIBUTION), now=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        checked_range(start, end)
        area, now = _area(zone), utc(self._clock.now())
        records = gathered(
            start,
            min(utc(end), now),
            _CHUNK,
            lambda a, b: self._rows(zone, "CO2Emis", area, a - timedelta(seconds=_STEP_S), b),
            lambda row: epoch_s(row.get("Minutes5UTC"), zoneless_utc=True),
        )
        starts = [epoch_s(r.get("Minutes5UTC"), zoneless_utc=True) for r in records]
        records, starts = past_periods(zone, records, starts, _STEP_S, start, end, now)
        answer = _answer(zone, area, records, starts, Quality.MEASURED)
        return validate(zone, answer, Origin(KIND, self.name, now, now, ATTRIBUTION))

    def close(self) -> None:
        self._http.close()

    def _rows(self, zone: str, dataset: str, area: str, start: datetime, end: datetime) -> list[Row]:
        params = {
            "start": utc(start).strftime("%Y-%m-%dT%H:%M"),
            "end": utc(end).strftime("%Y-%m-%dT%H:%M"),
            "timezone": "UTC",
            "filter": json.dumps({"PriceArea": [area]}, separators=(",", ":")),
            "sort": "Minutes5UTC asc",
            "limit": _MOST_ROWS,
        }
        return rows_at(zone, self._http.get(zone, f"/dataset/{dataset}", params), "records")


def _area(zone: str) -> str:
    if checked_zone(zone) not in AREAS:
        raise UnknownZone(zone, "Energinet covers Denmark's two price areas", f"Use {' or '.join(AREAS)}.")
    return AREAS[zone]


def _answer(zone: str, area: str, records: list[Row], starts: list[float], quality: Quality) -> Answer:
    strange = next((r.get("PriceArea") for r in records if r.get("PriceArea") != area), area)
    if strange != area:
        raise ForecastInvalid(zone, InvalidReason.WRONG_ZONE, f"the answer is for {str(strange)[:64]!r}")
    return Answer(None, "gCO2/kWh", starts, [r.get("CO2Emission") for r in records], quality, step_s=_STEP_S)


SPEC = ProviderSpec(
    name=EnerginetProvider.name,
    about="Denmark, five-minute prognosis, no key",
    open=lambda clock, _, __: EnerginetProvider(clock),
    kind=KIND,
)
