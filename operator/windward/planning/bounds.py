"""Grams that no plan of one piece of work can go below, were it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from windward.domain.plan import JobPlan
from windward.domain.series import Floats, distinct

if TYPE_CHECKING:
    from windward.planning.placer import Placer
    from windward.planning.windows import Site

_ROUNDING_S = 1e-6  # what epoch seconds cannot tell apart


def least_g(placer: Placer) -> float:
    """Grams of what is still to be done, below which no plan in the work's window can go; infinite if there is none.

    Unbroken the best window is exact, unless another price than grams chose it. What pauses resumes at least once: it
    takes no less than the cheapest moments of all, each in its cheapest region, for the work and that resume.
    """
    work = placer.work
    if work.delay_g_per_hour:
        return _moments_g(placer, resumes=0)
    found = placer.candidates.found
    if found is None:
        found = placer.candidates.windows_of(placer.problem.lanes)
    unbroken = min((c.grams for c in found if c is not None), default=np.inf)
    return min(unbroken, _moments_g(placer, resumes=1)) if work.interruptible else unbroken


def _moments_g(placer: Placer, resumes: int) -> float:
    """Of the cheapest moments in the window, at one level throughout; starts count as nothing."""
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


def grams_of(made: JobPlan) -> float | None:
    """Grams of what a plan still has to do; None where they are not known, or nothing is placed."""
    known = [w.emissions_g for w in made.windows if w.emissions_g is not None]
    return sum(known) if known and len(known) == len(made.windows) else None


def least_of(cost: Floats, width: Floats, seconds: float) -> float:
    """The cheapest `seconds` out of stretches of time, each `width` seconds long at `cost` a second; infinite where
    there are not so many."""
    order = np.argsort(cost, kind="stable")
    before = np.cumsum(width[order]) - width[order]
    taken = np.clip(seconds - before, 0.0, width[order])
    used = taken > 0
    if taken.sum() < seconds - _ROUNDING_S:
        return np.inf
    return float((cost[order][used] * taken[used]).sum())
