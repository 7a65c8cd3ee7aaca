"""Lower bounds on the grams of one job, computed as if no other job used capacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from windward.domain.plan import JobPlan
from windward.domain.series import Floats, distinct

if TYPE_CHECKING:
    from windward.planning.placer import Placer
    from windward.planning.windows import Site

_ROUNDING_S = 1e-6  # rounding error of epoch seconds


def least_g(placer: Placer) -> float:
    """Returns a lower bound on the grams of the job's remaining work; infinite where no plan fits its time window.

    For an unbroken run the best window is exact. A plan with pauses resumes at least once: it emits no less than the
    cheapest seconds of the time window, each in its cheapest region, for the work and one resume. With a price on delay
    the best window need not be the one of fewest grams, so then only the cheapest seconds count.
    """
    work = placer.work
    if work.delay_g_per_hour:
        return _moments_g(placer, resumes=0)
    windows = placer.candidates.lane_windows
    if windows is None:
        windows = placer.candidates.windows_of(placer.problem.lanes)
    unbroken = min((c.grams for c in windows if c is not None), default=np.inf)
    return min(unbroken, _moments_g(placer, resumes=1)) if work.interruptible else unbroken


def _moments_g(placer: Placer, resumes: int) -> float:
    """Grams of the cheapest seconds in the time window, at one power level throughout; start energy is left out."""
    best = np.inf
    for level in dict.fromkeys(p.level for p in placer.problem.lanes):
        at = [p for p in placer.problem.lanes if p.level == level]
        seconds = placer.problem.length_s(speed=at[0].speed) + resumes * placer.work.overhead.total_seconds()
        best = min(best, _cheapest_g(at, seconds, placer.problem.earliest, placer.problem.latest_end))
    return best


def _cheapest_g(sites: Sequence[Site], seconds: float, start: float, end: float) -> float:
    if end <= start:
        return np.inf
    edges = distinct(np.clip(np.concatenate([*(p.series.edges for p in sites), [start, end]]), start, end))
    width = np.diff(edges)
    cost = np.full(len(width), np.inf)
    for p in sites:
        known = (edges[:-1] >= p.series.edges[0]) & (edges[1:] <= p.series.edges[-1])
        cost = np.minimum(cost, np.where(known, p.power_kw * np.diff(p.series.integral(edges)) / width, np.inf))
    return least_of(cost, width, seconds)


def grams_of(plan: JobPlan) -> float | None:
    """Returns grams of the plan's windows; None where one of them is unknown, or there are no windows."""
    known = [w.emissions_g for w in plan.windows if w.emissions_g is not None]
    return sum(known) if known and len(known) == len(plan.windows) else None


def least_of(cost: Floats, width: Floats, seconds: float) -> float:
    """Returns the least cost of `seconds` seconds out of periods of `width` seconds at `cost` per second, both (n,);
    infinite where the periods are shorter than that in sum."""
    order = np.argsort(cost, kind="stable")
    before = np.cumsum(width[order]) - width[order]
    taken = np.clip(seconds - before, 0.0, width[order])
    used = taken > 0
    if taken.sum() < seconds - _ROUNDING_S:
        return np.inf
    return float((cost[order][used] * taken[used]).sum())
