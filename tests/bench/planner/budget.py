"""A budget of grams for a fleet: how little delay and money may count for it to be kept, and what to drop.

Delay and currency are weighed in grams (`Work.delay_g_per_hour`, `Work.grams_per_currency`). A price of 1 / s on grams
is the same as all those weights times s: the smaller s, the cleaner the plan. The largest s that keeps the budget is
found by bisection; where even s = 0 does not, work is left out, least priority first, then whatever frees most grams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import Plan
from windward.planning.planner import plan

_ROUNDS = 10  # halvings: the weights are known to a thousandth


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan inside its budget.

    Attributes:
        plan: of what is not dropped.
        emissions_g: expected grams of all of it.
        weight: share of the declared weights of delay and currency at which it was made; 1: as declared.
        dropped: keys of the work that has to be left out, in the order in which it was.
    """

    plan: Plan
    emissions_g: float
    weight: float
    dropped: tuple[str, ...] = ()


def plan_within(
    budget_g: float, fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None
) -> Kept:
    """The plan nearest to the declared weights that expects at most `budget_g` grams.

    Work whose grams no forecast tells counts as nothing. What runs or was forced is never dropped.
    """

    def at(weight: float, work: tuple[Work, ...] = fleet.work) -> tuple[Plan, float]:
        made = plan(replace(fleet, work=tuple(_weighing(w, weight) for w in work)), forecasts, now, previous)
        return made, sum(p.emissions_g or 0.0 for p in made.jobs.values())

    made, grams = at(1.0)
    if grams <= budget_g:
        return Kept(made, grams, 1.0)
    made, grams = at(0.0)
    if grams > budget_g:
        return _without(budget_g, fleet, made, lambda work: at(0.0, work))
    kept, low, high = Kept(made, grams, 0.0), 0.0, 1.0
    for _ in range(_ROUNDS):
        weight = (low + high) / 2
        made, grams = at(weight)
        if grams <= budget_g:
            kept, low = Kept(made, grams, weight), weight
        else:
            high = weight
    return kept


def _weighing(work: Work, weight: float) -> Work:
    return replace(
        work, delay_g_per_hour=work.delay_g_per_hour * weight, grams_per_currency=work.grams_per_currency * weight
    )


def _without(
    budget_g: float, fleet: Fleet, made: Plan, plan_of: Callable[[tuple[Work, ...]], tuple[Plan, float]]
) -> Kept:
    """Leave work out until the rest keeps the budget; what goes makes room, so that the rest is planned anew."""
    grams = {key: p.emissions_g or 0.0 for key, p in made.jobs.items()}
    total, dropped = sum(grams.values()), []
    may_go = [w for w in fleet.work if w.running_in is None and not w.asap]
    may_go.sort(key=lambda w: (-w.priority, grams[w.key], w.key))  # the first to go stands last
    while total > budget_g and may_go:
        while total > budget_g and may_go:
            gone = may_go.pop().key
            dropped.append(gone)
            total -= grams[gone]
        made, total = plan_of(tuple(w for w in fleet.work if w.key not in dropped))
        grams = {key: p.emissions_g or 0.0 for key, p in made.jobs.items()}
    return Kept(made, total, 0.0, tuple(dropped))
