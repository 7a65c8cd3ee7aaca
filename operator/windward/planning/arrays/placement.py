"""From prices to a plan that keeps the capacities: soft placement with rip-up and reroute, then polish.

Jobs are placed one by one where grams, prices and a penalty on overuse are least; those in overfull slots are taken out
and placed again with a higher penalty until nothing is overfull, as routers of circuits do (docs/planning.md 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from windward.planning.arrays.instance import EVEN, Floats, Instance, Ints, prefix
from windward.planning.arrays.kernels import Kernels

_CORNERED = 12  # starts in all: jobs with so few choose first
_GROWTH, _MOST = 1.6, 30.0  # of the penalty a pass, and its end, in units of typical grams
_LEARN = 0.15  # of the penalty, on top of the price of a slot that stayed overfull
_SHUFFLE_AFTER, _ALL_EVERY = 11, 8


@dataclass
class Placement:
    """Where every job is; changed in place by the kernels.

    Attributes:
        lane, start: (N,) lane -1: not placed.
        used: (Q, R, T) units held.
    """

    lane: Ints
    start: Ints
    used: Floats

    @classmethod
    def empty(cls, fleet: Instance) -> Placement:
        return cls(np.full(fleet.size, -1, np.int64), np.zeros(fleet.size, np.int64), np.zeros(fleet.cap.shape))

    def copy(self) -> Placement:
        return Placement(self.lane.copy(), self.start.copy(), self.used.copy())

    def over(self, fleet: Instance) -> float:
        """Unit-slots used beyond capacity."""
        return _sum_over(self.used - fleet.cap)


def order_of(fleet: Instance) -> tuple[Ints, int]:
    """The cornered first, then the largest, then the hungriest.

    Returns:
        jobs in order, and how many of them are cornered.
    """
    choices = np.diff(fleet.starts)
    cornered = choices <= _CORNERED
    scale = np.maximum(fleet.held.sum(axis=0), 1e-300)
    size = (fleet.held / scale).sum(axis=1)
    grams = np.maximum.reduceat(fleet.grams, fleet.starts[:-1])
    order = np.lexsort((np.arange(fleet.size), -grams, -size, ~cornered))
    return order.astype(np.int64), int(cornered.sum())


def rip_up_and_reroute(
    fleet: Instance,
    kernels: Kernels,
    mu: Floats,
    *,
    first_penalty: float = 0.03,
    growth: float = _GROWTH,
    passes: int = 60,
    seed: int = 0,
    mixed: bool = False,
    begin: Placement | None = None,
) -> Placement:
    """Soft placement at prices `mu`, until nothing is overfull or the passes are spent; the least overfull one.

    Args:
        first_penalty: grams on a unit-slot too many at first, in units of the fleet's typical grams.
        mixed: shuffle from the first pass on (restarts), not only after the eleventh.
    """
    dice = np.random.default_rng(seed)
    order, cornered = order_of(fleet)
    rank, nowhere = np.empty(fleet.size, np.int64), np.full(fleet.size, -1, np.int64)
    at = begin.copy() if begin is not None else Placement.empty(fleet)
    mu = mu.copy()
    unit_g = fleet.unit_g
    largest = np.maximum(np.where(np.isfinite(fleet.cap), fleet.cap, 0.0).max(axis=2, keepdims=True), 1e-9)
    level = first_penalty
    best: tuple[float, Placement] | None = None
    for turn in range(passes):
        if mixed or turn > _SHUFFLE_AFTER:
            order = np.concatenate([dice.permutation(order[:cornered]), dice.permutation(order[cornered:])])
        whole = turn == 0 or turn % _ALL_EVERY == 0
        rank[order] = np.arange(fleet.size)
        jobs = order if whole else _by(rank, kernels.touching(fleet, at.lane, at.start, at.used))
        wish_lane, wish_start = kernels.cheapest_options(fleet, prefix(mu))[:2] if whole else (nowhere, nowhere)
        kernels.route(
            fleet, jobs, at.lane, at.start, at.used, mu, level * unit_g, not whole, wish_lane, wish_start
        )  # fmt: skip
        excess = at.used - fleet.cap
        over = _sum_over(excess)
        if best is None or over < best[0]:
            best = (over, at.copy())
        if over == 0.0:
            break
        level = min(growth * level, _MOST)
        np.maximum(excess, 0.0, out=excess)
        excess /= largest
        mu += (_LEARN * level * unit_g)[:, None, None] * np.minimum(1.0, excess, out=excess)
    assert best is not None
    return best[1]


def _sum_over(excess: Floats) -> float:
    over = excess > EVEN
    return float(excess[over].sum()) if over.any() else 0.0


def _by(rank: Ints, jobs: Ints) -> Ints:
    return jobs[np.argsort(rank[jobs], kind="stable")]


def polish(fleet: Instance, kernels: Kernels, at: Placement, passes: int) -> None:
    """Put each job where it costs least of what is free, in the order of placement; in place.

    Jobs that have the cheapest of all their starts already are left alone.
    """
    order, _ = order_of(fleet)
    free = np.zeros((*fleet.cap.shape[:2], fleet.cap.shape[2] + 1))
    for _ in range(passes):
        wanting = ~(fleet.grams_of(at.lane, at.start) <= fleet.least)  # jobs without a place (nan) want one
        if kernels.polish(fleet, order[wanting[order]], at.lane, at.start, at.used, free, 0.0) == 0:
            break


def one_by_one(fleet: Instance, kernels: Kernels) -> Placement:
    """Each job where it costs least of what those before it left: no prices, no second thoughts."""
    at = Placement.empty(fleet)
    polish(fleet, kernels, at, 1)
    return at


def evict(fleet: Instance, kernels: Kernels, at: Placement) -> Ints:
    """Make a placement keep the capacities: take out jobs in overfull slots, smallest first, and put back what fits.

    Returns:
        The jobs that have no place left inside their windows.
    """
    order, _ = order_of(fleet)
    rank = np.empty(fleet.size, np.int64)
    rank[order] = np.arange(fleet.size)
    for j in _by(-rank, kernels.touching(fleet, at.lane, at.start, at.used)).tolist():
        lane, start = int(at.lane[j]), int(at.start[j])
        if lane < 0:
            continue
        span = (slice(None), int(fleet.region[lane]), slice(start, start + int(fleet.slots[lane])))
        over = (at.used[span] > fleet.cap[span] + EVEN) & (fleet.units[lane][:, None] > 0)
        if np.any(over):
            at.used[span] -= fleet.units[lane][:, None]
            at.lane[j] = -1
    free = np.zeros((*fleet.cap.shape[:2], fleet.cap.shape[2] + 1))
    kernels.polish(fleet, _by(rank, np.flatnonzero(at.lane < 0)), at.lane, at.start, at.used, free, 0.0)
    return np.flatnonzero(at.lane < 0)
