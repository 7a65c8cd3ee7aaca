"""The two searches against brute force: `best_pauses` over all assignments, `best_window` over all starts."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, REGIONS, T0, hours, irregular, work
from planning.profiles import thorough
from skips import need

from windward.domain.fleet import Region
from windward.planning import pauses
from windward.planning.capacity import Occupancy
from windward.planning.windows import best_window, site_of

NAMES = ("de", "fr", "se")
START = T0.timestamp()


def brute_force(cost, n, overhead, pause_g, *, fresh, running):
    """Least grams over every assignment of slots to idle or a region, by the rules that people would state."""
    regions, slots = cost.shape
    best = np.inf
    for way in product(range(-1, regions), repeat=slots):
        if sum(r >= 0 for r in way) < n:
            continue
        done, grams, started, free, pauses_made = 0, 0.0, not fresh, 0, -1 if running is None else 0
        for t, r in enumerate(way):
            if r < 0:
                continue
            grams += cost[r, t]
            if (
                t == 0 or way[t - 1] != r
            ):  # a segment begins: with its overhead, but for a first start and a running job
                warm = (t == 0 and r == running) or (fresh and not started)
                free, started = (0 if warm else overhead), True
                pauses_made += not (warm and t == 0 and r == running)
            if free > 0:
                free -= 1
            else:
                done += 1
        if done == n:
            best = min(best, grams + pause_g * max(0, pauses_made))
    return best


def cases():
    dice = np.random.default_rng(20261121)
    for number in range(2000):
        regions = int(dice.integers(1, 4))
        slots = int(dice.integers(2, {1: 10, 2: 7, 3: 6}[regions]))
        n = int(dice.integers(1, slots + 1))
        state = ("fresh", "started", "running")[number % 3]
        values = dice.integers(0, 400, (regions, slots)).astype(float)
        if number % 5 == 0:
            values[:] = dice.integers(1, 3, values.shape) * 100.0  # many ties
        barred = (dice.random((regions, slots)) < 0.15) if number % 4 == 0 else np.zeros((regions, slots), bool)
        if state == "running":
            barred[0, 0] = False
        pause_g = float(dice.integers(1, 200)) if number % 2 else 0.0
        yield pytest.param(values, n, int(dice.integers(0, 3)), pause_g, state, barred, id=f"{number}-{state}")


@pytest.mark.parametrize(("values", "n", "overhead", "pause_g", "state", "barred"), list(cases()))
def test_best_pauses_is_brute_force(values, n, overhead, pause_g, state, barred, monkeypatch):
    monkeypatch.setattr(pauses, "grid_step", lambda span_s: 3600)
    count, slots = values.shape
    zones = [REGIONS[name].zone for name in NAMES[:count]]
    bounded = {n_: Region(n_, REGIONS[n_].zone, REGIONS[n_].pue, {"pods": 1.0}) for n_ in NAMES[:count]}
    occupancy = Occupancy(bounded)
    for r, t in zip(*np.nonzero(barred), strict=True):
        occupancy.hold(NAMES[r], START + 3600 * t, START + 3600 * (t + 1), {"pods": 1.0})
    job = work(
        hours_h=n, by_h=slots, regions=NAMES[:count], interruptible=True, overhead=overhead * HOUR, margin=0.0,
        demand={"pods": 1.0}, started=state != "fresh", running_in="de" if state == "running" else None,
    )  # fmt: skip
    sites = [site_of(job, bounded[name], hours(v, zone)) for name, v, zone in zip(NAMES, values, zones, strict=False)]
    cost = values * np.array([[REGIONS[name].pue] for name in NAMES[:count]])
    cost = np.where(barred, np.inf, cost)
    expected = brute_force(
        cost, n, overhead, pause_g, fresh=state == "fresh", running=0 if state == "running" else None
    )
    found = pauses.best_pauses(sites, job, START, START + 3600 * slots, occupancy, pause_g=pause_g)
    if not np.isfinite(expected):
        assert found is None
        return
    assert found is not None
    region, start, _ = found.segments[0]
    made = len(found.segments) - 1 + (state == "running" and (region, start) != ("de", START))
    assert found.grams + made * pause_g == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # The segments are what was priced: in order, and doing the work.
    ends = [START] + [b for _, _, b in found.segments]
    assert all(a >= e for (_, a, _), e in zip(found.segments, ends, strict=False))
    assert sum(b - a for _, a, b in found.segments) >= 3600 * n


def test_the_grid_is_as_fine_as_it_may_be():
    steps = [pauses.grid_step(h * 3600) for h in (0.1, 1, 6, 12, 24, 168, 24 * 365)]
    assert steps == [1, 5, 30, 60, 120, 900, 14400]
    for h in (1, 5, 24, 100, 168):
        assert h * 3600 / pauses.grid_step(h * 3600) <= pauses.MAX_SLOTS


@pytest.mark.parametrize("seed", range(60))
def test_best_window_is_a_scan_of_every_start(seed):
    dice = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.cumsum(dice.integers(5, 180, 20) * 60)])
    series = irregular(edges, dice.integers(0, 500, 20))
    length = int(dice.integers(1, 500)) * 60
    a, b = sorted(int(x) * 60 for x in dice.integers(-10, edges[-1] // 60 + 10, 2))
    occupancy = Occupancy({"de": Region("de", "DE", 1.25, {"pods": 2.0})})
    for _ in range(seed % 4):
        s = int(dice.integers(0, edges[-1] // 60)) * 60
        occupancy.hold("de", START + s, START + s + int(dice.integers(1, 200)) * 60, {"pods": 1.5})
    job = work(demand={"pods": 1.0})
    at = site_of(job, occupancy.regions["de"], series)
    starts = [
        s for s in range(max(a, 0), min(b, int(edges[-1]) - length) + 1, 60)
        if occupancy.free("de", np.array([START + s]), np.array([START + s + length]), job.demand)[0]
    ]  # fmt: skip
    grams = [at.grams(START + s, START + s + length) for s in starts]
    found = best_window(at, job, length, START + a, START + b, occupancy)
    assert (found is None) == (not starts)
    if found is not None:
        best = min(grams)
        first = next(s for s, g in zip(starts, grams, strict=True) if g <= best * (1 + 1e-9) + 1e-9)
        assert found.grams == pytest.approx(best, rel=1e-9, abs=1e-9)
        assert found.segments == (("de", START + first, START + first + length),)


def test_the_peak_of_overlapping_holdings_is_what_counts():
    occupancy = Occupancy({"de": Region("de", "DE", 1.0, {"gpu": 3.0})})
    for a, b in ((0, 10), (5, 15), (8, 20)):
        occupancy.hold("de", a, b, {"gpu": 1.0})
    spans = [(0, 5, 2), (0, 6, 1), (0, 9, 0), (10, 12, 1), (15, 20, 2), (20, 30, 3), (9, 10, 0)]
    for a, b, room in spans:
        for units in (1, 2, 3):
            fits = occupancy.free("de", np.array([float(a)]), np.array([float(b)]), {"gpu": float(units)})[0]
            assert fits == (units <= room), (a, b, units)


@thorough(60)
@given(st.integers(0, 2**32 - 1))
def test_the_compiled_programme_gives_equal_bytes(seed):
    need("numba")
    dice = np.random.default_rng(seed)
    regions, slots = int(dice.integers(1, 4)), int(dice.integers(1, 40))
    n, overhead = int(dice.integers(1, slots + 1)), int(dice.integers(0, 4))
    run_g = dice.choice([1.0, 1.0, 2.0, 3.5, 0.0, np.inf], (regions, slots)) * dice.uniform(0.5, 1.5, (regions, 1))
    costs = pauses._Costs(
        run_g, dice.uniform(0, 2, (regions, slots + 1)) * dice.integers(0, 2), dice.uniform(0, 1, slots + 1),
        float(dice.choice([0.0, 0.3])),
    )  # fmt: skip
    running = int(dice.integers(0, regions)) if dice.random() < 0.4 else None
    fresh = running is None and bool(dice.random() < 0.5)
    (a, ours), (b, theirs) = (
        pauses._solve(costs, n, overhead, fresh=fresh, running=running, compiled=c) for c in (False, True)
    )
    assert np.float64(a).tobytes() == np.float64(b).tobytes()
    assert ours.paused_from.tobytes() == theirs.paused_from.tobytes()
    assert ours.resumed.tobytes() == theirs.resumed.tobytes()
