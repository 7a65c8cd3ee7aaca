"""Search for fleets too small or too tight for prices to settle: restarts, then ruin and recreate.

A few large jobs in little room are a packing problem: prices say what is worth having, not what fits together. Tries
are counted, never seconds. One try takes out a handful of jobs that run near each other, or those that stand in the way
of a drawn start of one job; it puts them back one by one where they cost least (under prices, or for their own grams)
and keeps the result if the grams fall, or rise less than a threshold that shrinks as the tries go on (threshold
accepting: Dueck and Scheuer, J. Comput. Phys. 90, 1990; ruin and recreate: Schrimpf et al., ibid. 159, 2000).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.planning.fleet.instance import DRAWN, Floats, Instance, Ints, prefix, runs
from windward.planning.fleet.kernels import Kernels
from windward.planning.fleet.placement import Placement, evict, settle, tidy

SMALL_JOBS = 1_500
SMALL_CAP = 20.0  # biggest jobs that fit side by side
_ROUND = 2_000
MOST_OUT = 12  # jobs taken out at once
_HOT = 0.5  # of a typical job's grams: what a try may cost at first


def is_small(fleet: Instance) -> bool:
    """Whether the fleet is worth a search: few jobs, or room for few of the biggest side by side."""
    cap = np.where(np.isfinite(fleet.cap), fleet.cap, 0.0).max(axis=(1, 2))
    biggest = fleet.units.max(axis=0)
    tight = np.any((cap > 0) & (biggest > 0) & (cap < SMALL_CAP * biggest))
    return fleet.size <= SMALL_JOBS or bool(tight and fleet.size <= 10 * SMALL_JOBS)


def restarts(fleet: Instance, kernels: Kernels, mu: Floats, count: int, seed: int) -> Placement:
    """The best of `count` soft placements under prices scaled down at random; fewest late first, then least grams."""
    dice = np.random.default_rng([seed, 1])
    best: tuple[tuple[int, float], Placement] | None = None
    for turn in range(max(1, count)):
        scale, level, growth = dice.uniform(0.3, 1.1), 10 ** dice.uniform(-1.5, 0.3), dice.uniform(1.1, 1.6)
        if turn == 0:
            scale, level, growth = 1.0, 0.03, 1.4
        at = settle(
            fleet, kernels, mu * scale, first_penalty=level, growth=growth, seed=int(dice.integers(2**31)),
            mixed=turn > 0,
        )  # fmt: skip
        late = evict(fleet, kernels, at)
        tidy(fleet, kernels, at, 2)
        found = (len(late), grams(fleet, at))
        if best is None or found < best[0]:
            best = (found, at)
    assert best is not None
    return best[1]


def search(fleet: Instance, kernels: Kernels, mu: Floats, tries: int, count: int, seed: int) -> Placement:
    """Restarts, then ruin and recreate.

    While jobs have no place, an eighth of the tries goes to finding one for all with no regard to grams: to start as
    early as may be leaves most room behind.
    """
    at, left = restarts(fleet, kernels, mu, count, seed), tries
    part = tries // 8
    if np.any(at.lane < 0):
        at, left = improve(fleet, kernels, at, mu, part, seed, hot=0.0), left - part
    if np.any(at.lane < 0):
        early = replace(fleet, grams=runs(fleet.first, fleet.width).astype(np.float64))
        free = np.zeros(mu.shape)
        packed = improve(early, kernels, restarts(early, kernels, free, 1, seed), free, part, seed)
        at, left = min(at, packed, key=lambda x: int((x.lane < 0).sum())), left - part
    return improve(fleet, kernels, at, mu, left, seed)


def neighbours(fleet: Instance) -> Ints:
    """(N,) jobs in the order of their windows' middles: near in this list is near in time."""
    lane = fleet.lanes[:-1]
    middle = 2 * fleet.first[lane] + fleet.width[lane] + fleet.slots[lane]
    return np.asarray(np.lexsort((np.arange(fleet.size), middle)), np.int64)


def improve(
    fleet: Instance, kernels: Kernels, at: Placement, mu: Floats, tries: int, seed: int, *, hot: float = _HOT
) -> Placement:
    """Ruin and recreate from `at`; the best placement seen. Jobs without a place are tried first in every round.

    Args:
        hot: what the first tries may cost, in grams of a typical job; 0: only what is better is kept.
    """
    if fleet.size < 2 or tries <= 0:
        return at
    dice = np.random.default_rng([seed, 2])
    order, prices = neighbours(fleet), prefix(mu)
    rank = np.empty(fleet.size, np.int64)
    rank[order] = np.arange(fleet.size)
    miss_g = 10.0 * float(np.abs(fleet.grams).max()) + 1.0
    now, best = at.copy(), at.copy()
    typical = float(np.nanmean(fleet.grams_of(at.lane, at.start)))
    best_g = _score(fleet, best, miss_g)
    for done in range(0, tries, _ROUND):
        count = min(_ROUND, tries - done)
        draws = dice.random((count, DRAWN + 2 * MOST_OUT))
        first, last = (hot * typical * (1.0 - n / tries) ** 3 for n in (done, done + count))
        kernels.ruin(
            fleet, order, rank, now.lane, now.start, now.used, prices, draws, first, last, miss_g, best.lane,
            best.start,
        )  # fmt: skip
        # The kernel keeps the best of its round in `best`; used follows from it.
    best.used = fleet.use(best.lane, best.start)
    return best if _score(fleet, best, miss_g) <= best_g else at


def _score(fleet: Instance, at: Placement, miss_g: float) -> float:
    return grams(fleet, at) + miss_g * int((at.lane < 0).sum())


def grams(fleet: Instance, at: Placement) -> float:
    """Of the jobs that have a place."""
    return float(np.nansum(fleet.grams_of(at.lane, at.start)))


def score(fleet: Instance, at: Placement) -> tuple[int, float]:
    """Fewest jobs without a place first, then least grams."""
    return int((at.lane < 0).sum()), grams(fleet, at)
