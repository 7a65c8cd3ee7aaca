"""Holes in a history are filled for learning, by what was a week before; long work is planned on flat days."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.forecast import Forecast, Freshness
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.forecasting import filled, flat_days
from windward.service.planned import lengthened, needed_until

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def hours(first, stop, step=HOUR):
    """Hour k has the value k; a week before it is k - 168."""
    values = np.arange(first, stop, step / HOUR)
    start = T0 + first * HOUR
    return Series.regular("DE", KIND, start, step, values, quality=Quality.MEASURED, source="s", issued_at=T0)


@pytest.mark.parametrize(
    ("hole", "shift_h"),
    [((300, 301), 168), ((300, 468), 168), ((200, 220), 168), ((100, 101), 24), ((100, 130), 48), ((60, 108), 48)],
)
def test_a_hole_takes_the_week_before_or_the_days_that_reach(hole, shift_h):
    a, b = hole
    whole = filled(Series.of_stretches([hours(0, a), hours(b, 600)]))
    assert not whole.gaps and whole.start == T0 and whole.end == T0 + 600 * HOUR
    assert whole.intensity_g_per_kwh.tolist() == [*range(a), *(k - shift_h for k in range(a, b)), *range(b, 600)]
    assert set(whole.quality[a:b]) == {Quality.ESTIMATED} and set(whole.quality[:a]) == {Quality.MEASURED}


@pytest.mark.parametrize("hole", [(300, 469), (10, 20), (20, 60)])
def test_where_nothing_reaches_the_history_begins_anew(hole):
    a, b = hole
    whole = filled(Series.of_stretches([hours(0, a), hours(b, 700)]))
    assert whole.start == T0 + b * HOUR and not whole.gaps


def test_a_later_hole_is_filled_from_an_earlier_one_that_was():
    torn = Series.of_stretches([hours(0, 200), hours(210, 370), hours(380, 500)])
    assert filled(torn).at(T0 + 375 * HOUR) == 375 - 168 - 168


def test_five_minutes_are_filled_at_their_own_step():
    step = timedelta(minutes=5)
    torn = Series.of_stretches([hours(0, 200, step), hours(200 + 1 / 12, 210, step)])
    whole = filled(torn)
    assert whole.at(T0 + 200 * HOUR) == pytest.approx(200 - 168) and np.allclose(np.diff(whole.edges), 300)


def test_without_holes_nothing_changes():
    known = hours(0, 50)
    assert filled(known) is known


def test_days_beyond_all_forecasts_are_flat_and_estimated():
    longer = flat_days(hours(0, 48), T0 + 5 * DAY)
    assert longer.end == T0 + 5 * DAY and len(longer.quality) == 48 + 3
    assert longer.mean(T0 + 2 * DAY, T0 + 5 * DAY) == np.mean(range(24, 48))
    assert set(longer.quality[48:]) == {Quality.ESTIMATED}
    assert flat_days(hours(0, 20), T0 + 5 * DAY).end == T0 + 20 * HOUR, "less than a day tells no mean"


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        ([], 0 * DAY),
        ([(4 * HOUR, 2 * DAY)], 2 * DAY),
        ([(4 * HOUR, 30 * DAY)], 7 * DAY),
        ([(8 * DAY, 20 * DAY)], 20 * DAY),
        ([(8 * DAY, 400 * DAY)], 38 * DAY),
        ([(4 * HOUR, 300 * DAY), (100 * DAY, 120 * DAY)], 120 * DAY),
    ],
)
def test_forecasts_reach_a_week_or_as_far_as_long_work_needs(work, expected):
    assert needed_until(((runs, T0 + end) for runs, end in work), T0) == T0 + expected


def test_a_lengthened_forecast_covers_long_work_and_has_few_periods():
    known = Forecast("DE", hours(0, 48), Freshness.LIVE)
    longer = lengthened(known, T0 + 60 * DAY, T0).series
    assert longer.covers(T0, T0 + 60 * DAY) and len(longer.quality) <= 7 * 24 + 54
    assert longer.at(T0 + 3 * DAY + 5 * HOUR) == 24 + 5, "the shape of the day before, for a week"
