"""`plan`: decides where and when the whole fleet runs.

1. If the previous plan still stands, new work is added to it without moving any other job (`incremental`).
2. Otherwise everything is placed: live runs, then runs whose pods wait for room, then one priority class after another.
3. Within a class, work with no choice (forced, due, without a forecast) is placed first, one job after another.
4. The rest is placed by an exact search for each job alone. If that exceeds the capacity, all of it is placed together
   (`joint`), at congestion prices that charge each job for the room it takes from others.
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
from windward.planning.problem import Problem
from windward.planning.windows import best_windows

_MANY = 200  # jobs beyond which those that might compete are placed together at once
_IN_TIME = (Reason.CLEANER_WINDOW, Reason.RUN_NOW, Reason.SAVING_BELOW_THRESHOLD)


def plan(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """Plan the whole fleet.

    Args:
        fleet: the work and the regions.
        forecasts: grid zone -> forecast of its intensity; a missing zone counts as unknown.
        now: the time of planning; no window starts before it.
        previous: the previous plan. It matters only where capacity is contended: its prices are the first guess, and
            moving a job out of its planned window must save 1 % of the job's grams.

    Returns:
        A plan for every job. A job that cannot be placed has a reason and no windows. Never raises.
    """
    order = sorted(fleet.work, key=lambda w: (w.running_in is None, w.pending, not w.asap, w.latest_start(), w.key))
    effective = {
        name: region.effective(f.series)
        for name, region in fleet.regions.items()
        if (f := forecasts.get(region.zone)) is not None and f.series is not None
    }
    before = previous.jobs if previous is not None else {}

    def placer(work: Work, occupancy: Occupancy) -> Placer:
        return Placer(Problem(work, fleet, forecasts, now, occupancy, effective), before.get(work.key))

    if previous is not None and fleet.unchanged and (joined := join(fleet, placer, now, previous)) is not None:
        return joined
    occupancy = Occupancy(fleet.regions)
    placers = [placer(w, occupancy) for w in order]
    jobs: dict[str, JobPlan] = {}
    prices: CapacityPrices | None = None
    certificates: list[Certificate] = []
    _place_in_turn([p for p in placers if p.work.running_in is not None], occupancy, jobs)
    waiting = [p for p in placers if p.work.running_in is None]
    for priority in sorted({p.work.priority for p in waiting}, reverse=True):
        in_class = [p for p in waiting if p.work.priority == priority]
        _place_in_turn([p for p in in_class if not p.problem.free], occupancy, jobs)
        placed, congestion, certificate = _place_free([p for p in in_class if p.problem.free], occupancy, now, previous)
        jobs |= placed
        prices = congestion or prices
        certificates += [certificate] if certificate is not None else []
    return Plan(now, {w.key: jobs[w.key] for w in fleet.work}, Certificate.total(certificates), prices)


def _place_in_turn(placers: list[Placer], occupancy: Occupancy, jobs: dict[str, JobPlan]) -> None:
    """Plan jobs that have no choice, one after another, and hold their room."""
    for p in placers:
        jobs[p.work.key] = p.plan()
        p.hold(occupancy, jobs[p.work.key])


def _place_free(
    free: list[Placer], occupancy: Occupancy, now: datetime, previous: Plan | None
) -> tuple[Mapping[str, JobPlan], CapacityPrices | None, Certificate | None]:
    """Plan the jobs of one priority class that have a choice, on the capacity that is left, and hold their room."""
    if (jobs := _place_independently(free, occupancy)) is not None:
        for p in free:
            p.hold(occupancy, jobs[p.work.key])
        return jobs, None, _certificate(free, jobs)
    from windward.planning.joint import place_jointly  # loaded only where room is contended

    joint = place_jointly(free, occupancy, now, previous)
    return joint.jobs, joint.prices, joint.certificate


def _place_independently(free: list[Placer], occupancy: Occupancy) -> dict[str, JobPlan] | None:
    """Plan each job as if it were alone; returns None where the plans together exceed the capacity, or may."""
    contended = any(occupancy.bounded(p.region.name, p.demand) for f in free for p in f.problem.lanes)
    if contended and len(free) > _MANY:
        return None  # with so many an attempt is likely to fail, and costs time
    _find_windows(free, occupancy)
    if contended and len(free) > 1 and _exceeds_capacity(free, occupancy):
        return None
    jobs = {p.work.key: p.plan() for p in free}
    if not contended or len(free) == 1:
        return jobs
    trial = occupancy.copy()
    for p in free:
        if not jobs[p.work.key].windows or jobs[p.work.key].reason is Reason.CAPACITY_FULL:
            return None
        p.hold(trial, jobs[p.work.key])
    return None if trial.overused({w.region for job in jobs.values() for w in job.windows}) else jobs


def _find_windows(free: list[Placer], occupancy: Occupancy) -> None:
    """Compute the best window of every job and lane in one call; the jobs' candidates keep them."""
    windows = iter(best_windows([query for p in free for query in p.problem.queries(p.problem.lanes)], occupancy))
    for p in free:
        p.candidates.lane_windows = list(islice(windows, len(p.problem.lanes)))


def _exceeds_capacity(free: list[Placer], occupancy: Occupancy) -> bool:
    """Whether the cheapest windows of uninterruptible work exceed the capacity; False does not prove that all fits."""
    trial = occupancy.copy()
    for p in free:
        if p.work.interruptible:
            continue  # its windows are not known yet
        windows = [c for c in p.candidates.lane_windows or () if c is not None]
        if not windows:
            return True
        best = min(windows, key=lambda c: (p.objective.cost_g(c), c.segments[-1][2]))
        trial.hold(*best.segments[0], p.work.demand_at(best.level))
    return trial.overused(trial.regions)


def _certificate(free: list[Placer], jobs: Mapping[str, JobPlan]) -> Certificate | None:
    """The bound of each job alone, summed over the jobs that have a place in time; None where none has."""
    pairs = [(grams_of(jobs[p.work.key]), p) for p in free if jobs[p.work.key].reason in _IN_TIME]
    placed = [(g, least_g(p)) for g, p in pairs if g is not None]
    return Certificate(sum(g for g, _ in placed), sum(least for _, least in placed)) if placed else None
