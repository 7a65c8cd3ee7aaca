"""Fleets with next to no room: everyone has a place if there is one, and large jobs move though many must follow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning.instances import windows
from planning.profiles import thorough
from skips import need

from windward.planning.arrays import Budget, solve
from windward.planning.arrays.kernels import pick
from windward.planning.arrays.search import improve, perturbed, place_all, restarts, score


def packed(seed, regions=2, slots=48, cap=4):
    """A fleet cut out of full regions, so that a plan for all is known; windows open a little before and after."""
    dice = np.random.default_rng(seed)
    job = []
    for r in range(regions):
        free = np.zeros(cap, int)  # until when each row is taken
        while (t := int(free.min())) < slots:
            rows = np.flatnonzero(free == t)
            units = int(dice.integers(1, len(rows) + 1))
            length = min(int(dice.integers(1, 9)), slots - t)
            free[rows[:units]] = t + length
            job.append((r, t, length, units))
    region, at, length, units = np.array(job).T
    earliest = np.maximum(0, at - dice.integers(0, 5, len(at)))
    latest = np.minimum(slots - length, at + dice.integers(0, 5, len(at)))
    allowed = dice.random((len(at), regions)) < 0.5
    allowed[np.arange(len(at)), region] = True
    return windows(
        earliest=earliest, latest=latest, slots=length, units=units.astype(float),
        energy_kwh=units * dice.uniform(0.5, 1.5, len(at)), allowed=allowed,
        intensity_g_per_kwh=dice.uniform(10, 500, (regions, slots)), cap=np.full((regions, slots), float(cap)),
    )  # fmt: skip


@thorough(40)
@given(st.integers(0, 2**32 - 1))
def test_who_may_run_at_a_time_is_found_without_looking_at_all(seed):
    fleet = packed(seed)
    near, ends = fleet.near, fleet.first + fleet.width - 1 + fleet.slots
    assert sorted(near.order.tolist()) == list(range(fleet.size))
    assert near.order[near.rank].tolist() == list(range(fleet.size))
    job = np.repeat(np.arange(fleet.size), np.diff(fleet.lanes))
    for a in range(0, 48, 7):
        for b in range(a, 49, 5):
            may = set(job[(fleet.first < b) & (ends > a)].tolist())
            assert may <= set(near.order[near.low[a] : near.high[b]].tolist()), (a, b)


@pytest.mark.parametrize("seed", [1, 4])
def test_those_left_out_weigh_more_each_time_and_find_a_place(seed):
    """A tenth of the fleet is taken away; equal weights leave as many out as placement did."""
    fleet = packed(seed, slots=36)
    fleet = fleet.of(np.flatnonzero(np.random.default_rng(seed).random(fleet.size) >= 0.1), fleet.cap)
    loops, free = pick(fleet, False), np.zeros(fleet.cap.shape)
    at = restarts(fleet, loops, free, 2, seed)
    found, tries = place_all(fleet, loops, at, free, 1_000, seed)
    assert np.all(fleet.use(found.lane, found.start) <= fleet.cap + 1e-6) and tries <= 1_000
    assert (found.lane < 0).sum() < (at.lane < 0).sum()


@thorough(6)
@given(st.integers(0, 2**32 - 1))
def test_kicks_keep_room_and_are_never_worse(seed):
    fleet = packed(seed, cap=6)
    fleet = fleet.of(np.arange(fleet.size), fleet.cap + 2.0)
    loops, mu = pick(fleet, False), np.zeros(fleet.cap.shape)
    at = improve(fleet, loops, restarts(fleet, loops, mu, 1, seed), mu, 50, seed)
    found = perturbed(fleet, loops, at, mu, 2, seed)
    assert np.all(fleet.use(found.lane, found.start) <= fleet.cap + 1e-6)
    assert found.used == pytest.approx(fleet.use(found.lane, found.start))
    assert score(fleet, found) <= score(fleet, at)


@thorough(3)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 24), (1, 48), (2, 24), (2, 48)]))
def test_compiled_search_gives_equal_bytes_where_room_is_short(seed, size):
    need("numba")
    fleet = packed(seed, *size)
    budget = Budget(iterations=15, tries=350, restarts=1)  # enough for a kick
    a, b = (solve(fleet, budget, compiled=c) for c in (False, True))
    assert a.lane.tobytes() == b.lane.tobytes() and a.start.tobytes() == b.start.tobytes()
