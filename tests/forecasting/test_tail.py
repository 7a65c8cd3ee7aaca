"""Persistence and layering: exact, estimated, and only where nothing better is known."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.series import Basis, Kind, MixedKinds, Quality, Scope, Series, Signal
from windward.forecasting import extend, overlay, same_hour_yesterday

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
T0 = datetime(2022, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def series(values, start=T0, step=HOUR, quality=Quality.FORECAST, zone="DE", source="issue", **more):
    return Series.regular(zone, KIND, start, step, values, quality=quality, source=source, issued_at=start, **more)


def actuals(values, start, step=HOUR):
    return series(values, start, step, Quality.MEASURED, source="history")


def test_a_long_issue_repeats_its_last_day():
    issue = series(range(100, 148))
    longer = extend(None, issue, T0 + 80 * HOUR)
    assert longer.intensity_g_per_kwh.tolist() == [*range(100, 148), *range(124, 148), *range(124, 132)]
    assert longer.quality == (Quality.FORECAST,) * 48 + (Quality.ESTIMATED,) * 32
    assert (longer.source, longer.issued_at) == (issue.source, issue.issued_at)


def test_a_short_issue_takes_the_day_before_from_actuals():
    issue = series([500, 501, 502])  # 00, 01, 02 h
    history = actuals(range(24), T0 - DAY)
    longer = extend(history, issue, T0 + 26 * HOUR)
    # 03 h .. 23 h as yesterday; 24 h, 25 h as the issue's own 00 h, 01 h
    assert longer.intensity_g_per_kwh.tolist() == [500, 501, 502, *range(3, 24), 500, 501]
    assert longer.start == issue.start


def test_actuals_go_before_what_was_issued():
    issue = series(range(100, 130))
    history = actuals([7, 8], T0 + 10 * HOUR)  # arrived after the issue
    longer = extend(history, issue, T0 + 36 * HOUR)
    assert longer.intensity_g_per_kwh[:30].tolist() == issue.intensity_g_per_kwh.tolist()  # the issue is left as it is
    assert longer.intensity_g_per_kwh[30:].tolist() == [106, 107, 108, 109, 7, 8][: 36 - 30]


@pytest.mark.parametrize("until_h", [-5, 0, 29.9, 30])
def test_nothing_is_added_when_not_asked(until_h):
    issue = series(range(30))
    assert extend(None, issue, T0 + until_h * HOUR) is issue


@pytest.mark.parametrize(
    "history",
    [None, actuals(range(10), T0 - 10 * HOUR), actuals(range(24), T0 - 30 * HOUR)],
    ids=["none", "too short", "a hole before the issue"],
)
def test_an_unknown_yesterday_is_not_invented(history):
    issue = series([1, 2, 3])
    assert extend(history, issue, T0 + DAY) is issue


@pytest.mark.parametrize(("until_h", "end_h"), [(48.25, 49), (49, 49), (71.5, 72), (72, 72), (72.01, 73)])
def test_the_last_period_is_whole(until_h, end_h):
    assert extend(None, series(range(48)), T0 + until_h * HOUR).end == T0 + end_h * HOUR


def test_mixed_steps_keep_their_lengths():
    hourly = actuals(range(24), T0 - DAY)
    issue = series(range(60, 72), step=timedelta(minutes=30))  # six hours
    longer = extend(hourly, issue, T0 + 30 * HOUR)
    assert np.diff(longer.edges).tolist() == [1800] * 12 + [3600] * 18 + [1800] * 12
    assert longer.at(T0 + 6 * HOUR) == 6
    assert longer.at(T0 + 24.5 * HOUR) == 61


def test_a_horizon_inside_a_period_cuts_the_day_there():
    hourly = actuals(range(24), T0 - DAY)
    issue = series([90], step=timedelta(minutes=30))
    longer = extend(hourly, issue, T0 + 3 * HOUR)
    assert np.diff(longer.edges).tolist() == [1800, 1800, 3600, 3600]
    assert longer.intensity_g_per_kwh.tolist() == [90, 0, 1, 2]


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_clock_changes_shift_nothing(day):
    issue = series(range(48), day - DAY)  # the local clock jumps inside
    longer = extend(None, issue, day + 2 * DAY)
    for k in range(24):
        assert longer.at(day + DAY + k * HOUR) == longer.at(day + k * HOUR) == 24 + k


def test_kinds_and_zones_are_never_mixed():
    with pytest.raises(MixedKinds):
        extend(series(range(24), T0 - DAY, zone="FR"), series([1]), T0 + DAY)


def test_same_hour_yesterday():
    history = actuals(range(36), T0)  # known until 12 h of the second day
    guess = same_hour_yesterday(history, T0 + 40.5 * HOUR, T0 + 62 * HOUR)
    assert guess.start == T0 + 40 * HOUR and guess.end == T0 + 62 * HOUR
    assert guess.intensity_g_per_kwh.tolist() == [*range(16, 36), 12, 13]
    assert set(guess.quality) == {Quality.ESTIMATED}
    assert (guess.source, guess.issued_at) == ("persistence:history", history.issued_at)


def test_same_hour_yesterday_keeps_what_is_known():
    guess = same_hour_yesterday(actuals(range(36), T0), T0 + 34 * HOUR, T0 + 38 * HOUR)
    assert guess.intensity_g_per_kwh.tolist() == [34, 35, 12, 13]
    assert guess.quality == (Quality.MEASURED,) * 2 + (Quality.ESTIMATED,) * 2


@pytest.mark.parametrize(("values", "now_h", "until_h"), [(range(23), 30, 40), (range(24), -1, 5), (range(24), 30, 30)])
def test_same_hour_yesterday_refuses(values, now_h, until_h):
    with pytest.raises(ValueError):
        same_hour_yesterday(actuals(values, T0), T0 + now_h * HOUR, T0 + until_h * HOUR)


def brute(layers, t):
    return next((v for layer in layers if (v := layer.at(t)) is not None), None)


def test_overlay_agrees_with_asking_each_layer_in_turn():
    dice = np.random.default_rng(3)
    for _ in range(60):
        layers = [
            series(
                dice.uniform(1, 900, dice.integers(1, 12)),
                T0 + timedelta(minutes=int(dice.integers(0, 20)) * 15),
                timedelta(minutes=int(dice.choice([15, 30, 60]))),
                source=f"s{k}",
            )
            for k in range(dice.integers(1, 4))
        ]
        start = T0 + timedelta(minutes=int(dice.integers(0, 300)))
        end = start + timedelta(minutes=int(dice.integers(1, 600)))
        known = overlay(layers, start, end)
        minutes = [start + timedelta(minutes=k) for k in range(int((end - start).total_seconds() // 60))]
        expected = [brute(layers, t) for t in minutes]
        if known is None:
            assert not any(v is not None for v in expected)
            continue
        assert [known.at(t) for t in minutes] == expected, "also behind a hole"


def test_overlay_names_who_contributed():
    a = series([1], attribution="A", source="a")
    b = series([5, 6], attribution="B", source="b", demo=True)
    both = overlay([a, b], T0, T0 + 2 * HOUR)
    assert (both.source, both.attribution, both.demo) == ("a+b", "A; B", True)
    assert overlay([a, b], T0, T0 + HOUR).source == "a"
    assert not overlay([a, b], T0, T0 + HOUR).demo
    assert overlay([], T0, T0 + HOUR) is None
