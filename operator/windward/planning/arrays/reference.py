"""The inner loops in numpy: the meaning of `compiled`, which must give equal bytes.

Every function below has a twin of the same name there. Sums run in the same order and ties go the same way in both: of
equal costs the job's first lane, then the earliest start. Random numbers come in as arrays.

What is called from outside takes (Q, R, T). The functions about one job take (Q, T, R): there the regions of a slot lie
side by side, and a window of slots is one stretch of memory, which numpy reads in less time than one for each region.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from windward.planning.arrays.instance import (
    DRAWN,
    EJECT,
    FEW_OUT,
    INVITE,
    MANY_OUT,
    ROUNDING,
    Bools,
    Floats,
    Instance,
    Ints,
    Near,
    by_slot,
    prefix,
)

NAME = "numpy"
_ALL = slice(None)
_FEW = 8  # regions for each of the job's own: so many are all read


def cheapest_options(fleet: Instance, prices: Floats) -> tuple[Ints, Ints, Floats]:
    """Each job's cheapest start with capacity at a price and no bound.

    Args:
        prices: (Q, R, T + 1) prefix sums of grams per unit-slot.

    Returns:
        lane, start, cost, each (N,).
    """
    least, cell = np.empty(fleet.size), np.empty(fleet.size, np.int64)
    for a, b in fleet.batches:
        begin, end = int(fleet.starts[a]), int(fleet.starts[b])
        cost = fleet.grams[begin:end]
        for q in range(prices.shape[0]):
            flat = prices[q].ravel()
            price = flat.take(fleet.ends[begin:end], mode="clip")  # none is out of bounds: no look
            price -= flat.take(fleet.begins[begin:end], mode="clip")
            price *= fleet.units_of_cell[q, begin:end]
            price += cost
            cost = price
        first = fleet.starts[a:b] - begin
        np.minimum.reduceat(cost, first, out=least[a:b])
        hits = np.flatnonzero(cost == np.repeat(least[a:b], np.diff(fleet.starts[a : b + 1])))
        cell[a:b] = begin + hits[np.searchsorted(hits, first)]
    lane = fleet.lane_of_cell[cell]
    return lane, fleet.first[lane] + cell - fleet.cells[lane], least


def cheapest_soft(fleet: Instance, j: int, used: Floats, mu: Floats, penalty: Floats) -> tuple[int, int]:
    """Job j's cheapest start, overuse at a penalty: (Q,) grams per unit-slot too many."""
    best, lane, start = np.inf, -1, -1
    cap = fleet.cap_by_slot
    for i, read, select, a, n, width, grams in _blocks(fleet, j):
        span = slice(a, a + width - 1 + n)
        price: Floats | None = None
        for q, u in fleet.needs[i]:  # q by itself: numpy moves axes where a number, a slice and an array index together
            over = used[q][span, read] + u
            over -= cap[q][span, read]
            np.maximum(over, 0.0, out=over)
            over *= penalty[q]
            over += u * mu[q][span, read]
            price = over if price is None else price + over
        cost = grams
        if price is not None:
            total = np.zeros((width + n, price.shape[1]))
            np.add.accumulate(price, axis=0, out=total[1:])
            cost = grams + (total[n:] - total[:width]).T[select]
        at = int(cost.argmin())
        least = cost.item(at)
        if least < best:
            best, lane, start = least, i + at // width, a + at % width
    return lane, start


def cheapest_hard(
    fleet: Instance, j: int, used: Floats, prices: Floats, scale: float, most_g: float = np.inf
) -> tuple[int, int]:
    """Job j's cheapest start that fits, with `scale` of the prices (prefix sums), of those of at most so many grams.

    Returns:
        lane, start; (-1, -1) where nothing fits.
    """
    best, lane, start = np.inf, -1, -1
    roof = fleet.roof_by_slot
    for i, read, select, a, n, width, grams in _blocks(fleet, j):
        span = slice(a, a + width - 1 + n)
        full: Bools | None = None
        cost = grams
        for q, u in fleet.needs[i]:
            over = used[q][span, read] + u > roof[q][span, read]
            full = over if full is None else full | over
            if scale > 0.0:
                price = prices[q][a : a + width + n, read]
                cost = cost + scale * u * (price[n:] - price[:width]).T[select]
        if full is not None:
            count = np.zeros((width + n, full.shape[1]), dtype=np.int32)
            np.add.accumulate(full, axis=0, dtype=np.int32, out=count[1:])
            cost = np.where((count[n:] == count[:width]).T[select], cost, np.inf)
        if most_g < np.inf:
            cost = np.where(grams <= most_g, cost, np.inf)
        at = int(cost.argmin())
        least = cost.item(at)
        if least < best:
            best, lane, start = least, i + at // width, a + at % width
    return lane, start


def _blocks(fleet: Instance, j: int) -> Iterator[tuple[int, slice | Ints, slice | Ints, int, int, int, Floats]]:
    """Job j's lanes, those of one shape together: first lane, regions to read, which of those are theirs, first start,
    slots, starts, grams (lanes, starts)."""
    lanes, region, first, width, slots, cells = fleet.plain
    i, end = lanes[j], lanes[j + 1]
    step = end - i if fleet.alike[j] else 1
    whole = fleet.cap.shape[1] <= _FEW * step
    for b in range(i, end, step):
        e, w = b + step, width[b]
        r = region[b]
        rows = slice(r, r + step) if region[e - 1] - r == step - 1 else fleet.region[b:e]
        read, select = (_ALL, rows) if whole else (rows, _ALL)
        yield b, read, select, first[b], slots[b], w, fleet.grams[cells[b] : cells[e]].reshape(step, w)


def hold(fleet: Instance, lane: int, start: int, used: Floats, sign: float) -> None:
    """Take (+1) or give back (-1) what a lane holds from `start` on."""
    _, region, _, _, slots, _ = fleet.plain
    r, end = region[lane], start + slots[lane]
    for q, u in fleet.needs[lane]:
        row = used[q, start:end, r]
        row += sign * u


def overfull(fleet: Instance, lane: int, start: int, used: Floats) -> bool:
    """Whether the lane, placed at `start`, shares a slot that is used too much in a resource that it holds."""
    _, region, _, _, slots, _ = fleet.plain
    r, n = region[lane], slots[lane]
    span, roof = slice(start, start + n), fleet.roof_by_slot
    for q, _ in fleet.needs[lane]:  # noqa: SIM110 - a generator takes as long as the comparison
        if np.count_nonzero(used[q, span, r] > roof[q, span, r]):
            return True
    return False


def touching(fleet: Instance, lane: Ints, start: Ints, used: Floats) -> Ints:
    """Jobs that are not placed, or hold something in an overfull slot, ascending."""
    count = prefix(used > fleet.roof)
    placed = np.flatnonzero(lane >= 0)
    held = lane[placed]
    begin = fleet.region[held] * count.shape[2] + start[placed]
    end = begin + fleet.slots[held]
    hit = np.zeros(len(placed), bool)
    for q in range(len(count)):
        full = count[q].ravel()
        hit |= (full[end] > full[begin]) & (fleet.units[held, q] > 0)
    out = lane < 0
    out[placed[hit]] = True
    return np.flatnonzero(out)


def fits(fleet: Instance, lane: int, start: int, used: Floats) -> bool:
    """Whether there is room for the lane at `start`."""
    _, region, _, _, slots, _ = fleet.plain
    r, span, roof = region[lane], slice(start, start + slots[lane]), fleet.roof_by_slot
    for q, u in fleet.needs[lane]:  # noqa: SIM110 - as above
        if np.count_nonzero(used[q, span, r] + u > roof[q, span, r]):
            return False
    return True


def route(
    fleet: Instance,
    order: Ints,
    lane: Ints,
    start: Ints,
    used: Floats,
    mu: Floats,
    penalty: Floats,
    rip: bool,
    wish_lane: Ints,
    wish_start: Ints,
) -> None:
    """One pass of soft placement over `order`, in place; with `rip` only jobs that touch an overfull slot move.

    Args:
        wish_lane, wish_start: (N,) each job's cheapest start at the prices, or -1: where that fits, nothing else can be
            cheaper, and nothing else is weighed.
    """
    wishes, begins = wish_lane.tolist(), wish_start.tolist()
    held, mu = by_slot(used), by_slot(mu)
    for j in order.tolist():
        i, s = lane.item(j), start.item(j)
        if i >= 0:
            if rip and not overfull(fleet, i, s, held):
                continue
            hold(fleet, i, s, held, -1.0)
        i, s = wishes[j], begins[j]
        if i < 0 or not fits(fleet, i, s, held):
            i, s = cheapest_soft(fleet, j, held, mu, penalty)
        lane[j], start[j] = i, s
        hold(fleet, i, s, held, 1.0)
    used[:] = by_slot(held)


def polish(fleet: Instance, order: Ints, lane: Ints, start: Ints, used: Floats, prices: Floats, scale: float) -> int:
    """Take each job out and put it back where it costs least and fits, in place.

    Returns:
        How many moved. Jobs without a lane are put in where they fit.
    """
    moved = 0
    held, prices = by_slot(used), by_slot(prices)
    for j in order.tolist():
        old = i, s = lane.item(j), start.item(j)
        if i >= 0:
            hold(fleet, i, s, held, -1.0)
        new = cheapest_hard(fleet, j, held, prices, scale)
        i, s = new if new[0] >= 0 else old
        if i >= 0:
            hold(fleet, i, s, held, 1.0)
        moved += (i, s) != old
        lane[j], start[j] = i, s
    used[:] = by_slot(held)
    return moved


def ruin(
    fleet: Instance,
    near: Near,
    lane: Ints,
    start: Ints,
    used: Floats,
    prices: Floats,
    draws: Floats,
    hot: float,
    cool: float,
    miss_g: Floats,
    best_lane: Ints,
    best_start: Ints,
) -> None:
    """Ruin and recreate, one try a row of `draws`, in place; the best placement goes to `best_lane`, `best_start`.

    Args:
        draws: (tries, DRAWS) uniform in [0, 1).
        hot, cool: grams that a try may cost at the first and the last row.
        miss_g: (N,) what each job costs that has no place.
    """
    held, prices = by_slot(used), by_slot(prices)
    missing = int((lane < 0).sum())
    behind = _cost(fleet, lane, start, miss_g) - _cost(fleet, best_lane, best_start, miss_g)
    for row in range(draws.shape[0]):
        d = draws[row]
        seed = _seed(fleet, lane, d, missing)
        goal = _goal(fleet, seed, d) if d[1] < EJECT else -1
        out = _victims(fleet, near, lane, start, d, seed, goal)
        old = [(int(lane[j]), int(start[j])) for j in out]
        before, left = 0.0, 0.0  # left: the least that those still to be put back can cost
        for j, (i, s) in zip(out, old, strict=True):
            left += fleet.least[j]
            before += _grams(fleet, j, i, s, miss_g)
        allowed = (hot + (cool - hot) * (row / draws.shape[0])) * d[4]
        spare = allowed + ROUNDING * before + before - left
        if goal >= 0 and d[3] >= 0.5 and spare < fleet.grams[goal] - fleet.least[seed]:
            continue  # forced there, it would cost more than the others can save
        for j, (i, s) in zip(out, old, strict=True):
            if i >= 0:
                hold(fleet, i, s, held, -1.0)
            lane[j] = -1
        after = _put_back(fleet, out, goal, lane, start, held, prices, d, before, left, allowed, miss_g)
        if after - before <= allowed:
            missing += sum(int(lane[j]) < 0 for j in out) - sum(i < 0 for i, _ in old)
            behind += after - before
            if behind < -1e-9:
                best_lane[:], best_start[:] = lane, start
                behind = 0.0
            continue
        for j, (i, s) in zip(out, old, strict=True):
            if lane[j] >= 0:
                hold(fleet, int(lane[j]), int(start[j]), held, -1.0)
            lane[j], start[j] = i, s
        for i, s in old:
            if i >= 0:
                hold(fleet, i, s, held, 1.0)
    used[:] = by_slot(held)


def _put_back(
    fleet: Instance, out: list[int], goal: int, lane: Ints, start: Ints, used: Floats, prices: Floats, d: Floats,
    before: float, left: float, allowed: float, miss_g: Floats,
) -> float:  # fmt: skip
    """Each of those taken out where it costs least; their grams, infinite as soon as they must be too many."""
    scale, after = 0.0 if d[5] < 0.5 else 2.0 * (d[5] - 0.5), 0.0
    for j in _returning(fleet, out, d):
        spare = allowed + ROUNDING * before + before - after - left
        if spare < 0.0:
            return np.inf
        i, s = _forced(fleet, j, goal, used) if j == out[0] and goal >= 0 and d[3] >= 0.5 else (-1, -1)
        if i < 0:
            i, s = cheapest_hard(fleet, j, used, prices, scale, fleet.least[j] + spare)
        lane[j], start[j] = i, s
        left -= fleet.least[j]
        after += _grams(fleet, j, i, s, miss_g)
        if i >= 0:
            hold(fleet, i, s, used, 1.0)
    return after


def _grams(fleet: Instance, j: int, lane: int, start: int, miss_g: Floats) -> float:
    return float(miss_g[j]) if lane < 0 else float(fleet.grams[fleet.cells[lane] + start - fleet.first[lane]])


def _cost(fleet: Instance, lane: Ints, start: Ints, miss_g: Floats) -> float:
    total = 0.0
    for j, (i, s) in enumerate(zip(lane.tolist(), start.tolist(), strict=True)):
        total += _grams(fleet, j, i, s, miss_g)
    return total


def _seed(fleet: Instance, lane: Ints, d: Floats, missing: int) -> int:
    """The job that a try is about; in a fifth of the tries one that has no place, if there is any.

    Where others are invited to what it leaves it is the larger of two draws: a small one leaves little.
    """
    seed = int(d[0] * fleet.size)
    if missing == 0 or 0.1 <= d[1] <= 0.9:
        if d[1] < EJECT and d[6] < INVITE:
            other = int(d[DRAWN + 7] * fleet.size)
            return other if _size(fleet, other) > _size(fleet, seed) else seed
        return seed
    for step in range(fleet.size):
        j = (seed + step) % fleet.size
        if lane[j] < 0:
            return j
    return seed


def _size(fleet: Instance, j: int) -> float:
    """Unit-slots of the first resource that a job holds in its first lane."""
    return float(fleet.units[fleet.lanes[j], 0]) * int(fleet.slots[fleet.lanes[j]])


def _goal(fleet: Instance, seed: int, d: Floats) -> int:
    """A start of the job for which others are to make way: the cheapest of a few draws."""
    first, cells = int(fleet.starts[seed]), int(fleet.starts[seed + 1] - fleet.starts[seed])
    best = first + int(d[DRAWN] * cells)
    for n in range(int(d[2] * 4.0)):
        cell = first + int(d[DRAWN + 1 + n] * cells)
        if fleet.grams[cell] < fleet.grams[best]:
            best = cell
    return best


def _forced(fleet: Instance, j: int, goal: int, used: Floats) -> tuple[int, int]:
    """Job j at exactly that start, if it fits."""
    i = int(fleet.lanes[j])
    while fleet.cells[i + 1] <= goal:
        i += 1
    start = int(fleet.first[i] + goal - fleet.cells[i])
    return (i, start) if fits(fleet, i, start, used) else (-1, -1)


def _victims(fleet: Instance, near: Near, lane: Ints, start: Ints, d: Floats, seed: int, goal: int) -> list[int]:
    """A job, and who stands in its way: in the goal drawn for it, or near it in time."""
    if goal >= 0:
        few = lane[seed] >= 0 and d[6] >= INVITE
        out = _in_the_way(fleet, near, seed, goal, lane, start, d, FEW_OUT if few else MANY_OUT)
        return _with_displaced(fleet, near, out, goal, lane, start, d) if lane[seed] >= 0 and not few else out
    k = 2 + int(d[2] * d[2] * (FEW_OUT - 1))
    reach = 6 * k + 6
    lanes, end = range(int(fleet.lanes[seed]), int(fleet.lanes[seed + 1])), 0
    for i in lanes:
        end = max(end, int(fleet.first[i] + fleet.width[i] - 1 + fleet.slots[i]))
    begin = int(fleet.first[lanes[0]])
    out = [seed]
    for n in range(2 * FEW_OUT):
        if len(out) >= k:
            break
        at = int(near.rank[seed]) + int((d[DRAWN + n] - 0.5) * 2.0 * reach)
        if at < 0 or at >= fleet.size:
            continue
        j = int(near.order[at])
        i = int(lane[j])
        if i < 0 or j in out or start[j] >= end or start[j] + fleet.slots[i] <= begin:
            continue
        if any(fleet.region[b] == fleet.region[i] for b in lanes):
            out.append(j)
    return out


def _in_the_way(
    fleet: Instance, near: Near, seed: int, best: int, lane: Ints, start: Ints, d: Floats, most: int
) -> list[int]:
    """The job, and those that run where that start of it would; `most` at most."""
    i = int(fleet.lanes[seed])
    while fleet.cells[i + 1] <= best:
        i += 1
    begin = int(fleet.first[i] + best - fleet.cells[i])
    end, region = begin + int(fleet.slots[i]), int(fleet.region[i])
    out = [seed]
    about = near.order[near.low[begin] : near.high[end]]
    offset = int(d[DRAWN + 5] * len(about))
    for n in range(len(about)):
        if len(out) >= most:
            break
        j = int(about[(n + offset) % len(about)])
        b = int(lane[j])
        if b < 0 or j == seed or fleet.region[b] != region:
            continue
        if start[j] < end and start[j] + fleet.slots[b] > begin:
            out.append(j)
    return out


def _with_displaced(
    fleet: Instance, near: Near, out: list[int], goal: int, lane: Ints, start: Ints, d: Floats
) -> list[int]:
    """Also those who would rather be where the job leaves: a large job's move pays only if many others follow it."""
    seed, i = out[0], int(fleet.lanes[out[0]])
    while fleet.cells[i + 1] <= goal:
        i += 1
    left = int(lane[seed])
    region, begin, end = int(fleet.region[left]), int(start[seed]), int(start[seed] + fleet.slots[left])
    if fleet.region[i] == region:  # what it holds before and after is not left
        new = int(fleet.first[i] + goal - fleet.cells[i])
        if new < begin:
            begin = max(begin, new + int(fleet.slots[i]))
        else:
            end = min(end, new)
    if end <= begin:
        return out
    about = near.order[near.low[begin] : near.high[end]]
    offset = int(d[DRAWN + 6] * len(about))
    for n in range(len(about)):
        if len(out) >= MANY_OUT:
            break
        j = int(about[(n + offset) % len(about)])
        b = int(lane[j])
        if b < 0 or j in out or fleet.grams[fleet.cells[b] + start[j] - fleet.first[b]] <= fleet.least[j]:
            continue
        for k in range(int(fleet.lanes[j]), int(fleet.lanes[j + 1])):
            opens, closes = fleet.first[k], fleet.first[k] + fleet.width[k] - 1 + fleet.slots[k]
            if fleet.region[k] == region and opens < end and closes > begin:
                out.append(j)
                break
    return out


def _returning(fleet: Instance, out: list[int], d: Floats) -> list[int]:
    """The order of putting back: largest first, or at random; a job for which others made way before them."""
    if d[3] < 0.4:
        keys = [-_size(fleet, j) for j in out]
    else:
        keys = [float(d[len(d) - 1 - n % (2 * FEW_OUT)]) for n in range(len(out))]
    if d[1] < EJECT:
        keys[0] = -np.inf
    return [out[n] for n in sorted(range(len(out)), key=lambda n: (keys[n], n))]
