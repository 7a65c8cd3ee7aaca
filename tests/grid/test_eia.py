"""EIA-930: every fuel code has its place, and history comes in pieces that overlap by nothing."""

import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from grid.services import Answer, Server, query

from windward.domain.clock import FixedClock
from windward.domain.forecast import Freshness
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.eia import FACTORS_G_PER_KWH, STORAGE, EiaProvider
from windward.grid.port import ForecastInvalid, InvalidReason
from windward.ledger import MemoryLedger

NOW = datetime(2026, 3, 1, 12, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# All codes of fuel-type-data: what generates with a factor, what only stores, and what is unknown.
GENERATES = {"COL", "GEO", "NG", "NUC", "OIL", "SNB", "SUN", "WAT", "WND", "WNB"}
STORES = {"BAT", "OES", "PS", "UES"}
UNKNOWN = {"OTH", "UNK"}


class Service:
    """A faultless service; both ends of a range belong to it, or only the first."""

    def __init__(self, fuels, *, exclusive=False, lost=(), nulls=(), until=NOW):
        self.fuels, self.exclusive, self.lost, self.nulls, self.until = fuels, exclusive, lost, nulls, until
        self.server = Server(self.reply)
        self.provider = EiaProvider(FixedClock(NOW), "key", base_url=self.server.url)

    def reply(self, path):
        asked = query(path)
        start, end = (datetime.fromisoformat(f"{asked[k]}:00+00:00") for k in ("start", "end"))
        rows = []
        while start < end or (start == end and not self.exclusive):
            if start <= self.until and start not in self.lost:
                for fuel, megawatt_hours in self.fuels(start).items():
                    value = None if (start, fuel) in self.nulls else str(round(megawatt_hours))
                    rows.append(
                        {"period": f"{start:%Y-%m-%dT%H}", "respondent": "CISO", "fueltype": fuel, "value": value}
                    )
            start += HOUR
        return Answer(json.dumps({"response": {"data": rows}}).encode())

    def history(self, span):
        try:
            return self.provider.history("US-CAL-CISO", NOW - span, NOW)
        finally:
            self.server.close()

    def forecast(self):
        grid = Grid(self.provider, MemoryLedger(), ahead=Ahead(self.provider))
        try:
            grid.refresh(["US-CAL-CISO"], NOW)
            return grid.forecasts(["US-CAL-CISO"], NOW)["US-CAL-CISO"]
        finally:
            self.server.close()


def mix(hour):
    sun = max(0.0, 6000 * math.sin((hour.hour - 14) / 24 * 2 * math.pi))
    return {"NG": 5000 + 1000 * math.sin(hour.hour), "COL": 1500, "NUC": 2200, "WND": 1500, "SUN": sun}


def test_every_fuel_code_generates_or_stores_or_is_unknown():
    assert set(FACTORS_G_PER_KWH) == GENERATES and set(STORAGE) == STORES
    assert not (GENERATES & STORES) and not ((GENERATES | STORES) & UNKNOWN)


@pytest.mark.parametrize(
    ("fuels", "expected"),
    [
        ({"NG": 5000, "SUN": 3000}, 310.375),
        ({"NG": 5000, "SNB": 3000}, 310.375),  # solar with a battery of its own is solar
        ({"NG": 5000, "WND": 3000}, 297.625),
        ({"NG": 5000, "WNB": 3000}, 297.625),
        *(({"NG": 5000, code: 3000}, 469.0) for code in sorted(STORES)),
        ({"NG": 5000, "OTH": 500}, 469.0),
        ({"NG": 5000, "SNB": -20}, 469.0),  # what charges by night is no generation
    ],
)
def test_solar_and_wind_with_storage_are_generation_and_storage_alone_is_none(fuels, expected):
    assert Service(lambda _: fuels).history(5 * HOUR).intensity_g_per_kwh[0] == pytest.approx(expected)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("days", [1, 14, 15, 29, 120])
def test_history_asked_for_in_pieces_overlaps_by_nothing(days, exclusive):
    past = Service(mix, exclusive=exclusive).history(days * DAY)
    assert not past.gaps and past.end == NOW.replace(minute=0)
    assert past.start <= NOW - days * DAY < past.start + HOUR


LOST = datetime(2026, 2, 3, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "fault", [{"lost": [LOST]}, {"nulls": [(LOST, "COL")]}, {"lost": [LOST + k * HOUR for k in range(5)]}]
)
def test_hours_missing_in_120_days_cost_themselves_alone(fault):
    forecast = Service(mix, until=NOW - 20 * HOUR, **fault).forecast()
    assert forecast.freshness is Freshness.LIVE and forecast.series.covers(NOW, NOW + 7 * DAY)
    assert "The history of US-CAL-CISO lacks 2026-02-03T05:00Z" in forecast.holes, "a period is named by its end"
    assert "Measured hours end at 02-28 16:00Z" in forecast.detail


def test_two_weeks_without_any_row_cost_themselves_alone():
    lost = [NOW.replace(minute=0) - 60 * DAY + k * HOUR for k in range(14 * 24)]
    past = Service(mix, lost=lost).history(120 * DAY)
    assert len(past.gaps) == 1 and len(past.stretches) == 2


def test_generation_of_unknown_kind_is_named_as_the_cause():
    with pytest.raises(ForecastInvalid, match="of a fuel without a factor") as refusal:
        Service(lambda _: {"NG": 4000, "OTH": 1000}).history(5 * HOUR)
    assert refusal.value.reason is InvalidReason.EMPTY


def test_another_unit_of_generation_is_refused():
    service = Service(mix)

    def in_gigawatt_hours(path):
        body = json.loads(service.reply(path).body)
        for row in body["response"]["data"]:
            row["value-units"] = "gigawatthours"
        return Answer(json.dumps(body).encode())

    server = Server(in_gigawatt_hours)
    provider = EiaProvider(FixedClock(NOW), "key", base_url=server.url)
    with pytest.raises(ForecastInvalid, match="gigawatthours") as refusal:
        provider.history("US-CAL-CISO", NOW - 5 * HOUR, NOW)
    assert refusal.value.reason is InvalidReason.WRONG_UNIT
    server.close(), service.server.close()
