"""The fleet's arrays: within capacity, in time, equal for equal input, compiled as in numpy, and the bound is one."""

import numpy as np
import pytest
from bench.planner.later import later
from hypothesis import given
from hypothesis import strategies as st
from planning.instances import windows
from planning.profiles import thorough
from skips import need

from windward.planning.arrays import Budget, Instance, solve
from windward.planning.arrays.kernels import pick
from windward.planning.arrays.placement import Placement
from windward.planning.arrays.prices import ascend

SEARCH = Budget(iterations=15, tries=60, restarts=2)


def drawn(seed, count=25, regions=3, slots=60, cap=6.0, resources=1, extra_slack=0, all_regions=False, allows=0.6):
    """A fleet of random jobs, each allowed that share of the regions; `extra_slack` and `all_regions` widen the same
    fleet."""
    dice = np.random.default_rng(seed)
    length = dice.integers(1, 9, count)
    earliest = dice.integers(0, slots // 2, count)
    latest = np.minimum(earliest + dice.integers(0, 20, count) + extra_slack, slots - length)
    allowed = dice.random((count, regions)) < allows
    home = dice.integers(0, regions, count)
    allowed[np.arange(count), home] = True
    fleet = windows(
        earliest=earliest, latest=np.maximum(latest, earliest), slots=length,
        units=dice.choice([1.0, 2.0, 0.5, 3.0], count), energy_kwh=dice.uniform(0.1, 2.0, count),
        allowed=allowed | all_regions, intensity_g_per_kwh=dice.uniform(10, 500, (regions, slots)),
        cap=np.full((regions, slots), cap), home=home, move_kwh=dice.uniform(0, 0.05, count),
    )  # fmt: skip
    if resources == 1:
        return fleet
    second = dice.choice([0.0, 10.0, 30.0], len(fleet.region))[:, None]
    units = np.ascontiguousarray(np.hstack([fleet.units, second]))
    return Instance(
        fleet.lanes, fleet.region, fleet.first, fleet.width, fleet.slots, units, fleet.cells, fleet.grams,
        np.concatenate([fleet.cap, 12.0 * fleet.cap]),
    )  # fmt: skip


def check(fleet, made):
    """No slot overused, every start inside its lane, grams those of the starts."""
    assert np.all(fleet.use(made.lane, made.start) <= fleet.cap + 1e-6)
    placed = made.lane >= 0
    lane, start = made.lane[placed], made.start[placed]
    jobs = np.flatnonzero(placed)
    assert np.all((fleet.lanes[jobs] <= lane) & (lane < fleet.lanes[jobs + 1]))
    assert np.all((fleet.first[lane] <= start) & (start < fleet.first[lane] + fleet.width[lane]))
    assert set(np.flatnonzero(~placed)) == set(made.late)
    if not len(made.late):
        assert made.bound_g <= made.total_g * (1 + 1e-9)


@thorough(60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3.0, 6.0, 20.0, np.inf]), st.sampled_from([1, 2]), st.booleans())
def test_never_overused_never_late_and_the_bound_is_one(seed, cap, resources, search):
    fleet = drawn(seed, cap=cap, resources=resources)
    made = solve(fleet, SEARCH if search else Budget(iterations=15), compiled=False)
    check(fleet, made)
    if np.isinf(cap):
        assert not len(made.late) and made.gap < 1e-9


@pytest.mark.parametrize("resources", [1, 2])
def test_weighed_in_batches_as_all_at_once(monkeypatch, resources):
    """Batches of a few jobs, of one job that is more than a batch, and the last one that is less."""
    prices = np.random.default_rng(1).uniform(0, 50, (resources, 3, 61))
    whole = drawn(5, resources=resources)
    together = pick(whole, compiled=False).cheapest_options(whole, prices)
    for size in (1, 40, 333):
        monkeypatch.setattr("windward.planning.arrays.instance._BATCH", size)
        fleet = drawn(5, resources=resources)
        assert len(fleet.batches) > 1
        apart = pick(fleet, compiled=False).cheapest_options(fleet, prices)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(apart, together, strict=True))


@thorough(25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]), st.sampled_from([(3, 4.0, 0.6), (40, 2.0, 0.05)]))
def test_compiled_loops_give_equal_bytes(seed, resources, regions):
    """Also where a job may use few of many regions, which numpy then reads alone."""
    need("numba")
    many, cap, allows = regions
    fleet = drawn(seed, resources=resources, regions=many, cap=cap, allows=allows)
    a, b = (solve(fleet, SEARCH, compiled=c) for c in (False, True))
    for name in ("lane", "start", "grams", "mu", "late"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    assert a.bound_g == b.bound_g
    assert solve(fleet, SEARCH, compiled=False).lane.tobytes() == a.lane.tobytes()


@thorough(30)
@given(st.integers(0, 2**32 - 1))
def test_more_slack_or_more_regions_never_worsen_the_bound(seed):
    loops = pick(drawn(seed), False)
    base = ascend(drawn(seed), loops, 60, theta=0.7)
    for wider in (drawn(seed, extra_slack=6), drawn(seed, all_regions=True)):
        # At the same prices every job only has more to choose from; other prices can only be worth more.
        freer = ascend(wider, loops, 1, theta=0.7, warm=base.mu)
        assert freer.bound_g <= base.bound_g * (1 + 1e-9) + 1e-9


@thorough(20)
@given(st.integers(0, 2**32 - 1))
def test_an_hour_later_the_places_are_still_places(seed):
    fleet = drawn(seed, cap=8.0)
    first = solve(fleet, Budget(iterations=10), compiled=False)
    if not np.any((first.lane >= 0) & (first.start >= 3)):
        return
    rest, jobs, before = later(fleet, first.lane, first.start, 3)
    assert np.allclose(rest.grams_of(before.lane, before.start), first.grams[jobs])
    assert np.all(before.used <= rest.cap + 1e-6)
    again = solve(rest, Budget(warm_iterations=5), warm=first.mu, begin=before, compiled=False)
    check(rest, again)
    assert not len(again.late) or len(first.late)


def test_an_empty_placement_uses_nothing():
    fleet = drawn(3)
    at = Placement.empty(fleet)
    assert at.over(fleet) == 0.0
    assert pick(fleet, False).touching(fleet, at.lane, at.start, at.used).tolist() == list(range(fleet.size))


def test_few_jobs_reach_the_best_of_all_combinations():
    """Three jobs, all their starts, against every combination."""
    for seed in range(15):
        fleet = drawn(seed, count=3, regions=2, slots=14, cap=3.0)
        best = np.inf
        cells = [np.arange(fleet.starts[j], fleet.starts[j + 1]) for j in range(3)]
        for a in cells[0]:
            for b in cells[1]:
                for c in cells[2]:
                    picks = np.array([a, b, c])
                    lane = fleet.lane_of_cell[picks]
                    start = fleet.first[lane] + picks - fleet.cells[lane]
                    grams = float(fleet.grams[picks].sum())
                    if grams < best and np.all(fleet.use(lane, start) <= fleet.cap + 1e-9):
                        best = grams
        made = solve(fleet, Budget(tries=300, restarts=2), compiled=False)
        if np.isfinite(best):
            assert not len(made.late) and made.total_g == pytest.approx(best)
