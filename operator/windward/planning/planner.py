"""`plan`: the one function that decides where and when work runs.

New work that finds good room beside a plan that stands is put in (`incremental`). Else all is placed: what runs first,
then runs whose pods wait for room, then one class of priority after another. In each, what cannot be helped is first:
work that was forced, that is due. What is free to choose is placed by an exact search, each as if it were alone; where
that needs more room than there is, all of it is placed together (`joint`), at prices that make each job pay for what
it takes from the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import islice

from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import CapacityPrices, Certificate, JobPlan, Plan, Reason
from windward.planning.bounds import grams_of, least_g
from windward.planning.capacity import Occupancy
from windward.planning.incremental import join
from windward.planning.placer import Placer
from windward.planning.windows import best_windows

_MANY = 200  # jobs beyond which those that might compete are placed together at once
_IN_TIME = (Reason.CLEANER_WINDOW, Reason.RUN_NOW, Reason.SAVING_BELOW_THRESHOLD)


def plan(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """Site the whole fleet.

    Args:
        fleet: the work and the regions.
        forecasts: zone -> what is known of its intensity; a missing zone counts as unknown.
        now: the time of planning; nothing is placed before it.
        previous: the plan before: where room is contended its prices are the first guess, and another window than the
            planned one must save 1 % of the job's grams. Exact placement of what competes with nothing needs no memory.

    Returns:
        A plan for every piece of work. Work that cannot be placed has a reason and no windows; nothing raises.
    """
    order = sorted(fleet.work, key=lambda w: (w.running_in is None, w.pending, not w.asap, w.latest_start(), w.key))
    effective = {
        name: region.effective(f.series)
        for name, region in fleet.regions.items()
        if (f := forecasts.get(region.zone)) is not None and f.series is not None
    }
    before = previous.jobs if previous is not None else {}

    def placer(work: Work, on: Occupancy) -> Placer:
        return Placer(work, fleet, forecasts, now, on, effective, before.get(work.key))

    if previous is not None and fleet.unchanged and (joined := join(fleet, placer, now, previous)) is not None:
        return joined
    occupancy = Occupancy(fleet.regions)
    placers = [placer(w, occupancy) for w in order]
    jobs: dict[str, JobPlan] = {}
    prices: CapacityPrices | None = None
    proofs: list[Certificate] = []
    _unfree([p for p in placers if p.work.running_in is not None], occupancy, jobs)
    waiting = [p for p in placers if p.work.running_in is None]
    for priority in sorted({p.work.priority for p in waiting}, reverse=True):
        mine = [p for p in waiting if p.work.priority == priority]
        _unfree([p for p in mine if not p.problem.free], occupancy, jobs)
        placed, congestion, proof = _chosen([p for p in mine if p.problem.free], occupancy, now, previous)
        jobs |= placed
        prices = congestion or prices
        proofs += [proof] if proof is not None else []
    certificate = Certificate(sum(c.plan_g for c in proofs), sum(c.bound_g for c in proofs)) if proofs else None
    return Plan(now, {w.key: jobs[w.key] for w in fleet.work}, certificate, prices)


def _unfree(some: list[Placer], occupancy: Occupancy, jobs: dict[str, JobPlan]) -> None:
    """Site what leaves no choice among others, one after another."""
    for p in some:
        jobs[p.work.key] = made = p.plan()
        _hold(occupancy, p, made)


def _chosen(
    free: list[Placer], occupancy: Occupancy, now: datetime, previous: Plan | None
) -> tuple[Mapping[str, JobPlan], CapacityPrices | None, Certificate | None]:
    """The plans of one class of work on what is left; afterwards the occupancy holds them."""
    if (alone := _alone(free, occupancy)) is not None:
        for p in free:
            _hold(occupancy, p, alone[p.work.key])
        return alone, None, _proof(free, alone)
    from windward.planning.joint import place_jointly  # loaded only where room is contended

    joint = place_jointly(free, occupancy, now, previous)
    return joint.jobs, joint.prices, joint.certificate


def _alone(free: list[Placer], occupancy: Occupancy) -> dict[str, JobPlan] | None:
    """Every job at its own best, blind to the others; None where that needs more room than there is, or may."""
    contended = any(occupancy.bounded(p.region.name, p.demand) for f in free for p in f.problem.lanes)
    if contended and len(free) > _MANY:
        return None  # too many to try in vain
    _seek(free, occupancy)
    if contended and len(free) > 1 and _crowded(free, occupancy):
        return None
    jobs = {p.work.key: p.plan() for p in free}
    if not contended or len(free) == 1:
        return jobs
    trial = occupancy.copy()
    for p in free:
        if not jobs[p.work.key].windows or jobs[p.work.key].reason is Reason.CAPACITY_FULL:
            return None
        _hold(trial, p, jobs[p.work.key])
    return None if trial.overused({w.region for made in jobs.values() for w in made.windows}) else jobs


def _seek(free: list[Placer], occupancy: Occupancy) -> None:
    """The best windows of all, sought together."""
    found = iter(best_windows([query for p in free for query in p.problem.queries(p.problem.lanes)], occupancy))
    for p in free:
        p.candidates.found = list(islice(found, len(p.problem.lanes)))


def _crowded(free: list[Placer], occupancy: Occupancy) -> bool:
    """Whether the cheapest windows of work that may not pause need more room than there is; False: perhaps not."""
    trial = occupancy.copy()
    for p in free:
        if p.work.interruptible:
            continue  # what it will do is not known yet
        some = [c for c in p.candidates.found or () if c is not None]
        if not some:
            return True
        best = min(some, key=lambda c: (p.objective.cost_g(c), c.segments[-1][2]))
        trial.hold(*best.segments[0], p.work.demand_at(best.level))
    return trial.overused(trial.regions)


def _hold(occupancy: Occupancy, placer: Placer, made: JobPlan) -> None:
    for w in made.windows:
        occupancy.hold(w.region, w.start.timestamp(), w.end.timestamp(), placer.work.demand_at(made.level))


def _proof(free: list[Placer], jobs: Mapping[str, JobPlan]) -> Certificate | None:
    """What each job alone can do at best, for those that have a place in time."""
    pairs = [(grams_of(jobs[p.work.key]), p) for p in free if jobs[p.work.key].reason in _IN_TIME]
    placed = [(g, least_g(p)) for g, p in pairs if g is not None]
    return Certificate(sum(g for g, _ in placed), sum(least for _, least in placed)) if placed else None
