"""`plan`: the one function that decides where and when work runs.

What cannot be helped comes first: work that runs, that was forced, that is due. What is free to choose is placed by an
exact search, each as if it were alone; where that needs more room than there is, all of it is placed together
(`together`), at prices that make each job pay for what it takes from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from windward.domain.fleet import Fleet
from windward.domain.forecast import Forecast
from windward.domain.plan import Certificate, JobPlan, Plan
from windward.planning.occupancy import Occupancy
from windward.planning.placing import Placing

_MANY = 200  # jobs beyond which those that might compete are placed together at once


def plan(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """Place the whole fleet.

    Args:
        fleet: the work and the regions.
        forecasts: zone -> what is known of its intensity; a missing zone counts as unknown.
        now: the time of planning; nothing is placed before it.
        previous: the plan before: where room is contended its prices are the first guess, and another window than the
            planned one must save 1 % of the job's grams. Exact placement of what competes with nothing needs no memory.

    Returns:
        A plan for every piece of work. Work that cannot be placed has a reason and no windows; nothing raises.
    """
    occupancy = Occupancy(fleet.regions)
    order = sorted(fleet.work, key=lambda w: (w.running_in is None, not w.asap, w.latest_start(), w.key))
    placings = [Placing(work, fleet, forecasts, now, occupancy) for work in order]
    jobs: dict[str, JobPlan] = {}
    for placing in placings:
        if not placing.free:
            jobs[placing.work.key] = made = placing.plan()
            _hold(occupancy, placing, made)
    free = [p for p in placings if p.free]
    prices = certificate = None
    if (alone := _alone(free, occupancy)) is not None:
        jobs |= alone
        certificate = _sum(free, alone)
    else:
        from windward.planning.together import place_together  # loaded only where room is contended

        joint = place_together(free, occupancy, now, previous)
        jobs |= joint.jobs
        prices, certificate = joint.prices, joint.certificate
    return Plan(now, {w.key: jobs[w.key] for w in fleet.work}, certificate, prices)


def _alone(free: list[Placing], occupancy: Occupancy) -> dict[str, JobPlan] | None:
    """Every job at its own best, blind to the others; None where that needs more room than there is, or may."""
    contended = any(occupancy.bounded(p.region.name, f.work.demand) for f in free for p in f.places)
    if contended and len(free) > _MANY:
        return None  # too many to try in vain
    jobs = {p.work.key: p.plan() for p in free}
    if not contended or len(free) == 1:
        return jobs
    trial = occupancy.copy()
    for p in free:
        if not jobs[p.work.key].windows:
            return None
        _hold(trial, p, jobs[p.work.key])
    return None if trial.overused({w.region for made in jobs.values() for w in made.windows}) else jobs


def _hold(occupancy: Occupancy, placing: Placing, made: JobPlan) -> None:
    for w in made.windows:
        occupancy.hold(w.region, w.start.timestamp(), w.end.timestamp(), placing.work.demand)


def _sum(free: list[Placing], jobs: Mapping[str, JobPlan]) -> Certificate | None:
    """Each job alone is at its best: the plan is its own bound."""
    grams = [w.emissions_g for p in free for w in jobs[p.work.key].windows]
    known = [g for g in grams if g is not None]
    return Certificate(sum(known), sum(known)) if known and len(known) == len(grams) else None
