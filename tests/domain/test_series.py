"""`Series`: piecewise constant intensity, its arithmetic, and what it refuses to be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from windward.domain.clock import FixedClock, utc
from windward.domain.series import Basis, Kind, MixedKinds, Quality, Scope, Series, Signal
from windward.forecasting.join import joined

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
MARGINAL = Kind(Signal.MARGINAL, Scope.DIRECT, Basis.PRODUCTION)
T0 = datetime(2022, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours(values, start=T0, step=HOUR, **more):
    more = {"zone": "DE", "kind": KIND, "quality": Quality.FORECAST, "source": "test", "issued_at": start} | more
    return Series.regular(more.pop("zone"), more.pop("kind"), start, step, values, **more)


def with_edges(edges, values):
    q = (Quality.MEASURED,) * len(values)
    return Series("DE", KIND, np.array(edges, float), np.array(values, float), q, "test", T0, T0)


@pytest.mark.parametrize(
    ("edges", "values", "told"),
    [
        ([0], [], "for 0 values"),
        ([0, 1], [1, 2], "for 2 values"),
        ([0, 1, 1], [1, 2], "increase"),
        ([0, 2, 1], [1, 2], "increase"),
        ([0, 1], [float("nan")], "finite"),
        ([0, 1], [float("inf")], "finite"),
        ([0, 1], [-0.1], "negative"),
        ([0, float("nan")], [1], "increase"),
    ],
)
def test_refuses(edges, values, told):
    with pytest.raises(ValueError, match=told):
        with_edges(edges, values)


def test_zero_is_a_legal_value():
    assert with_edges([0, 1], [0]).intensity_g_per_kwh[0] == 0


@pytest.mark.parametrize(
    ("at_h", "expected"),
    [(-0.01, None), (0, 100), (0.99, 100), (1, 200), (2.5, 50), (2.999, 50), (3, None)],
)
def test_at_is_half_open(at_h, expected):
    assert hours([100, 200, 50]).at(T0 + at_h * HOUR) == expected


def test_at_takes_any_zone_but_no_naive_time():
    series = hours([100, 200])
    assert series.at((T0 + HOUR).astimezone(timezone(timedelta(hours=5, minutes=45)))) == 200
    with pytest.raises(ValueError, match="naive"):
        series.at(datetime(2022, 3, 1))


@pytest.mark.parametrize(
    ("from_h", "to_h", "mean"),
    [(0, 1, 100), (0, 2, 150), (0.5, 1.5, 150), (0, 3, 350 / 3), (1.75, 2.25, 125)],
)
def test_mean_weighs_by_time(from_h, to_h, mean):
    assert hours([100, 200, 50]).mean(T0 + from_h * HOUR, T0 + to_h * HOUR) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize(("from_h", "to_h"), [(-1, 1), (2, 4), (1, 1), (2, 1)])
def test_mean_of_the_unknown_is_refused(from_h, to_h):
    with pytest.raises(ValueError, match="not within"):
        hours([100, 200, 50]).mean(T0 + from_h * HOUR, T0 + to_h * HOUR)


def test_integral_is_the_sum_over_any_steps():
    dice = np.random.default_rng(7)
    edges = np.cumsum(dice.integers(300, 7200, 40)).astype(float)
    series = with_edges(edges, dice.uniform(0, 900, 39))
    for a, b in np.sort(dice.uniform(edges[0], edges[-1], (50, 2))):
        overlap = np.clip(np.minimum(edges[1:], b) - np.maximum(edges[:-1], a), 0, None)
        expected = float(overlap @ series.intensity_g_per_kwh) / 3600
        assert series.integral(np.array([b]))[0] - series.integral(np.array([a]))[0] == pytest.approx(
            expected, abs=1e-6
        )


@pytest.mark.parametrize(
    ("from_h", "to_h", "expected"),
    [(0, 3, [1, 2, 3]), (0.5, 1.5, [1, 2]), (1, 2, [2]), (-5, 0.1, [1]), (2.9, 9, [3]), (-5, 0, None), (3, 4, None)],
)
def test_clip_keeps_whole_periods(from_h, to_h, expected):
    part = hours([1, 2, 3]).clip(T0 + from_h * HOUR, T0 + to_h * HOUR)
    assert (None if part is None else part.intensity_g_per_kwh.tolist()) == expected
    assert part is None or len(part.edges) == len(part.quality) + 1


@pytest.mark.parametrize(
    ("later_start_h", "values", "end_h"),
    [
        (3, [1, 2, 3, 8, 9], 5),  # touching
        (2, [1, 2, 8, 9], 4),  # overlapping: the later vintage wins
        (1.5, [1, 2, 8, 9], 3.5),  # inside a period: that one is cut
        (0, [8, 9], 2),
        (-1, [8, 9], 1),
    ],
)
def test_joined(later_start_h, values, end_h):
    both = joined(hours([1, 2, 3]), hours([8, 9], T0 + later_start_h * HOUR, source="new"))
    assert both.intensity_g_per_kwh.tolist() == values
    assert both.end == T0 + end_h * HOUR
    assert both.source == "new"
    assert both.at(T0 + later_start_h * HOUR) == 8


def test_joining_refuses_gaps_and_mixtures():
    first = hours([1, 2, 3])
    with pytest.raises(ValueError, match="gap"):
        joined(first, hours([8], T0 + 3.5 * HOUR))
    with pytest.raises(MixedKinds, match=r"average life-cycle consumption.*marginal direct production"):
        joined(first, hours([8], T0 + 3 * HOUR, kind=MARGINAL))
    with pytest.raises(MixedKinds, match="FR"):
        joined(first, hours([8], T0 + 3 * HOUR, zone="FR"))


def test_demonstration_sticks_when_joined():
    assert joined(hours([1], demo=True), hours([2], T0 + HOUR)).demo
    assert joined(hours([1]), hours([2], T0 + HOUR, demo=True)).demo


def test_equal_content_is_equal_and_any_difference_is_not():
    same = hours([1, 2])
    assert same == hours([1, 2]) and hash(same) == hash(hours([1, 2]))
    assert same != "DE"
    for other in (hours([1, 3]), hours([1, 2], zone="FR"), hours([1, 2], step=2 * HOUR), hours([1, 2], demo=True)):
        assert same != other


@pytest.mark.parametrize("day", [datetime(2026, 3, 29), datetime(2026, 10, 25)], ids=["23 h", "25 h"])
def test_local_days_of_another_length_are_only_a_view(day):
    berlin = ZoneInfo("Europe/Berlin")
    start = day.replace(tzinfo=berlin)
    end = (day + timedelta(days=1)).replace(tzinfo=berlin)
    count = round((end.timestamp() - start.timestamp()) / 3600)
    assert count in (23, 25)
    series = hours(range(count), start)
    assert series.end == end
    assert [series.at(utc(start) + k * HOUR) for k in range(count)] == list(range(count))
    assert series.mean(start, end) == pytest.approx((count - 1) / 2)


def test_fixed_clock_never_runs_backwards():
    clock = FixedClock(T0)
    clock.advance(HOUR)
    assert clock.now() == T0 + HOUR
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-HOUR)


def test_a_part_is_what_was_there_and_equal_to_one_made_of_the_same():
    whole = hours([1.0, 2.0, 3.0, 4.0])
    part = whole.part(1, 3)
    assert part.intensity_g_per_kwh.tolist() == [2.0, 3.0] and len(part.edges) == 3 and len(part.quality) == 2
    assert part == replace(part) and part != whole
    assert part.mean(part.start, part.end) == 2.5, "nothing of the whole's sums is carried along"
    for first, stop in ((-1, 2), (2, 2), (0, 5)):
        with pytest.raises(ValueError, match="no periods"):
            whole.part(first, stop)


# -- holes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def torn():
    """10, 20 for two hours; two hours unknown; 50, 60, 70; an hour unknown; 90."""
    parts = hours([10, 20]), hours([50, 60, 70], T0 + 4 * HOUR), hours([90], T0 + 8 * HOUR)
    return Series.of_stretches(parts)


def test_a_hole_is_known_as_one_and_what_is_behind_it_is_still_known(torn):
    assert torn.gaps == ((T0 + 2 * HOUR, T0 + 4 * HOUR), (T0 + 7 * HOUR, T0 + 8 * HOUR))
    assert torn.end == T0 + 2 * HOUR and [len(s.quality) for s in torn.stretches] == [2, 3, 1]
    assert [torn.at(T0 + k * HOUR) for k in range(10)] == [10, 20, None, None, 50, 60, 70, None, 90, None]
    assert hours([1, 2]).gaps == () and hours([1, 2]).stretches == (hours([1, 2]),)


@pytest.mark.parametrize(
    ("a", "b", "mean"),
    [(0, 2, 15), (4, 7, 60), (5, 6.5, 190 / 3), (8, 9, 90), (1, 3, None), (1, 5, None), (2, 4, None), (6, 9, None)],
)
def test_an_interval_is_covered_where_no_hole_touches_it(torn, a, b, mean):
    start, end = T0 + a * HOUR, T0 + b * HOUR
    assert torn.covers(start, end) is (mean is not None)
    if mean is None:
        with pytest.raises(ValueError, match="is not within"):
            torn.mean(start, end)
    else:
        assert torn.mean(start, end) == pytest.approx(mean)


def test_the_integral_stands_still_over_a_hole(torn):
    t = [(T0 + k * HOUR).timestamp() for k in (0, 2, 3, 4, 7, 8, 9)]
    assert torn.integral(np.array(t)).tolist() == pytest.approx([0, 30, 30, 30, 210, 210, 300])


@pytest.mark.parametrize(
    ("a", "b", "values"),
    [
        (0, 9, [[10, 20], [50, 60, 70], [90]]),
        (1, 5, [[20], [50]]),
        (4, 7, [[50, 60, 70]]),
        (3, 9, [[50, 60, 70], [90]]),
    ],
)
def test_a_part_keeps_the_holes_inside_it(torn, a, b, values):
    part = torn.clip(T0 + a * HOUR, T0 + b * HOUR)
    assert [s.intensity_g_per_kwh.tolist() for s in part.stretches] == values
    assert torn.clip(T0 + 2 * HOUR, T0 + 4 * HOUR) is None


def test_quality_is_that_of_the_stretch(torn):
    measured = replace(torn, after_gap=(replace(torn.after_gap[0], quality=(Quality.MEASURED,) * 3), torn.after_gap[1]))
    assert measured.quality_over(T0, T0 + HOUR) == (Quality.FORECAST,)
    assert measured.quality_over(T0 + 5 * HOUR, T0 + 6 * HOUR) == (Quality.MEASURED,)
    assert measured.quality_over(T0 + 8 * HOUR, T0 + 9 * HOUR) == (Quality.FORECAST,)


def test_what_is_behind_a_hole_counts_in_equality(torn):
    assert torn != torn.stretches[0] and torn == Series.of_stretches(torn.stretches)
    assert hash(torn) != hash(torn.stretches[0])


@pytest.mark.parametrize("later", [0, 1, 2])
def test_stretches_lie_apart_and_in_order(later):
    with pytest.raises(ValueError, match="must follow each other"):
        replace(hours([10, 20]), after_gap=(hours([5], T0 + later * HOUR),))
