"""Search for fleets too small or too tight for prices alone: restarts, then ruin and recreate.

A few large jobs in little room are a packing problem: prices say what is worth having, not what fits together. Tries
are counted, never seconds. One try takes out a handful of jobs that run near each other, or those that stand in the way
of a drawn start of one job; it puts them back one by one where they cost least (under prices, or for their own grams)
and keeps the result if the grams fall, or rise less than a threshold that shrinks as the tries go on (threshold
accepting: Dueck and Scheuer, J. Comput. Phys. 90, 1990; ruin and recreate: Schrimpf et al., ibid. 159, 2000).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.planning.arrays.instance import DRAWN, DRAWS, EJECT, INVITE, Floats, Instance, Ints, prefix, runs
from windward.planning.arrays.kernels import Kernels
from windward.planning.arrays.placement import Placement, evict, polish, rip_up_and_reroute

SMALL_JOBS = 1_500
SMALL_CAP = 20.0  # biggest jobs that fit side by side
_ROUND = 2_000
_SHORT_ROUND, _WARM = 250, 0.1  # while jobs have no place
_PERTURBED, _AFTER = 0.3, 100  # share of the tries for perturbations at the end, and tries for each
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
        at = rip_up_and_reroute(
            fleet, kernels, mu * scale, first_penalty=level, growth=growth, seed=int(dice.integers(2**31)),
            mixed=turn > 0,
        )  # fmt: skip
        late = evict(fleet, kernels, at)
        polish(fleet, kernels, at, 2)
        value = (len(late), grams(fleet, at))
        if best is None or value < best[0]:
            best = (value, at)
    assert best is not None
    return best[1]


def search(fleet: Instance, kernels: Kernels, mu: Floats, tries: int, count: int, seed: int) -> Placement:
    """Restarts, then ruin and recreate.

    While jobs have no place, an eighth of the tries may go to finding one for all, and another eighth to that with no
    regard to grams: to start as early as may be leaves most room behind.
    """
    at, left = restarts(fleet, kernels, mu, count, seed), tries
    at, spent = place_all(fleet, kernels, at, mu, tries // 8, seed)
    left -= spent
    if np.any(at.lane < 0):
        early = replace(fleet, grams=runs(fleet.first, fleet.width).astype(np.float64))
        free = np.zeros(mu.shape)
        packed, spent = place_all(early, kernels, restarts(early, kernels, free, 1, seed), free, tries // 8, seed)
        at, left = min(at, packed, key=lambda x: int((x.lane < 0).sum())), left - spent
    perturbations = int(_PERTURBED * left) // _AFTER
    at = improve(fleet, kernels, at, mu, left - perturbations * _AFTER, seed)
    return perturbed(fleet, kernels, at, mu, perturbations, seed)


def place_all(
    fleet: Instance, kernels: Kernels, at: Placement, mu: Floats, tries: int, seed: int
) -> tuple[Placement, int]:
    """A placement with fewer jobs left out, if one is found, and the tries that it took.

    Who is left out costs more and more, so that those whom only a few starts suit come before those who fit anywhere,
    and no two of them can change places for ever (as the counters of Nagata and Bräysy, Oper. Res. Lett. 37, 2009).
    """
    dice, prices = np.random.default_rng([seed, 3]), prefix(mu)
    first_g, typical_g = _miss_g(fleet), _typical_g(fleet, at)
    now, best, miss_g = at.copy(), at.copy(), np.full(fleet.size, first_g)
    done = 0
    while done < tries and np.any(at.lane < 0):
        count = min(_SHORT_ROUND, tries - done)
        draws = dice.random((count, DRAWS))
        hot = _WARM * typical_g * (1.0 - done / tries)
        kernels.ruin(
            fleet, fleet.near, now.lane, now.start, now.used, prices, draws, hot, hot, miss_g, best.lane, best.start
        )
        if (best.lane < 0).sum() < (at.lane < 0).sum():
            at = Placement(best.lane.copy(), best.start.copy(), fleet.use(best.lane, best.start))
        miss_g[now.lane < 0] += first_g
        done += count
    return at, done


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
    prices = prefix(mu)
    miss_g = np.full(fleet.size, _miss_g(fleet))
    now, best, typical_g = at.copy(), at.copy(), _typical_g(fleet, at)
    for done in range(0, tries, _ROUND):
        count = min(_ROUND, tries - done)
        draws = dice.random((count, DRAWS))
        first, last = (hot * typical_g * (1.0 - n / tries) ** 3 for n in (done, done + count))
        kernels.ruin(
            fleet, fleet.near, now.lane, now.start, now.used, prices, draws, first, last, miss_g, best.lane, best.start
        )
        # The kernel keeps the best of its round in `best`; used follows from it.
    best.used = fleet.use(best.lane, best.start)
    return min(best, at, key=lambda x: score(fleet, x))


def perturbed(fleet: Instance, kernels: Kernels, at: Placement, mu: Floats, perturbations: int, seed: int) -> Placement:
    """A large job is put to a drawn start whatever it costs, then those about it are searched; kept if all is better.

    Where one job fills a region for hours, its move pays only after thirty small ones have found new places: no single
    try gets there, and at the end of `improve` no threshold lets the first step pass.
    """
    if np.any(at.lane < 0) or fleet.size < 2:
        return at
    dice, prices, near = np.random.default_rng([seed, 4]), prefix(mu), fleet.near
    miss_g, hot = np.full(fleet.size, _miss_g(fleet)), _WARM * _typical_g(fleet, at)
    least_g, any_g = grams(fleet, at), float(miss_g.sum())
    likely = np.cumsum(fleet.held[:, 0] ** 2) if fleet.held[:, 0].any() else np.arange(1.0, fleet.size + 1)
    for job in np.searchsorted(likely / likely[-1], dice.random(perturbations)).tolist():
        draws = dice.random((_AFTER, DRAWS))
        _aim(fleet, draws, job, about=_about(fleet, at, job))
        now, best = at.copy(), at.copy()
        kernels.ruin(
            fleet, near, now.lane, now.start, now.used, prices, draws[:1], any_g, any_g, miss_g, best.lane, best.start
        )
        best = now.copy()
        kernels.ruin(
            fleet, near, now.lane, now.start, now.used, prices, draws[1:], hot, 0.0, miss_g, best.lane, best.start
        )
        if not np.any(best.lane < 0) and grams(fleet, best) < least_g:
            at = Placement(best.lane, best.start, fleet.use(best.lane, best.start))
            least_g = grams(fleet, at)
    return at


def _about(fleet: Instance, at: Placement, job: int) -> Ints:
    """Jobs that may run while this one may, in its region."""
    lane = at.lane[job]
    opens, closes = fleet.first[lane], fleet.first[lane] + fleet.width[lane] - 1 + fleet.slots[lane]
    return fleet.near.order[fleet.near.low[opens] : fleet.near.high[closes]]


def _aim(fleet: Instance, draws: Floats, job: int, about: Ints) -> None:
    """Make the first try put `job` to a start, and the others be about those near it."""
    draws[1:, 0] = (about[(draws[1:, 0] * len(about)).astype(np.int64)] + 0.5) / fleet.size
    draws[0, 0] = draws[0, DRAWN + 7] = (job + 0.5) / fleet.size
    draws[0, 1] = 0.5 * (0.1 + EJECT)  # others make way
    draws[0, 3] = 0.5 + 0.5 * draws[0, 3]  # it is put there first
    draws[0, 6] *= INVITE  # others are invited to what it leaves


def _miss_g(fleet: Instance) -> float:
    """Grams that no job's place is worth."""
    return 10.0 * float(np.abs(fleet.grams).max()) + 1.0


def _typical_g(fleet: Instance, at: Placement) -> float:
    placed = fleet.grams_of(at.lane, at.start)[at.lane >= 0]
    return float(placed.mean()) if len(placed) else 0.0


def grams(fleet: Instance, at: Placement) -> float:
    """Of the jobs that have a place."""
    return float(np.nansum(fleet.grams_of(at.lane, at.start)))


def score(fleet: Instance, at: Placement) -> tuple[int, float]:
    """Fewest jobs without a place first, then least grams."""
    return int((at.lane < 0).sum()), grams(fleet, at)
