"""Our own forecast inside the cache: where there is none, beyond the end of one, and never in another's place."""

import itertools
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.clock import FixedClock
from windward.domain.forecast import Freshness
from windward.domain.series import Quality, Series
from windward.grid.ahead import REACH, Ahead
from windward.grid.cache import Grid
from windward.grid.port import ForecastInvalid, NoForecast, Unreachable
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


def torn(series, *hours):
    """The series without the periods that start in these hours."""
    starts = {h.timestamp() for h in hours}
    bounds = [-1, *(i for i, t in enumerate(series.edges[:-1].tolist()) if t in starts), len(series.quality)]
    parts = [series.part(a + 1, b) for a, b in itertools.pairwise(bounds) if a + 1 < b]
    return Series.of_stretches(parts)


HOLE = datetime(2022, 6, 1, 15, tzinfo=UTC)
LONG_AGO = datetime(2022, 4, 22, 3, tzinfo=UTC)


class Torn(Source):
    """As `Source`, with hours missing in issue or history."""

    def __init__(self, horizon=None, issue=(), history=()):
        super().__init__(horizon)
        self.lost = {"issue": issue, "history": history}

    def issue(self, zone, now):
        return torn(super().issue(zone, now), *self.lost["issue"])

    def history(self, zone, start, end):
        return torn(super().history(zone, start, end), *self.lost["history"])


def asked(source, now=NOW, **options):
    made = grid(source) if not options else Grid(source, MemoryLedger(), dice=random.Random(0), **options)
    made.refresh(["DE"], now)
    return made.forecasts(["DE"], now)["DE"]


def test_an_hour_missing_ahead_is_ours_and_all_others_stay_the_providers():
    whole, f = asked(Source(48 * HOUR)), asked(Torn(48 * HOUR, issue=[HOLE]))
    assert f.freshness is Freshness.LIVE and f.series.covers(NOW, NOW + REACH - HOUR)
    assert f.series.quality_over(HOLE, HOLE + HOUR) == (Quality.ESTIMATED,)
    behind = (HOLE + HOUR, HOLE + 24 * HOUR)
    assert set(f.series.quality_over(*behind)) == {Quality.FORECAST}
    assert f.series.mean(*behind) == pytest.approx(whole.series.mean(*behind), abs=0.02 * 400)
    assert "The issue of DE lacks 2022-06-01T15:00Z to 2022-06-01T16:00Z" in f.holes and f.holes in f.detail


@pytest.mark.parametrize("mute", [False, True])
def test_without_a_forecast_of_our_own_the_issue_ends_at_its_hole_and_says_so(mute):
    source = Torn(48 * HOUR, issue=[HOLE])
    source.mute = mute
    f = asked(source) if mute else asked(source, past=timedelta(0))
    assert f.freshness is Freshness.LIVE and f.series.end == HOLE
    assert "The forecast ends there." in f.holes and "2022-06-01T15:00Z" in f.detail


def test_a_young_zone_fills_the_hole_with_the_day_before_and_goes_on():
    source = Torn(24 * HOUR, issue=[HOLE])
    full = source.history
    source.history = lambda zone, start, end: full(zone, max(start, NOW - 3 * 24 * HOUR), end)
    f = asked(source)
    assert f.series.covers(NOW, NOW + 24 * HOUR) and f.series.quality_over(HOLE, HOLE + HOUR) == (Quality.ESTIMATED,)


@pytest.mark.parametrize(
    "lost", [[LONG_AGO], [LONG_AGO + k * HOUR for k in range(5)], [LONG_AGO, LONG_AGO + 500 * HOUR, NOW - 40 * HOUR]]
)
def test_hours_missing_in_the_history_cost_no_forecast_and_are_named(lost):
    whole, f = asked(Source(24 * HOUR)), asked(Torn(24 * HOUR, history=[h.replace(minute=0) for h in lost]))
    assert f.series.end == whole.series.end and f.series.covers(NOW, NOW + REACH - HOUR)
    assert f.band is not None and "own:ridge+analog" in f.series.source
    gap = np.abs(f.series.intensity_g_per_kwh[-100:] - whole.series.intensity_g_per_kwh[-100:])
    assert gap.mean() < 25, "about the same forecast"
    assert "The history of DE lacks 2022-04-22T03:00Z" in f.holes and "the week before" in f.holes


def test_a_hole_of_more_than_a_week_begins_the_history_anew():
    f = asked(Torn(24 * HOUR, history=[LONG_AGO - (33 * 24 - k) * HOUR for k in range(200)]))
    assert f.series.covers(NOW, NOW + REACH - HOUR) and "2022-03-20T03:00Z to 2022-03-28T11:00Z" in f.holes


def test_where_too_little_is_left_behind_a_hole_the_issue_stands_and_says_why():
    f = asked(Torn(24 * HOUR, history=[LONG_AGO + k * HOUR for k in range(200)]))
    assert f.series.end == datetime(2022, 6, 2, 10, tzinfo=UTC)
    assert "2022-04-22T03:00Z to 2022-04-30T11:00Z" in f.holes


def test_the_newest_hours_missing_are_asked_for_again_and_the_hole_closes():
    source = Torn(history=[HOLE - 30 * HOUR])
    made = grid(source)
    for lost in ([HOLE - 30 * HOUR], []):
        source.lost["history"] = lost
        source.clock.advance(HOUR)
        made.refresh(["DE"], source.clock.now())
        f = made.forecasts(["DE"], source.clock.now())["DE"]
        assert bool(f.holes) is bool(lost)


@pytest.mark.parametrize("shape", ["sine", "flat"])
@pytest.mark.parametrize(
    ("late", "served"),
    [(timedelta(minutes=30), True), (timedelta(hours=30), True), (timedelta(days=6), True), (timedelta(days=8), False)],
)
def test_a_recording_that_ended_feeds_our_own_forecast_for_a_week(tmp_path, late, served, shape):
    end = datetime(2022, 3, 2, tzinfo=UTC)
    hours = [end - k * HOUR for k in range(1440, 0, -1)]
    swing = 150 if shape == "sine" else 0
    rows = [f"{h:%Y-%m-%dT%H:%M:%SZ},{300 + swing * math.sin(h.hour / 24 * 2 * math.pi):.1f}" for h in hours]
    (tmp_path / "DE.csv").write_text("\n".join(["timestamp_utc,carbon_intensity_gco2_kwh", *rows]))
    trace = TraceProvider.open(tmp_path, Source.kind)
    now = end + late
    made = Grid(trace, MemoryLedger(), ahead=Ahead(trace))
    made.refresh(["DE"], now)
    f = made.forecasts(["DE"], now)["DE"]
    if not served:
        assert f.series is None and "ends at 2022-03-02T00:00Z" in f.detail and "Extend the trace" in f.detail
        return
    assert f.freshness is Freshness.LIVE and f.series.covers(now, now + 48 * HOUR)
    assert f.series.source.startswith("own:ridge+analog")
    for k in range(1, 24):
        hour = (now + k * HOUR).replace(minute=0)
        expected = 300 + swing * math.sin(hour.hour / 24 * 2 * math.pi)
        assert f.series.at(hour) == pytest.approx(expected, abs=15), "the daily shape goes on"


def test_a_recording_of_some_hours_says_what_is_needed(tmp_path):
    rows = [f"2022-03-01T{h:02d}:00:00Z,300" for h in range(5)]
    (tmp_path / "DE.csv").write_text("\n".join(["timestamp_utc,carbon_intensity_gco2_kwh", *rows]))
    trace = TraceProvider.open(tmp_path, Source.kind)
    with pytest.raises(ForecastInvalid, match="A day of measured hours is needed"):
        Ahead(trace).own("DE", datetime(2022, 3, 1, 5, 30, tzinfo=UTC))
