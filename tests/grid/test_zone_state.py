"""What is known of a zone: when it is due, how a new issue joins what was known, and how long a failure rests."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from windward.domain.forecast import Freshness
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid import NotEntitled, RateLimited, Unreachable
from windward.grid.ahead import Seen
from windward.grid.backoff import LONGEST, BackOff
from windward.grid.counters import COUNTERS, Counters
from windward.grid.issue_archive import rests_on
from windward.grid.port import ProviderError
from windward.grid.zone_state import ForecastReader, ZoneState

KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
T0 = datetime(2026, 11, 21, 9, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
EVERY = 10 * MINUTE
DOWN = Unreachable("DE", "the wire is cut")
READER = ForecastReader(SimpleNamespace(name="script", kind=KIND), EVERY, 6 * HOUR)


def series(start=T0, values=(1.0, 2.0, 3.0), quality=Quality.FORECAST, **more):
    return Series.regular("DE", KIND, start, HOUR, values, quality=quality, source="script", issued_at=T0, **more)


def taken(issue=None, measured=None, before=None, now=T0):
    return (before or ZoneState()).with_issue(Seen(issue or series()), measured, "v", 24 * HOUR, now)


@pytest.mark.parametrize(
    ("state", "after", "due"),
    [
        (ZoneState(), 0 * MINUTE, True),
        (taken(), 5 * MINUTE, False),
        (taken(), 10 * MINUTE, True),
        (taken(), -5 * MINUTE, True),  # the clock was set back
        (taken(series(values=(1.0,)), now=T0 + 55 * MINUTE), 61 * MINUTE, True),  # its issue is over
        (taken().with_failure(DOWN, T0 + 30 * MINUTE), 29 * MINUTE, False),
        (taken().with_failure(DOWN, T0 + 30 * MINUTE), 30 * MINUTE, True),
        (taken().with_failure(DOWN, T0 + LONGEST + MINUTE), 0 * MINUTE, True),  # no pause is that long
    ],
)
def test_when_a_zone_is_due(state, after, due):
    assert state.is_due(T0 + after, EVERY) is due


def test_an_issue_follows_what_is_known_before_it():
    measured = series(T0 - 2 * HOUR, (8.0, 9.0), Quality.MEASURED)
    state = taken(measured=measured)
    assert state.series.start == T0 - 2 * HOUR and state.issue == series() and state.vintage == "v"
    later = taken(series(T0 + HOUR, (7.0,)), before=state)
    assert later.series.start == T0 - 2 * HOUR and later.series.at(T0) == 1.0 and later.series.end == T0 + 2 * HOUR


def test_no_past_stands_before_an_issue_across_a_hole_or_of_demonstration_data():
    assert taken(measured=series(T0 - 9 * HOUR)).series.start == T0
    assert taken(measured=series(T0 - 3 * HOUR, demo=True)).series.start == T0


def test_a_failure_keeps_what_is_known_and_counts():
    state = taken().with_failure(DOWN, T0).with_failure(DOWN, T0 + HOUR)
    assert (state.failures, state.error, state.not_before) == (2, DOWN, T0 + HOUR) and state.issue == series()
    assert taken(before=state).error is None and taken(before=state).failures == 0
    assert ZoneState.restored(series(), "old").vintage == "old"


@pytest.mark.parametrize(
    ("state", "after", "freshness"),
    [
        (ZoneState(), 0 * HOUR, Freshness.PROVIDER_UNAVAILABLE),
        (taken(), 0 * HOUR, Freshness.LIVE),
        (taken(), HOUR, Freshness.CACHED),
        (taken().with_failure(DOWN, T0), 0 * HOUR, Freshness.CACHED),
        (taken(), 7 * HOUR, Freshness.STALE),
        (taken(series(demo=True)), 0 * HOUR, Freshness.BUNDLED_TRACE),
    ],
)
def test_a_forecast_says_how_far_it_can_be_trusted(state, after, freshness):
    forecast = READER.forecast("DE", state, 5.0, T0 + after)
    assert forecast.freshness is freshness and bool(forecast.detail) is (freshness is not Freshness.LIVE)


def test_a_forecast_names_what_is_odd_about_it():
    flat = READER.forecast("DE", taken(series(values=(4.0, 4.0))), None, T0)
    assert "waiting gains nothing here" in flat.detail
    marginal = replace(series(), kind=replace(KIND, signal=Signal.MARGINAL))
    assert "Declared fallback" in READER.forecast("DE", taken(marginal), None, T0).detail


@pytest.mark.parametrize(
    ("error", "failures", "least_s", "most_s"),
    [
        (DOWN, 1, 15, 45),
        (DOWN, 3, 60, 180),
        (DOWN, 99, 450, 1350),
        (NotEntitled("DE", "no"), 1, 450, 1350),
        (RateLimited("DE", "slowly", retry_after=timedelta(hours=2)), 1, 7200, 7920),
        (RateLimited("DE", "slowly", retry_after=timedelta(days=9)), 1, 21600, 23760),
    ],
)
def test_pauses_grow_and_are_bounded(error, failures, least_s, most_s):
    pauses = [BackOff(random.Random(i)).pause(error, failures) for i in range(200)]
    assert timedelta(seconds=least_s) <= min(pauses) < max(pauses) <= timedelta(seconds=most_s) < LONGEST


def test_errors_are_counted_by_their_kind():
    counters = Counters()
    for error in (DOWN, RateLimited("DE", "x"), ProviderError("DE", "x")):
        counters.count_error(error)
    totals = counters.totals()
    assert set(totals) == set(COUNTERS) and sum(totals.values()) == 3
    assert totals["unreachable"] == totals["rate_limited"] == totals["unexpected"] == 1


@pytest.mark.parametrize(
    ("source", "provider", "rests"),
    [
        ("neso", "neso", True), ("own:ridge+analog:neso", "neso", True), ("trace:2022", "neso", False),
        ("a", "a+b", True), ("own:analog:neso2", "neso", False),
    ],
)  # fmt: skip
def test_whose_issue_it_is(source, provider, rests):
    assert rests_on(source, provider) is rests
