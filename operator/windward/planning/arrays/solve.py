"""The plan of a fleet that competes for capacity: prices, placement, polish, and what proves it good."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from windward.planning.arrays import kernels as choice
from windward.planning.arrays import search
from windward.planning.arrays.instance import Floats, Instance, Ints
from windward.planning.arrays.kernels import Kernels
from windward.planning.arrays.placement import Placement, evict, one_by_one, polish, rip_up_and_reroute
from windward.planning.arrays.prices import Prices, ascend, climb

_PROVED = 0.002  # gap at which an earlier plan stands, and nothing else is tried
_MENDED = 0.005  # gap above which a small fleet's replan is searched


@dataclass(frozen=True, slots=True)
class Budget:
    """How hard to try, counted in rounds and tries, never in seconds: equal input gives an equal plan.

    Attributes:
        iterations: rounds of prices from nothing.
        warm_iterations: rounds of prices from an earlier plan's.
        theta: step of those.
        penalty: on overuse in the first pass of placement, in typical grams of a unit-slot.
        passes: of placement, each attempt.
        attempts: with ever larger penalties, while capacities are overused.
        polish: passes of polish.
        tries: of search, for small fleets; none: prices and placement alone.
        mend: tries where there is no such search, if the prices leave a gap: only what is better is kept.
        restarts: before the search.
        seed: of every draw.
    """

    iterations: int = 60
    warm_iterations: int = 5
    theta: float = 0.2
    penalty: float = 0.03
    passes: int = 60
    attempts: int = 3
    polish: int = 1
    tries: int = 0
    mend: int = 0
    restarts: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Solution:
    """Where every job goes, and how good that is.

    Attributes:
        lane, start: (N,) lane -1: no place inside its window.
        grams: (N,) nan where there is none.
        bound_g: no plan of all jobs that keeps the capacities has fewer grams.
        mu: (Q, R, T) prices of capacity, grams per unit and slot.
        late: jobs without a place.
    """

    lane: Ints
    start: Ints
    grams: Floats
    bound_g: float
    mu: Floats
    late: Ints

    @property
    def total_g(self) -> float:
        return float(np.nansum(self.grams))

    @property
    def gap(self) -> float:
        """How far the plan may be from the best one, as a share of the bound."""
        return self.total_g / self.bound_g - 1.0 if self.bound_g > 0 else 0.0


def solve(
    fleet: Instance,
    budget: Budget | None = None,
    *,
    warm: Floats | None = None,
    begin: Placement | None = None,
    compiled: bool | None = None,
) -> Solution:
    """Plan a fleet.

    Args:
        warm: (Q, R, T) prices of an earlier plan, shifted to this one's first slot.
        begin: places of an earlier plan; only jobs that the prices moved or that lack room are placed anew.
        compiled: see `kernels.pick`; the answer is the same.
    """
    budget = budget or Budget()
    kernels = choice.pick(fleet, compiled)
    small = search.is_small(fleet)
    kept = _kept(fleet, kernels, begin, budget) if begin is not None and small else None
    enough = _enough(fleet, kept)
    prices = price(fleet, kernels, budget, warm, enough)
    if kept is not None and prices.bound_g >= enough:
        at = kept  # proved to be as good as another could be
    else:
        if kept is not None and not np.any(kept.lane < 0):
            budget = replace(budget, attempts=1)  # only a rival of a plan that has all of them
        at = _placed(fleet, kernels, budget, prices.mu, begin)
        if small:
            rivals = [at, one_by_one(fleet, kernels)] + ([kept] if kept is not None else [])
            at = min(rivals, key=lambda x: search.score(fleet, x))
            if search.grams(fleet, at) > prices.bound_g * (1.0 + _MENDED):
                at = search.improve(fleet, kernels, at, prices.mu, budget.mend, budget.seed, hot=0.0)
    late = np.flatnonzero(at.lane < 0)
    return Solution(at.lane, at.start, fleet.grams_of(at.lane, at.start), prices.bound_g, prices.mu, late)


def _placed(fleet: Instance, kernels: Kernels, budget: Budget, mu: Floats, begin: Placement | None) -> Placement:
    """A placement at the prices, by search where that is asked for and worth it."""
    if budget.tries and search.is_small(fleet):
        at = search.search(fleet, kernels, mu, budget.tries, budget.restarts, budget.seed)
    else:
        at = place(fleet, kernels, mu, budget, begin)
        evict(fleet, kernels, at)
    polish(fleet, kernels, at, budget.polish)
    return at


def _kept(fleet: Instance, kernels: Kernels, begin: Placement, budget: Budget) -> Placement:
    """The earlier places as they are, the new jobs put in and all polished: what a search found once is not lost."""
    at = begin.copy()
    evict(fleet, kernels, at)
    polish(fleet, kernels, at, budget.polish)
    return at


def _enough(fleet: Instance, kept: Placement | None) -> float:
    """The bound that proves the kept plan good, if all jobs have a place in it."""
    if kept is None or np.any(kept.lane < 0):
        return math.inf
    return float(fleet.grams_of(kept.lane, kept.start).sum()) / (1.0 + _PROVED)


def price(fleet: Instance, kernels: Kernels, budget: Budget, warm: Floats | None, enough: float = math.inf) -> Prices:
    """Prices from an earlier plan's, or from nothing."""
    if warm is None:
        return climb(fleet, kernels, budget.iterations, seed=budget.seed, enough=enough)
    return ascend(fleet, kernels, budget.warm_iterations, theta=budget.theta, warm=warm, enough=enough)


def place(fleet: Instance, kernels: Kernels, mu: Floats, budget: Budget, begin: Placement | None = None) -> Placement:
    """Placement within capacity if it can be found, else the one that overuses least."""
    best: tuple[float, Placement] | None = None
    penalty = budget.penalty
    for attempt in range(budget.attempts):
        at = rip_up_and_reroute(
            fleet, kernels, mu, first_penalty=penalty, passes=budget.passes, seed=budget.seed + attempt,
            mixed=attempt > 0, begin=begin if attempt == 0 else None,
        )  # fmt: skip
        over = at.over(fleet)
        if best is None or over < best[0]:
            best = (over, at)
        if over == 0.0:
            break
        penalty *= 3.0
    assert best is not None
    return best[1]
