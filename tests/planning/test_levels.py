"""Levels of power over hours: the hull, the exact filling against brute force, one level an hour close to it."""

from itertools import product

import numpy as np
import pytest
from bench.planner.levels import fill, hull, whole
from hypothesis import given
from hypothesis import strategies as st
from planning.profiles import thorough

from windward.domain.fleet import Level

curves = st.lists(st.tuples(st.integers(1, 12), st.integers(20, 400)), min_size=1, max_size=5).map(
    lambda points: tuple(Level(x / 10, float(w)) for x, w in points)
)
shapes = st.lists(st.integers(0, 600).map(float), min_size=3, max_size=6).map(np.array)


@thorough(60)
@given(curves)
def test_the_hull_is_convex_and_below_every_level(levels):
    ends = hull(levels)
    slopes = np.diff([0.0, *(v.power_w for v in ends)]) / np.diff([0.0, *(v.speed for v in ends)])
    assert np.all(np.diff(slopes) > 0)
    xs, ps = [0.0, *(v.speed for v in ends)], [0.0, *(v.power_w for v in ends)]
    assert all(np.interp(v.speed, xs, ps) <= v.power_w + 1e-9 for v in levels)
    assert ends[-1].speed == max(v.speed for v in levels)


@thorough(40)
@given(curves, shapes, st.floats(0.05, 0.95))
def test_filling_is_never_beaten_by_a_grid_of_mixtures(levels, shape, share):
    fastest = max(v.speed for v in levels)
    work = share * fastest * len(shape)
    exact, discrete = fill(levels, shape, 1.0, work), whole(levels, shape, 1.0, work)
    ends = (None, *hull(levels))
    best = np.inf
    if len(ends) ** len(shape) <= 2000:
        for way in product(ends, repeat=len(shape)):
            done = sum(v.speed for v in way if v)
            if done >= work - 1e-9:
                grams = [v.power_w / 1000 * i if v else 0.0 for v, i in zip(way, shape, strict=True)]
                rate = [g / v.speed if v else 0.0 for g, v in zip(grams, way, strict=True)]
                t = int(np.argmax(rate))
                over = min(done - work, way[t].speed if way[t] else 0.0)
                best = min(best, sum(grams) - over * rate[t])
    assert exact.grams <= best + 1e-9
    assert exact.grams <= discrete.grams + 1e-9
    for level in levels:  # caps alone and shifting alone
        alone = fill([level], shape, 1.0, work)
        assert alone is None or exact.grams <= alone.grams + 1e-9
        assert alone is None or level not in hull(levels) or discrete.grams <= alone.grams + 1e-9


def test_too_much_work_fits_nowhere():
    assert (
        fill([Level(1.0, 100.0)], np.ones(3), 1.0, 3.5) is None
        and whole([Level(1.0, 100.0)], np.ones(3), 1.0, 3.5) is None
    )
    assert fill([Level(1.0, 100.0)], np.array([3.0, 1.0, 2.0]), 1.0, 1.5).grams == pytest.approx(
        0.1 * 1 + 0.1 * 0.5 * 2
    )
