"""The best way to do work that may pause, exact on a time grid, over several regions at once.

Dynamic programme over grid boundaries t and slots of work done k. `idle[k]` is the least cost of being at t with k
done and nothing running; `run[r][k]` the same while running, warm, in region r:

    run[r](t+1)[k+1] = run[r](t)[k] + c[r, t]                       go on
    run[r](t+m)[k]   = idle(t)[k] + c[r, t .. t+m-1]                resume: m slots of overhead, no progress
    idle(t)[k]       = min(idle(t-1)[k], min over r of run[r](t)[k])  pause

The first start of fresh work has no overhead (m = 0), nor has going on where it runs already. Each cost c is power
times the integral of the intensity over the slot, so slots need not fall on the series' periods. A pause costs the
resume's energy and time, which is what keeps short dips from being chased.
O(T n R) for T slots, n slots of work, R regions, vectorised over k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windward.domain.fleet import Work
from windward.domain.series import Floats
from windward.planning.arrays.instance import SAME_COST
from windward.planning.arrays.kernels import preferred
from windward.planning.capacity import Occupancy
from windward.planning.windows import Candidate, Site

Surcharge = Callable[[Site, Floats], Floats]  # grams of each slot between times, beside those of running
_GRIDS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MAX_SLOTS = 720


def grid_step(span_s: float) -> int:
    """The finest slot length in seconds for which `span_s` has at most `MAX_SLOTS` slots."""
    return next((h for h in _GRIDS_S if span_s / h <= MAX_SLOTS), _GRIDS_S[-1])


@dataclass(frozen=True, slots=True)
class _Tables:
    """Back-pointers of the programme: how the best cost at (t, k) was reached."""

    paused_from: npt.NDArray[np.int16]  # (T+1, n+1): region that paused at t, or -1: idle before
    resumed: npt.NDArray[np.bool_]  # (R, T+1, n+1): run[r] at t came from idle, by a start or resume


def best_pauses(
    sites: Sequence[Site],
    work: Work,
    earliest: float,
    latest_end: float,
    occupancy: Occupancy,
    *,
    pause_g: float = 0.0,
    surcharge: Surcharge | None = None,
    coarsest: int = 1,
) -> Candidate | None:
    """The cheapest set of segments in [earliest, latest_end]; None where the work does not fit on the grid.

    `pause_g` is a price on every pause, inside the objective: what a pause must save beside its own resume, since no
    forecast is exact. It is the same for every pause at every time; a price on stopping now alone would have the
    work go on for one more slot, for ever.
    """
    end = min(latest_end, max(float(p.series.edges[-1]) for p in sites))
    step = max(coarsest, grid_step(end - earliest))
    # The grid is absolute, so that replanning does not shift it; now lies in its first slot, which counts as whole:
    # a start there is a start now. (A grid that began at the next boundary would put every start off for ever.)
    first = np.floor(earliest / step) * step
    slots = int((end - earliest + 1e-6) // step)
    n = int(np.ceil(work.remaining.total_seconds() / step - 1e-9))
    if slots < n or n == 0:
        return None
    times = first + step * np.arange(slots + 1, dtype=np.float64)
    cost = np.array([_slot_cost(p, times, occupancy) for p in sites])  # (R, T)
    if surcharge is not None:
        cost += np.array([surcharge(p, times) for p in sites])
    overhead = int(np.ceil(work.overhead.total_seconds() / step - 1e-9))
    running = next((i for i, p in enumerate(sites) if p.region.name == work.running_in), None)
    fresh = not work.started and running is None
    late_g = work.delay_g_per_hour / 3600.0 * (times - first)  # of ending at each boundary
    starts_g = np.array([p.start_g(times) for p in sites])
    grams, tables = _solve(_Costs(cost, starts_g, late_g, pause_g), n, overhead, fresh=fresh, running=running)
    if not np.isfinite(grams):
        return None
    segments = _trace(tables, n, overhead, fresh=fresh)
    segments = [s for s in segments if s[2] > s[1]]
    on = running is not None and segments[0][:2] == (running, 0)
    return _tightened(segments, sites, times, earliest, n * step - work.remaining.total_seconds(), on)


def _slot_cost(at: Site, times: Floats, occupancy: Occupancy) -> Floats:
    """Grams of running through each slot, and its price; infinite where the series or capacity ends."""
    integral = at.series.integral(times)
    cost = at.power_kw * np.diff(integral) + at.price_g_per_hour / 3600.0 * np.diff(times)
    starts, ends = times[:-1], times[1:]
    known = (starts >= at.series.edges[0]) & (ends <= at.series.edges[-1])
    known &= occupancy.free(at.region.name, starts, ends, at.demand)
    return np.where(known, cost, np.inf)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Grams of the programme.

    Attributes:
        run: (R, T) of running through each slot; infinite where it may not.
        start: (R, T + 1) of what a start or resume at each boundary draws.
        late: (T + 1,) price of ending at each boundary.
        pause: price on each pause.
    """

    run: Floats
    start: Floats
    late: Floats
    pause: float


def _solve(
    c: _Costs, n: int, overhead: int, *, fresh: bool, running: int | None, compiled: bool | None = None
) -> tuple[float, _Tables]:
    cost = c.run
    regions, slots = cost.shape
    prefix = np.concatenate([np.zeros((regions, 1)), np.cumsum(np.where(np.isfinite(cost), cost, 0.0), axis=1)], axis=1)
    barred = np.concatenate([np.zeros((regions, 1)), np.cumsum(~np.isfinite(cost), axis=1)], axis=1)
    tables = _Tables(np.full((slots + 1, n + 1), -1, np.int16), np.zeros((regions, slots + 1, n + 1), bool))
    if preferred() if compiled is None else compiled:
        from windward.planning.pauses_compiled import sweep

        grams = sweep(
            cost, c.start, c.late, c.pause, n, overhead, fresh, -1 if running is None else running, prefix, barred,
            tables.paused_from, tables.resumed,
        )  # fmt: skip
        return grams, tables
    idles = np.full((overhead + 1, n + 1), np.inf)  # ring: idle at the last `overhead` boundaries, for resumes
    idle = np.full(n + 1, np.inf)
    run = np.full((regions, n + 1), np.inf)
    if running is None:
        idle[0] = 0.0
    else:
        run[running, 0] = 0.0
    price = np.full(n + 1, c.pause)
    for t in range(slots + 1):
        if t > 0:
            run[:, 1:] = run[:, :-1] + cost[:, t - 1, None]
            run[:, 0] = np.inf
        price[n] = c.late[t]  # the end is no pause
        _pause(t, idle, run, price, tables)
        idles[t % (overhead + 1)] = idle
        _start(t, idles, run, tables, prefix, barred, overhead, fresh, c.start)
    return float(idle[n]), tables


def _pause(t: int, idle: Floats, run: Floats, price: Floats, tables: _Tables) -> None:
    """Where stopping here is cheaper than having been idle, note who stopped."""
    r = np.argmin(run, axis=0)
    best = run[r, np.arange(run.shape[1])] + price
    better = best < idle * (1 - SAME_COST)
    idle[better] = best[better]
    tables.paused_from[t, better] = r[better]


def _start(
    t: int, idles: Floats, run: Floats, tables: _Tables, prefix: Floats, barred: Floats, overhead: int, fresh: bool,
    start_g: Floats,
) -> None:  # fmt: skip
    """Where starting (or having begun to resume `overhead` slots ago) is cheaper than running on, note it."""
    began = t - overhead
    if began >= 0:
        since = idles[began % (overhead + 1)]
        for r in range(run.shape[0]):
            if barred[r, t] > barred[r, began]:
                continue
            cost = since + (prefix[r, t] - prefix[r, began] + start_g[r, began])
            if fresh:
                cost[0] = np.inf  # nothing done yet: the free start below
            better = cost < run[r] * (1 - SAME_COST)
            run[r][better] = cost[better]
            tables.resumed[r, t] = better
    if fresh:
        first = idles[t % (overhead + 1)][0] + start_g[:, t]
        better0 = first < run[:, 0]
        run[better0, 0] = first[better0]
        tables.resumed[better0, t, 0] = True


def _trace(tables: _Tables, n: int, overhead: int, *, fresh: bool) -> list[tuple[int, int, int]]:
    """Walk the back-pointers from the end: segments (region, first boundary, last boundary), overhead included."""
    t, k = tables.paused_from.shape[0] - 1, n
    segments: list[tuple[int, int, int]] = []
    while True:
        while tables.paused_from[t, k] < 0:
            if t == 0:
                return segments[::-1]
            t -= 1
        r, end = int(tables.paused_from[t, k]), t
        while not tables.resumed[r, t, k]:
            if t == 0:  # it was running when the grid began
                segments.append((r, 0, end))
                return segments[::-1]
            t, k = t - 1, k - 1
        began = t if fresh and k == 0 else t - overhead
        segments.append((r, began, end))
        t = began


def _tightened(
    segments: list[tuple[int, int, int]],
    sites: Sequence[Site],
    times: Floats,
    earliest: float,
    surplus_s: float,
    on: bool,
) -> Candidate:
    """Segments in seconds, none before `earliest`; the rounding of work to whole slots is given back at the end.

    `on`: the first segment goes on with what runs, and starts nothing.
    """
    spans = [(sites[r], float(times[a]), float(times[b])) for r, a, b in segments]
    at, start, end = spans[0]
    if start < earliest:
        surplus_s -= earliest - start  # what of the first slot is over has to be made up for at the end
        spans[0] = (at, earliest, end)
    at, start, end = spans[-1]
    spans[-1] = (at, start, end - surplus_s)  # less than a slot, of which each segment has one
    grams = sum(p.grams(a, b) for p, a, b in spans)
    grams += sum(float(p.start_g(np.array([a]))[0]) for p, a, _ in spans[on:])
    return Candidate(tuple((p.region.name, a, b) for p, a, b in spans), grams, spans[0][0].level)
