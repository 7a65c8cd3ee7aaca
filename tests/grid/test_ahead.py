"""Our own forecast inside the cache: where there is none, beyond the end of one, and never in another's place."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.clock import FixedClock
from windward.domain.forecast import Freshness
from windward.domain.series import Quality
from windward.grid.ahead import REACH, Ahead
from windward.grid.cache import Grid
from windward.grid.port import NoForecast, Unreachable
from windward.grid.trace import TraceProvider
from windward.ledger import MemoryLedger

NOW = datetime(2022, 6, 1, 9, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Source:
    """The recorded year as a live service: history to the hour, and an issue of `horizon`, or none."""

    name, kind, revised_for = "live", TraceProvider.bundled().kind, timedelta(days=1)

    def __init__(self, horizon=None):
        self.recording, self.horizon, self.clock = TraceProvider.bundled(), horizon, FixedClock(NOW)
        self.asked, self.mute = [], False

    def zones(self):
        return None

    def issue(self, zone, now):
        if self.horizon is None:
            raise NoForecast(zone, "none is published")
        known = self.recording.history(zone, now, now + self.horizon)
        return replace(
            known, source="live", demo=False, quality=(Quality.FORECAST,) * len(known.quality), issued_at=now
        )

    def history(self, zone, start, end):
        if self.mute:
            raise Unreachable(zone, "no history today")
        self.asked.append((start, end))
        now = self.clock.now().replace(minute=0)
        known = self.recording.history(zone, start, min(end, now))
        return replace(
            known, source="live", demo=False, quality=(Quality.MEASURED,) * len(known.quality), issued_at=now
        )


def grid(source, archive=None):
    return Grid(source, archive or MemoryLedger(), dice=random.Random(0), ahead=Ahead(source))


def test_a_zone_without_a_forecast_gets_ours_and_is_told_so():
    made = grid(Source())
    made.refresh(["DE"], NOW)
    (f,) = made.forecasts(["DE"], NOW).values()
    assert f.freshness is Freshness.LIVE and "Windward" in f.detail
    assert f.series.covers(NOW, NOW + REACH - HOUR)
    ahead = [q for q, edge in zip(f.series.quality, f.series.edges, strict=False) if edge >= NOW.timestamp()]
    assert set(ahead) == {Quality.ESTIMATED}
    assert f.series.source.startswith("own:") and ":live" in f.series.source
    assert f.band is not None and f.band.edges[0] >= f.series.edges[0]


def test_an_issue_is_prolonged_and_its_own_hours_stay_a_forecast():
    source = Source(timedelta(hours=24))
    made = grid(source)
    made.refresh(["DE"], NOW)
    f = made.forecasts(["DE"], NOW)["DE"]
    assert f.series.covers(NOW, NOW + REACH - HOUR) and "From 06-02 10:00Z on" in f.detail
    by_hour = dict(zip(f.series.edges[:-1].tolist(), f.series.quality, strict=True))
    first = NOW.replace(minute=0).timestamp()
    assert by_hour[first + 3600] is Quality.FORECAST and by_hour[first + 48 * 3600] is Quality.ESTIMATED


def test_what_the_provider_said_and_what_was_planned_with_are_both_kept():
    archive = MemoryLedger()
    made = grid(Source(timedelta(hours=24)), archive)
    made.refresh(["DE"], NOW)
    kept = sorted(archive.issues("DE", Source.kind, NOW, NOW + 300 * HOUR), key=lambda issue: issue.end)
    assert len(kept) == 2 and kept[0].source == "live" and kept[1].end > kept[0].end


def test_without_history_the_issue_stands_as_it_came():
    source = Source(timedelta(hours=24))
    source.mute = True
    made = grid(source)
    made.refresh(["DE"], NOW)
    f = made.forecasts(["DE"], NOW)["DE"]
    assert f.series.end == datetime(2022, 6, 2, 10, tzinfo=UTC) and f.freshness is Freshness.LIVE


def test_history_is_asked_for_once_and_then_only_what_is_new():
    source = Source()
    made = grid(source)
    for k in range(6):
        source.clock.advance(HOUR)
        made.refresh(["DE"], NOW + k * HOUR)
    long = [b - a for a, b in source.asked if b - a > timedelta(days=60)]
    assert len(long) == 1 and all(b - a < timedelta(days=4) for a, b in source.asked if b - a <= timedelta(days=60))


def test_an_outage_goes_on_with_what_was_kept():
    source, archive = Source(timedelta(hours=24)), MemoryLedger()
    grid(source, archive).refresh(["DE"], NOW)
    source.issue = lambda zone, now: (_ for _ in ()).throw(Unreachable(zone, "down"))
    again = grid(source, archive)
    again.refresh(["DE"], NOW + HOUR)
    f = again.forecasts(["DE"], NOW + HOUR)["DE"]
    assert f.freshness.usable and np.all(np.isfinite(f.series.intensity_g_per_kwh))
    assert again.counters()["restored"] == 1


@pytest.mark.parametrize("days", [3, 20])
def test_a_young_zone_is_served_with_less_and_says_so(days):
    source = Source()
    source.clock = FixedClock(datetime(2022, 1, 1, 9, tzinfo=UTC) + timedelta(days=days))
    full = source.history

    def short(zone, start, end):
        return full(zone, max(start, datetime(2022, 1, 1, tzinfo=UTC)), end)

    source.history = short
    made = grid(source)
    now = source.clock.now()
    made.refresh(["DE"], now)
    f = made.forecasts(["DE"], now)["DE"]
    assert f.series is not None and f.series.covers(now, now + 48 * HOUR)
    assert f.band is None and "history" in f.detail
