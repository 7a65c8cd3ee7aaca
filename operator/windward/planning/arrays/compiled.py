"""The inner loops of `reference`, compiled by numba: the same functions, equal bytes, some thirty times the speed.

Written as plain loops and compiled at the first call, into numba's cache. Nothing imports this module but
`kernels.pick`, and only for fleets that are worth it: loading numba alone takes longer than planning one job.

All in one file, since numba's cache does not see that a function of another file changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit  # type: ignore[import-untyped,unused-ignore]

from windward.planning.arrays.instance import (
    DRAWN,
    EJECT,
    EVEN,
    FEW_OUT,
    INVITE,
    MANY_OUT,
    ROUNDING,
    Floats,
    Instance,
    Ints,
    Near,
)

NAME = "numba"


class _Arrays(NamedTuple):
    """`Instance` as numba takes it."""

    lanes: Ints
    region: Ints
    first: Ints
    width: Ints
    slots: Ints
    units: Floats
    cells: Ints
    grams: Floats
    cap: Floats
    least: Floats
    lane_least: Floats


def _arrays(fleet: Instance) -> _Arrays:
    return _Arrays(
        fleet.lanes, fleet.region, fleet.first, fleet.width, fleet.slots, fleet.units, fleet.cells, fleet.grams,
        fleet.cap, fleet.least, fleet.lane_least,
    )  # fmt: skip


def _options_py(x: Any, prices: Any, lane: Any, start: Any, cost: Any) -> None:
    buffer = np.empty(max(1, x.width.max()))
    for j in range(len(lane)):
        best = np.inf
        for i in range(x.lanes[j], x.lanes[j + 1]):
            r, a, n, width, c = x.region[i], x.first[i], x.slots[i], x.width[i], x.cells[i]
            u = x.units[i, 0]
            row = prices[0, r]
            for k in range(width):
                buffer[k] = x.grams[c + k] + u * (row[a + k + n] - row[a + k])
            for q in range(1, prices.shape[0]):
                u = x.units[i, q]
                row = prices[q, r]
                for k in range(width):
                    buffer[k] = buffer[k] + u * (row[a + k + n] - row[a + k])
            for k in range(width):
                if buffer[k] < best:
                    best = buffer[k]
                    lane[j] = i
                    start[j] = a + k
        cost[j] = best


def _soft_py(x: Any, j: int, used: Any, mu: Any, penalty: Any, total: Any) -> Any:
    best, lane, start = np.inf, -1, -1
    for i in range(x.lanes[j], x.lanes[j + 1]):
        r, a, n, width, c = x.region[i], x.first[i], x.slots[i], x.width[i], x.cells[i]
        total[0] = 0.0
        for k in range(width - 1 + n):
            price = 0.0
            for q in range(used.shape[0]):
                u = x.units[i, q]
                if u > 0.0:
                    over = max(0.0, used[q, r, a + k] + u - x.cap[q, r, a + k])
                    price += u * mu[q, r, a + k] + penalty[q] * over
            total[k + 1] = total[k] + price
        for k in range(width):
            cost = x.grams[c + k] + (total[k + n] - total[k])
            if cost < best:
                best, lane, start = cost, i, a + k
    return lane, start


def _hard_py(x: Any, j: int, used: Any, prices: Any, scale: float, most_g: float) -> Any:
    best, lane, start = np.inf, -1, -1
    for i in range(x.lanes[j], x.lanes[j + 1]):
        if x.lane_least[i] > most_g or x.lane_least[i] >= best:
            continue
        r, a, n, width, c = x.region[i], x.first[i], x.slots[i], x.width[i], x.cells[i]
        s, clear = 0, 0  # slots from s up to `clear` are known to have room
        while s < width:
            cost = x.grams[c + s]
            if cost > most_g or cost >= best:
                s += 1
                continue
            if scale > 0.0:
                for q in range(used.shape[0]):
                    u = x.units[i, q]
                    if u > 0.0:
                        cost = cost + scale * u * (prices[q, r, a + s + n] - prices[q, r, a + s])
                if cost >= best:
                    s += 1
                    continue
            full = -1
            for q in range(used.shape[0]):
                u = x.units[i, q]
                if u > 0.0:
                    k = s + n - 1
                    while k >= max(s, clear, full + 1) and used[q, r, a + k] + u <= x.cap[q, r, a + k] + EVEN:
                        k -= 1
                    if k >= max(s, clear, full + 1):
                        full = k
            clear = s + n
            if full >= 0:
                s = full + 1
            else:
                best, lane, start = cost, i, a + s
                s += 1
    return lane, start


def _hold_py(x: Any, lane: int, start: int, used: Any, sign: float) -> None:
    r = x.region[lane]
    for q in range(used.shape[0]):
        u = sign * x.units[lane, q]
        for t in range(start, start + x.slots[lane]):
            used[q, r, t] += u


def _overfull_py(x: Any, lane: int, start: int, used: Any) -> bool:
    r = x.region[lane]
    for q in range(used.shape[0]):
        if x.units[lane, q] > 0.0:
            for t in range(start, start + x.slots[lane]):
                if used[q, r, t] > x.cap[q, r, t] + EVEN:
                    return True
    return False


def _touching_py(x: Any, lane: Any, start: Any, used: Any, out: Any) -> int:
    count = 0
    for j in range(len(lane)):
        if lane[j] < 0 or _overfull(x, lane[j], start[j], used):
            out[count] = j
            count += 1
    return count


def _fits_py(x: Any, lane: int, start: int, used: Any) -> bool:
    r = x.region[lane]
    for q in range(used.shape[0]):
        u = x.units[lane, q]
        if u > 0.0:
            for t in range(start, start + x.slots[lane]):
                if used[q, r, t] + u > x.cap[q, r, t] + EVEN:
                    return False
    return True


def _route_py(
    x: Any, order: Any, lane: Any, start: Any, used: Any, mu: Any, penalty: Any, rip: bool, wish_lane: Any,
    wish_start: Any,
) -> None:  # fmt: skip
    total = np.empty(used.shape[2] + 1)
    for j in order:
        if lane[j] >= 0:
            if rip and not _overfull(x, lane[j], start[j], used):
                continue
            _hold(x, lane[j], start[j], used, -1.0)
        i, s = wish_lane[j], wish_start[j]
        if i < 0 or not _fits(x, i, s, used):
            i, s = _soft(x, j, used, mu, penalty, total)
        lane[j], start[j] = i, s
        _hold(x, lane[j], start[j], used, 1.0)


def _polish_py(x: Any, order: Any, lane: Any, start: Any, used: Any, prices: Any, scale: float) -> int:
    moved = 0
    for j in order:
        if lane[j] >= 0:
            _hold(x, lane[j], start[j], used, -1.0)
        i, s = _hard(x, j, used, prices, scale, np.inf)
        if i < 0:
            i, s = lane[j], start[j]
        if i >= 0:
            _hold(x, i, s, used, 1.0)
        if i != lane[j] or s != start[j]:
            moved += 1
        lane[j], start[j] = i, s
    return moved


def _cell_py(x: Any, j: int, lane: int, start: int, miss_g: Any) -> float:
    if lane < 0:
        return float(miss_g[j])
    return float(x.grams[x.cells[lane] + start - x.first[lane]])


def _cost_py(x: Any, lane: Any, start: Any, miss_g: Any) -> float:
    total = 0.0
    for j in range(len(lane)):
        total += _cell(x, j, lane[j], start[j], miss_g)
    return total


def _seed_py(x: Any, lane: Any, d: Any, missing: int) -> int:
    size = len(lane)
    seed = int(d[0] * size)
    if missing == 0 or 0.1 <= d[1] <= 0.9:
        if d[1] < EJECT and d[6] < INVITE:
            other = int(d[DRAWN + 7] * size)
            return other if _size(x, other) > _size(x, seed) else seed
        return seed
    for step in range(size):
        j = (seed + step) % size
        if lane[j] < 0:
            return j
    return seed


def _size_py(x: Any, j: int) -> float:
    return float(x.units[x.lanes[j], 0] * x.slots[x.lanes[j]])


def _goal_py(x: Any, seed: int, d: Any) -> int:
    first = x.cells[x.lanes[seed]]
    cells = x.cells[x.lanes[seed + 1]] - first
    best = first + int(d[DRAWN] * cells)
    for n in range(int(d[2] * 4.0)):
        cell = first + int(d[DRAWN + 1 + n] * cells)
        if x.grams[cell] < x.grams[best]:
            best = cell
    return int(best)


def _forced_py(x: Any, j: int, goal: int, used: Any) -> Any:
    i = x.lanes[j]
    while x.cells[i + 1] <= goal:
        i += 1
    start = x.first[i] + goal - x.cells[i]
    if _fits(x, i, start, used):
        return i, start
    return -1, -1


def _victims_py(x: Any, near: Any, lane: Any, start: Any, d: Any, out: Any, seed: int, goal: int) -> int:
    size = len(lane)
    if goal >= 0:
        few = lane[seed] >= 0 and d[6] >= INVITE
        count = int(_in_the_way(x, near, seed, goal, lane, start, d, FEW_OUT if few else MANY_OUT, out))
        return _with_displaced(x, near, out, count, goal, lane, start, d) if lane[seed] >= 0 and not few else count
    k = 2 + int(d[2] * d[2] * (FEW_OUT - 1))
    reach = 6 * k + 6
    end = 0
    for i in range(x.lanes[seed], x.lanes[seed + 1]):
        end = max(end, x.first[i] + x.width[i] - 1 + x.slots[i])
    begin = x.first[x.lanes[seed]]
    out[0] = seed
    count = 1
    for n in range(2 * FEW_OUT):
        if count >= k:
            break
        at = near.rank[seed] + int((d[DRAWN + n] - 0.5) * 2.0 * reach)
        if at < 0 or at >= size:
            continue
        j = near.order[at]
        i = lane[j]
        if i < 0 or start[j] >= end or start[j] + x.slots[i] <= begin:
            continue
        known = False
        for b in range(count):
            known = known or out[b] == j
        beside = False
        for b in range(x.lanes[seed], x.lanes[seed + 1]):
            beside = beside or x.region[b] == x.region[i]
        if beside and not known:
            out[count] = j
            count += 1
    return count


def _in_the_way_py(x: Any, near: Any, seed: int, best: int, lane: Any, start: Any, d: Any, most: int, out: Any) -> int:
    i = x.lanes[seed]
    while x.cells[i + 1] <= best:
        i += 1
    begin = x.first[i] + best - x.cells[i]
    end, region = begin + x.slots[i], x.region[i]
    out[0] = seed
    count = 1
    low = near.low[begin]
    size = near.high[end] - low
    offset = int(d[DRAWN + 5] * size)
    for n in range(size):
        if count >= most:
            break
        j = near.order[low + (n + offset) % size]
        b = lane[j]
        if b < 0 or j == seed or x.region[b] != region:
            continue
        if start[j] < end and start[j] + x.slots[b] > begin:
            out[count] = j
            count += 1
    return count


def _with_displaced_py(x: Any, near: Any, out: Any, count: int, goal: int, lane: Any, start: Any, d: Any) -> int:
    seed = out[0]
    i, left = x.lanes[seed], lane[seed]
    while x.cells[i + 1] <= goal:
        i += 1
    region, begin, end = x.region[left], start[seed], start[seed] + x.slots[left]
    if x.region[i] == region:
        new = x.first[i] + goal - x.cells[i]
        if new < begin:
            begin = max(begin, new + x.slots[i])
        else:
            end = min(end, new)
    if end <= begin:
        return count
    low = near.low[begin]
    size = near.high[end] - low
    offset = int(d[DRAWN + 6] * size)
    for n in range(size):
        if count >= MANY_OUT:
            break
        j = near.order[low + (n + offset) % size]
        b = lane[j]
        if b < 0 or x.grams[x.cells[b] + start[j] - x.first[b]] <= x.least[j]:
            continue
        known = False
        for k in range(count):
            known = known or out[k] == j
        if known:
            continue
        for k in range(x.lanes[j], x.lanes[j + 1]):
            if x.region[k] == region and x.first[k] < end and x.first[k] + x.width[k] - 1 + x.slots[k] > begin:
                out[count] = j
                count += 1
                break
    return count


def _returning_py(x: Any, out: Any, count: int, d: Any, keys: Any, back: Any) -> None:
    for n in range(count):
        if d[3] < 0.4:
            keys[n] = -_size(x, out[n])
        else:
            keys[n] = d[len(d) - 1 - n % (2 * FEW_OUT)]
        if n == 0 and d[1] < EJECT:
            keys[n] = -np.inf
        at = n
        while at > 0 and keys[back[at - 1]] > keys[n]:
            back[at] = back[at - 1]
            at -= 1
        back[at] = n


def _ruin_py(
    x: Any, near: Any, lane: Any, start: Any, used: Any, prices: Any, draws: Any, hot: float, cool: float,
    miss_g: Any, best_lane: Any, best_start: Any,
) -> None:  # fmt: skip
    out, back = np.zeros(MANY_OUT, np.int64), np.zeros(MANY_OUT, np.int64)
    old_lane, old_start, keys = np.zeros(MANY_OUT, np.int64), np.zeros(MANY_OUT, np.int64), np.zeros(MANY_OUT)
    missing = (lane < 0).sum()
    behind = _cost(x, lane, start, miss_g) - _cost(x, best_lane, best_start, miss_g)
    for row in range(draws.shape[0]):
        d = draws[row]
        seed = _seed(x, lane, d, missing)
        goal = _goal(x, seed, d) if d[1] < EJECT else -1
        count = _victims(x, near, lane, start, d, out, seed, goal)
        before, after, left, gone = 0.0, 0.0, 0.0, 0
        for n in range(count):
            j = out[n]
            old_lane[n], old_start[n] = lane[j], start[j]
            left += x.least[j]
            before += _cell(x, j, lane[j], start[j], miss_g)
        allowed = (hot + (cool - hot) * (row / draws.shape[0])) * d[4]
        forced = goal >= 0 and d[3] >= 0.5
        if forced and allowed + ROUNDING * before + before - left < x.grams[goal] - x.least[seed]:
            continue
        for n in range(count):
            j = out[n]
            if lane[j] >= 0:
                _hold(x, lane[j], start[j], used, -1.0)
            else:
                gone -= 1
            lane[j] = -1
        scale = 0.0 if d[5] < 0.5 else 2.0 * (d[5] - 0.5)
        _returning(x, out, count, d, keys, back)
        hopeless = False
        for n in range(count):
            spare = allowed + ROUNDING * before + before - after - left
            hopeless = spare < 0.0
            if hopeless:
                break
            j = out[back[n]]
            i, s = -1, -1
            if n == 0 and forced:
                i, s = _forced(x, j, goal, used)
            if i < 0:
                i, s = _hard(x, j, used, prices, scale, x.least[j] + spare)
            lane[j], start[j] = i, s
            left -= x.least[j]
            after += _cell(x, j, lane[j], start[j], miss_g)
            if lane[j] >= 0:
                _hold(x, lane[j], start[j], used, 1.0)
            else:
                gone += 1
        if not hopeless and after - before <= allowed:
            behind += after - before
            missing += gone
            if behind < -1e-9:
                best_lane[:] = lane
                best_start[:] = start
                behind = 0.0
            continue
        for n in range(count):
            j = out[n]
            if lane[j] >= 0:
                _hold(x, lane[j], start[j], used, -1.0)
            lane[j], start[j] = old_lane[n], old_start[n]
        for n in range(count):
            if old_lane[n] >= 0:
                _hold(x, old_lane[n], old_start[n], used, 1.0)


_compile: Any = njit(cache=True, nogil=True)
_options = _compile(_options_py)
_soft = _compile(_soft_py)
_hard = _compile(_hard_py)
_hold = _compile(_hold_py)
_overfull = _compile(_overfull_py)
_touching = _compile(_touching_py)
_fits = _compile(_fits_py)
_route = _compile(_route_py)
_polish = _compile(_polish_py)
_cell = _compile(_cell_py)
_cost = _compile(_cost_py)
_size = _compile(_size_py)
_seed = _compile(_seed_py)
_goal = _compile(_goal_py)
_forced = _compile(_forced_py)
_in_the_way = _compile(_in_the_way_py)
_with_displaced = _compile(_with_displaced_py)
_victims = _compile(_victims_py)
_returning = _compile(_returning_py)
_ruin = _compile(_ruin_py)


def cheapest_options(fleet: Instance, prices: Floats) -> tuple[Ints, Ints, Floats]:
    """See `reference.cheapest_options`."""
    lane, start = np.zeros(fleet.size, np.int64), np.zeros(fleet.size, np.int64)
    cost = np.zeros(fleet.size)
    _options(_arrays(fleet), prices, lane, start, cost)
    return lane, start, cost


def touching(fleet: Instance, lane: Ints, start: Ints, used: Floats) -> Ints:
    """See `reference.touching`."""
    out = np.empty(fleet.size, np.int64)
    return out[: _touching(_arrays(fleet), lane, start, used, out)]


def route(
    fleet: Instance, order: Ints, lane: Ints, start: Ints, used: Floats, mu: Floats, penalty: Floats, rip: bool,
    wish_lane: Ints, wish_start: Ints,
) -> None:  # fmt: skip
    """See `reference.route`."""
    _route(_arrays(fleet), order, lane, start, used, mu, penalty, rip, wish_lane, wish_start)


def polish(fleet: Instance, order: Ints, lane: Ints, start: Ints, used: Floats, prices: Floats, scale: float) -> int:
    """See `reference.polish`."""
    return int(_polish(_arrays(fleet), order, lane, start, used, prices, scale))


def ruin(
    fleet: Instance, near: Near, lane: Ints, start: Ints, used: Floats, prices: Floats, draws: Floats,
    hot: float, cool: float, miss_g: Floats, best_lane: Ints, best_start: Ints,
) -> None:  # fmt: skip
    """See `reference.ruin`."""
    _ruin(_arrays(fleet), near, lane, start, used, prices, draws, hot, cool, miss_g, best_lane, best_start)
