"""The cache: one zone's trouble stays its own, and nothing that fails blocks a plan."""

import random
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from windward.domain.forecast import Freshness
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid import (
    ForecastInvalid,
    Grid,
    InvalidReason,
    NotEntitled,
    ProviderError,
    RateLimited,
    TraceProvider,
    UnknownZone,
    Unreachable,
)
from windward.grid.counters import COUNTERS

KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
T0 = datetime(2026, 11, 21, 9, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DOWN = Unreachable("DE", "the wire is cut")


def values(start, count, lift=0.0):
    return [100 + (start - T0) / HOUR + k + lift for k in range(count)]


class Script:
    """A provider that does as it is told: `answers[zone]` is an error to raise, or None for a good issue."""

    name = "script"
    kind = KIND

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.past = None  # or an error to raise
        self.hours = 24
        self.lift = 0.0

    def zones(self):
        return None

    def issue(self, zone, now):
        self.asked.append(zone)
        answer = self.answers.get(zone)
        if isinstance(answer, BaseException):
            raise answer
        start = now.replace(minute=0, second=0, microsecond=0)
        return self.series(zone, start, values(start, self.hours, self.lift), Quality.FORECAST, now)

    def history(self, zone, start, end):
        if isinstance(self.past, BaseException):
            raise self.past
        first = start.replace(minute=0, second=0, microsecond=0)
        count = int(-((first - end) // HOUR))
        return self.series(zone, first, values(first, count, 0.5), Quality.MEASURED, end)

    def series(self, zone, start, numbers, quality, issued):
        return Series.regular(zone, KIND, start, HOUR, numbers, quality=quality, source=self.name, issued_at=issued)


class Shelf:
    """An archive in a list."""

    def __init__(self):
        self.kept = []
        self.broken = False

    def archive(self, series):
        if self.broken:
            raise OSError("disk full")
        if series not in self.kept:
            self.kept.append(series)
        return f"v{self.kept.index(series)}"

    def issues(self, zone, kind, start, end):
        if self.broken:
            raise OSError("disk full")
        return [s for s in self.kept if (s.zone, s.kind) == (zone, kind) and s.end > start and s.start < end]


@pytest.fixture
def provider():
    return Script()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def grid(provider, shelf):
    return Grid(provider, shelf, dice=random.Random(1))


def one(grid, now, zone="DE"):
    return grid.forecasts([zone], now)[zone]


def test_before_the_first_refresh_nothing_is_known(grid, provider):
    forecast = one(grid, T0)
    assert forecast.series is None and forecast.freshness is Freshness.PROVIDER_UNAVAILABLE
    assert forecast.detail == "script was not asked yet for DE."
    assert provider.asked == []


def test_a_forecast_carries_the_recent_past_and_the_age_of_its_issue(grid, shelf):
    now = T0 + 20 * MINUTE
    grid.refresh(["DE"], now)
    forecast = one(grid, now)
    assert (forecast.freshness, forecast.vintage, forecast.detail) == (Freshness.LIVE, "v0", "")
    assert (forecast.series.start, forecast.series.end) == (T0 - 24 * HOUR, T0 + 24 * HOUR)
    assert forecast.series.quality == (Quality.MEASURED,) * 24 + (Quality.FORECAST,) * 24
    assert forecast.series.at(now) == 100
    assert forecast.series.issued_at == now and forecast.age(now + HOUR) == HOUR
    assert shelf.kept[0].start == T0  # the issue alone is archived: what the provider said


def test_no_history_costs_only_the_past(grid, provider):
    provider.past = DOWN
    grid.refresh(["DE"], T0)
    assert one(grid, T0).series.start == T0
    grid.refresh(["DE"], T0 + 2 * HOUR)
    assert one(grid, T0 + 2 * HOUR).series.covers(T0, T0 + 26 * HOUR)  # from now on it remembers


def test_the_past_is_bounded(grid):
    for k in range(80):
        grid.refresh(["DE"], T0 + k * HOUR)
    series = one(grid, T0 + 79 * HOUR).series
    assert series.start == T0 + (79 - 24) * HOUR and len(series.quality) == 48


def test_a_zone_is_not_asked_again_before_it_is_due(grid, provider):
    for k in range(31):
        grid.refresh(["DE"], T0 + k * MINUTE)
    assert len(provider.asked) == 4  # at 0, 10, 20 and 30 minutes


# freshness as time passes after one good issue of 24 hours
AGES = [
    (0, True, Freshness.LIVE),
    (20 / 60, True, Freshness.LIVE),
    (21 / 60, True, Freshness.CACHED),
    (0.1, False, Freshness.CACHED),
    (6, False, Freshness.CACHED),
    (6.01, False, Freshness.STALE),
    (30, False, Freshness.STALE),
    (-30, True, Freshness.STALE),
]


@pytest.mark.parametrize(("hours", "healthy", "expected"), AGES)
def test_freshness(grid, provider, hours, healthy, expected):
    grid.refresh(["DE"], T0)
    now = T0 + hours * HOUR
    if not healthy:
        provider.answers["DE"] = DOWN
        grid.refresh(["DE"], T0 + 11 * MINUTE)
    forecast = one(grid, now)
    assert forecast.freshness is expected
    assert forecast.freshness.usable == (expected is not Freshness.STALE)
    assert healthy or "the wire is cut" in forecast.detail
    assert forecast.series is not None


ERRORS = [
    (Unreachable("DE", "the wire is cut"), "unreachable"),
    (RateLimited("DE", "too many"), "rate_limited"),
    (NotEntitled("DE", "401"), "not_entitled"),
    (UnknownZone("DE", "no such zone"), "unknown_zone"),
    (ForecastInvalid("DE", InvalidReason.GAP, "a gap"), "invalid"),
    (KeyError("a bug of ours"), "unexpected"),
]


@pytest.mark.parametrize(("error", "counter"), ERRORS, ids=[counter for _, counter in ERRORS])
def test_a_zones_trouble_is_its_own_and_its_last_good_issue_stays(grid, provider, error, counter):
    zones = ["DE", "FR", "PL"]
    grid.refresh(zones, T0)
    before = one(grid, T0).series
    provider.answers["DE"] = error
    now = T0 + HOUR
    grid.refresh(zones, now)
    forecasts = grid.forecasts(zones, now)
    assert forecasts["DE"].series == before and forecasts["DE"].freshness is Freshness.CACHED
    assert forecasts["FR"].freshness is forecasts["PL"].freshness is Freshness.LIVE
    assert list(grid.errors()) == ["DE"]
    assert isinstance(grid.errors()["DE"], ProviderError)
    assert grid.counters()[counter] == 1 and grid.counters()["refreshed"] == 5
    provider.answers["DE"] = None
    grid.refresh(zones, now + HOUR)
    assert grid.errors() == {} and one(grid, now + HOUR).freshness is Freshness.LIVE


def attempts(grid, provider, minutes):
    """At which minutes a provider that always fails is asked, if the caller refreshes every minute."""
    asked = []
    for k in range(minutes):
        before = len(provider.asked)
        grid.refresh(["DE"], T0 + k * MINUTE)
        asked += [k] * (len(provider.asked) - before)
    return asked


@pytest.mark.parametrize(
    ("error", "low", "high"),
    [
        (DOWN, 15, 30),
        (ForecastInvalid("DE", InvalidReason.EMPTY, "nothing"), 15, 30),
        (NotEntitled("DE", "401"), 10, 32),
        (RateLimited("DE", "429", retry_after=HOUR), 3, 5),
        (RateLimited("DE", "429", retry_after=30 * 24 * HOUR), 1, 1),
        (RateLimited("DE", "429"), 15, 30),
    ],
)
def test_the_pauses_between_attempts_grow(provider, shelf, error, low, high):
    provider.answers["DE"] = error
    asked = attempts(Grid(provider, shelf, dice=random.Random(5)), provider, 240)
    assert low <= len(asked) <= high


def test_the_first_pause_is_short_and_the_longest_is_bounded(provider, shelf):
    provider.answers["DE"] = DOWN
    asked = attempts(Grid(provider, shelf, dice=random.Random(5)), provider, 240)
    pauses = [b - a for a, b in pairwise(asked)]
    assert pauses[0] <= 2
    assert 8 <= max(pauses[5:]) <= 23 and min(pauses[5:]) >= 7


def test_a_fleet_does_not_come_back_in_step(provider, shelf):
    provider.answers["DE"] = DOWN
    times = {tuple(attempts(Grid(provider, shelf, dice=random.Random(seed)), provider, 60)) for seed in range(8)}
    assert len(times) == 8


def test_a_clock_set_back_does_not_keep_the_breaker_open(grid, provider):
    provider.answers["DE"] = DOWN
    grid.refresh(["DE"], T0)
    grid.refresh(["DE"], T0 - 30 * 24 * HOUR)
    assert len(provider.asked) == 2


def test_a_clock_set_back_asks_again(grid, provider):
    grid.refresh(["DE"], T0)
    grid.refresh(["DE"], T0 - 5 * HOUR)
    assert len(provider.asked) == 2
    assert one(grid, T0 - 5 * HOUR).series.at(T0 - 5 * HOUR) == 95


def test_a_clock_set_back_within_the_issue_asks_again_too(grid, provider):
    grid.refresh(["DE"], T0 + 50 * MINUTE)
    grid.refresh(["DE"], T0 + 5 * MINUTE)
    assert len(provider.asked) == 2


@pytest.mark.parametrize("change", [{"demo": True}, {"kind": Kind(Signal.MARGINAL, Scope.DIRECT, Basis.PRODUCTION)}])
def test_a_past_of_another_nature_is_not_joined(grid, provider, change):
    honest = provider.history
    provider.history = lambda *asked: replace(honest(*asked), **change)
    grid.refresh(["DE"], T0)
    forecast = one(grid, T0)
    assert forecast.series.start == T0 and not forecast.series.demo and forecast.freshness is Freshness.LIVE


def test_an_archive_that_fails_costs_no_forecast_and_is_tried_again(grid, provider, shelf):
    shelf.broken = True
    grid.refresh(["DE"], T0)
    assert one(grid, T0).freshness is Freshness.LIVE and one(grid, T0).vintage == ""
    shelf.broken = False
    grid.refresh(["DE"], T0 + MINUTE)
    assert one(grid, T0 + MINUTE).vintage == "v0"
    assert len(provider.asked) == 1  # the provider was not asked again for it
    assert grid.counters()["archive_failures"] == 1


def test_a_restart_during_an_outage_goes_on_with_the_archive(grid, provider, shelf):
    grid.refresh(["DE"], T0)
    provider.answers["DE"] = DOWN
    reborn = Grid(provider, shelf)
    now = T0 + 3 * HOUR
    reborn.refresh(["DE"], now)
    forecast = one(reborn, now)
    assert (forecast.freshness, forecast.vintage) == (Freshness.CACHED, "v0")
    assert forecast.series.at(now) == 103
    assert reborn.counters()["restored"] == 1
    assert one(reborn, T0 + 7 * HOUR).freshness is Freshness.STALE
    late = Grid(provider, shelf)
    late.refresh(["DE"], T0 + 30 * HOUR)  # the kept issue does not reach that far
    assert one(late, T0 + 30 * HOUR).freshness is Freshness.PROVIDER_UNAVAILABLE


def test_what_another_provider_archived_is_not_taken(grid, provider, shelf):
    grid.refresh(["DE"], T0)
    provider.name, provider.answers["DE"] = "other", DOWN
    other = Grid(provider, shelf)
    other.refresh(["DE"], T0)
    assert one(other, T0).series is None


def test_a_flat_zone_is_told(grid, provider):
    provider.issue = lambda zone, now: provider.series(zone, T0, [432.0] * 24, Quality.FORECAST, now)
    grid.refresh(["DE"], T0)
    assert "waiting gains nothing" in one(grid, T0).detail


def test_reading_never_waits_for_a_provider(provider, shelf):
    entered, leave = threading.Event(), threading.Event()
    grid = Grid(provider, shelf)
    grid.refresh(["DE"], T0)

    def stuck(zone, now):
        entered.set()
        assert leave.wait(10)
        raise DOWN

    provider.issue = stuck
    asking = threading.Thread(target=grid.refresh, args=(["DE"], T0 + HOUR))
    asking.start()
    assert entered.wait(10)
    assert one(grid, T0 + HOUR).freshness is Freshness.CACHED  # while the other thread hangs
    asked = len(provider.asked)
    grid.refresh(["DE"], T0 + HOUR)  # and nobody asks a second time
    assert len(provider.asked) == asked
    leave.set()
    asking.join(10)
    assert grid.counters()["unreachable"] == 1


def test_the_bundled_trace_is_never_taken_for_live(shelf):
    grid = Grid(TraceProvider.bundled(), shelf)
    grid.refresh(["DE", "XX"], T0)
    forecasts = grid.forecasts(["DE", "XX"], T0)
    assert forecasts["DE"].freshness is Freshness.BUNDLED_TRACE and forecasts["DE"].series.demo
    assert forecasts["DE"].series.covers(T0 - 24 * HOUR, T0 + 48 * HOUR)
    assert forecasts["XX"].freshness is Freshness.PROVIDER_UNAVAILABLE and "does not hold" in forecasts["XX"].detail
    assert one(grid, T0 + 60 * HOUR).freshness is Freshness.STALE


# -- accounting ------------------------------------------------------------------------------------------------------


def accounts(provider, shelf):
    return Grid(provider, shelf, dice=random.Random(1), background=False)


def test_actuals_come_from_history(provider, shelf):
    known = accounts(provider, shelf).measured("DE", T0 - 3 * HOUR, T0, T0).series
    assert known.covers(T0 - 3 * HOUR, T0) and set(known.quality) == {Quality.MEASURED}


def test_what_history_lacks_comes_from_the_newest_issue_and_says_so(provider, shelf):
    grid = accounts(provider, shelf)
    grid.refresh(["DE"], T0)
    provider.lift = 50
    grid.refresh(["DE"], T0 + 2 * HOUR)
    provider.history = lambda zone, start, end: provider.series(zone, T0, [1.0], Quality.MEASURED, T0 + HOUR)
    known = grid.measured("DE", T0, T0 + 4 * HOUR, T0 + 2 * HOUR).series
    assert known.intensity_g_per_kwh.tolist() == [1.0, 101.0, 152.0, 153.0]
    assert known.quality == (Quality.MEASURED,) + (Quality.FORECAST,) * 3


def test_actuals_during_an_outage(provider, shelf):
    grid = accounts(provider, shelf)
    grid.refresh(["DE"], T0)
    provider.past = DOWN
    known = grid.measured("DE", T0, T0 + 2 * HOUR, T0 + HOUR).series
    assert known.intensity_g_per_kwh.tolist() == [100, 101] and set(known.quality) == {Quality.FORECAST}
    assert not grid.measured("DE", T0, T0 + 99 * HOUR, T0 + HOUR).series.covers(T0, T0 + 99 * HOUR)
    nothing = grid.measured("DE", T0 - 9 * HOUR, T0 - 8 * HOUR, T0 + HOUR)
    assert nothing.series is None and not nothing.pending


def test_counters_are_named(grid):
    assert tuple(grid.counters()) == COUNTERS and set(grid.counters().values()) == {0}


def test_a_refresh_can_be_asked_for_without_waiting_for_it(grid, provider):
    entered, leave, done = threading.Event(), threading.Event(), threading.Event()
    issue = provider.issue

    def slow(zone, now):
        entered.set()
        leave.wait(10)
        return issue(zone, now)

    provider.issue = slow
    grid.refresh_soon(["DE"], T0, done.set)
    assert entered.wait(5)
    began = time.monotonic()
    for _ in range(50):
        grid.refresh_soon(["DE", "FR"], T0)
    assert time.monotonic() - began < 0.5 and one(grid, T0).series is None
    assert sum(t.name == "forecasts" for t in threading.enumerate()) == 1, "one thread, however often it is asked for"
    leave.set()
    assert done.wait(5)
    assert one(grid, T0).freshness is Freshness.LIVE
