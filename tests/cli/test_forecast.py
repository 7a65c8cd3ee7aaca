"""`windward forecast` shows how good a forecast is, where that is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from windward.cli.forecast import document, strips
from windward.domain.clock import FixedClock
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.trace import TraceProvider
from windward.ledger import MemoryLedger
from windward.simulation.foresight import Foresight, Hindcast

NOW = datetime(2022, 6, 1, 7, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def own():
    """Our own forecast of two zones, and that of a zone that nobody knows."""
    clock = FixedClock(NOW - timedelta(hours=3))
    source = Hindcast(TraceProvider.bundled(), Foresight.OWN, clock)
    grid = Grid(source, MemoryLedger(), ahead=Ahead(source))
    while clock.now() < NOW:
        clock.advance(timedelta(hours=1))
        grid.refresh(["DE", "FR", "XX"], clock.now())
    found = grid.forecasts(["DE", "FR", "XX"], NOW)
    return found | {"DE": replace(found["DE"], error_g_per_kwh=41.6)}  # recorded demonstration hours are not judged


def test_band_error_and_age_are_shown_where_they_are_known(own):
    head, columns, *rows = strips(own, NOW, timedelta(hours=24), timedelta(hours=4), shared=True).splitlines()
    assert head.count("own:ridge+analog") == 1, "each source once, however often it was asked"
    assert columns.split("  ")[-1] == "ERROR" and "80 % IN 24 h" in columns
    by_zone = {row.split()[0]: row for row in rows}
    low, high = (int(x) for x in by_zone["DE"].split()[-2].split("-"))
    assert 0 < low < high and by_zone["DE"].split()[-1] == "42"
    assert "ProviderUnavailable" in by_zone["XX"]


def test_as_data_too(own):
    items = {item["zone"]: item for item in document(own, NOW)["items"]}
    band = items["DE"]["band"]
    assert len(band["edgesEpochSeconds"]) == len(band["quantilesGramsPerKwh"]["0.5"]) + 1
    assert items["DE"]["ageSeconds"] == 0 and items["DE"]["dayAheadErrorGramsPerKwh"] == 41.6
    assert items["XX"]["band"] is None and items["XX"]["ageSeconds"] is None
