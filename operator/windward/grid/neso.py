"""Great Britain without a key: the Carbon Intensity API of the National Energy System Operator (NESO).

What it counts: CO2 of electricity generation only, at the plant (nuclear, wind, solar and hydro count 0, biomass 120
g/kWh), per kWh consumed in Great Britain, with interconnector imports and network losses. So: average, direct,
consumption; never to be compared with life-cycle values. Source: Bruce et al., "Carbon Intensity Forecast
Methodology", NESO, May 2024. Northern Ireland is not included. Data: CC BY 4.0.
Skill: mean absolute error 24 g/kWh over 1.3 million archived forecasts (nmpowell, 2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from windward.domain.clock import Clock, utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.http import TOTAL_S, JsonClient
from windward.grid.port import ForecastInvalid, InvalidReason, UnknownZone, checked_range, checked_zone
from windward.grid.provider_spec import ProviderSpec
from windward.grid.validate import Answer, Origin, validate
from windward.grid.wire import Row, epoch_s, gathered, nothing_from

BASE_URL = "https://api.carbonintensity.org.uk"
ATTRIBUTION = "National Energy System Operator (NESO) Carbon Intensity API, CC BY 4.0"
KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
ZONE = "GB"

_HALF_HOUR_S = 1800
_CHUNK = timedelta(days=14)  # the documented limit of one request


class NesoProvider:
    """Forecast and history of zone GB, half hour by half hour.

    Args:
        clock: tells what already lies in the past when history is asked for.
        base_url: for tests only; another host than NESO's may be on this machine.
        total_s: time limit of one request with its retries; `history` makes one request per 14 days.
    """

    name = "neso"
    kind = KIND
    revised_for = timedelta(days=1)

    def __init__(self, clock: Clock, *, base_url: str = BASE_URL, total_s: float = TOTAL_S) -> None:
        self._clock = clock
        self._http = JsonClient(base_url, private=base_url != BASE_URL, total_s=total_s)

    def zones(self) -> tuple[str, ...]:
        return (ZONE,)

    def issue(self, zone: str, now: datetime) -> Series:
        """The newest forecast: nominally 48 hours, on some days only until 23:00 today.

        NESO names no issue time, so it is the time of asking. Half hours that ended before `now` are cut off.
        """
        _check_zone(zone)
        now = utc(now)
        rows = self._rows(zone, f"/intensity/{_inside(now)}/fw48h")
        now_s = now.timestamp()
        # Rows without a readable time stay in: the validator shall refuse them, not this filter hide them.
        kept = [row for row in rows if not epoch_s(row.get("to")) <= now_s]
        if rows and not kept:
            raise ForecastInvalid(zone, InvalidReason.PAST_ONLY, f"{len(rows)} half hours, all of them over")
        values = [_intensity(row, "forecast") for row in kept]
        origin = Origin(KIND, self.name, now, now, ATTRIBUTION)
        return validate(zone, _answer(kept, values, [Quality.FORECAST] * len(kept)), origin, now=now)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """Half hours that are over.

        Where NESO has no `actual` (the newest half hours, rare gaps) its own last `forecast` for that half hour stands,
        marked `estimated`: an estimate of the provider, known as one, is better than a hole, and accounting can see it.
        Actuals are revised for about a day (api-definitions issue 11), so settle later than that.
        """
        checked_range(start, end)
        _check_zone(zone)
        now = utc(self._clock.now())
        end = min(utc(end), now)
        half_hours = gathered(
            start,
            end,
            _CHUNK,
            lambda a, b: self._rows(zone, f"/intensity/{_inside(a)}/{_inside(b)}"),
            lambda row: epoch_s(row.get("from")),
        )
        rows = [row for row in half_hours if not _is_outside(row, utc(start), end, now)]
        if not rows:
            raise nothing_from(zone, start, end)
        values, quality = [], []
        for row in rows:
            actual = _intensity(row, "actual")
            values.append(_intensity(row, "forecast") if actual is None else actual)
            quality.append(Quality.ESTIMATED if actual is None else Quality.MEASURED)
        return validate(zone, _answer(rows, values, quality), Origin(KIND, self.name, now, now, ATTRIBUTION))

    def close(self) -> None:
        self._http.close()

    def _rows(self, zone: str, path: str) -> list[Row]:
        body = self._http.get(zone, path)
        data = body.get("data", []) if isinstance(body, dict) else None
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise ForecastInvalid(zone, InvalidReason.MALFORMED, "the answer is not {data: [...]}")
        if not data:
            raise ForecastInvalid(zone, InvalidReason.EMPTY, "the answer holds no half hour")
        return data


def _check_zone(zone: str) -> None:
    if checked_zone(zone) != ZONE:
        raise UnknownZone(zone, "NESO covers Great Britain only", "Use zone GB, or another provider for this zone.")


def _inside(moment: datetime) -> str:
    """A minute inside the half hour that contains `moment`.

    Asked for a boundary, the API also returns the half hour that ends there (19:30 to 20:00 returned 19:00 to 19:30,
    api-definitions issue 17); a minute later there is nothing to misunderstand.
    """
    floor = moment.timestamp() // _HALF_HOUR_S * _HALF_HOUR_S + 60
    return datetime.fromtimestamp(floor, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _is_outside(row: Row, start: datetime, end: datetime, now: datetime) -> bool:
    """Whether a half hour does not overlap [start, end), or is not over; False for times that cannot be read."""
    row_start, row_end = epoch_s(row.get("from")), epoch_s(row.get("to"))
    if row_start != row_start or row_end != row_end:
        return False
    return row_end <= start.timestamp() or row_start >= end.timestamp() or row_end > now.timestamp()


def _answer(rows: Sequence[Row], values: list[object], quality: list[Quality]) -> Answer:
    starts, ends = ([epoch_s(row.get(key)) for row in rows] for key in ("from", "to"))
    # National answers name no zone; the unit is documented, not sent.
    return Answer(None, "gCO2/kWh", starts, values, quality, ends=ends)


def _intensity(row: Row, field: str) -> object:
    intensity = row.get("intensity")
    return intensity.get(field) if isinstance(intensity, dict) else None


SPEC = ProviderSpec(
    name=NesoProvider.name,
    about="Great Britain, half-hourly forecast of 48 h, no key",
    open=lambda clock, _, __: NesoProvider(clock),
    kind=KIND,
)
