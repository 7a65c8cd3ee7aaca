"""Adds new work to the previous plan without moving other jobs: most new jobs fit where they would run if alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from windward.domain.fleet import Fleet, Work
from windward.domain.plan import Certificate, JobPlan, Plan, Reason
from windward.planning.bounds import grams_of, least_g
from windward.planning.capacity import Occupancy
from windward.planning.placer import Placer

WORTH = 0.3  # share by which new work may exceed its grams if alone, before everything is planned anew
OVERRUN = timedelta(minutes=15)  # a live run keeps its room at least so long

PlacerOf = Callable[[Work, Occupancy], Placer]


def join(fleet: Fleet, placer_of: PlacerOf, now: datetime, previous: Plan) -> Plan | None:
    """Add the fleet's new work to the previous plan.

    Args:
        fleet: its `unchanged` work keeps its plans.
        placer_of: returns the placer of one job on an occupancy.

    Returns:
        The extended plan; None where everything is to be planned anew, since new work has no room, or emits more than
        `WORTH` above what it would if alone. Smaller losses stay until the next forecast issue.
    """
    held, free = Occupancy(fleet.regions), Occupancy(fleet.regions)
    jobs: dict[str, JobPlan] = {}
    certificates = [previous.certificate] if previous.certificate is not None else []
    for work in sorted(fleet.work, key=lambda w: (w.key not in fleet.unchanged, -w.priority, w.key)):
        if work.key in fleet.unchanged:
            job = previous.jobs[work.key]
        else:
            placer = placer_of(work, held)
            job = placer.plan()
            segments = [(w.region, w.start.timestamp(), w.end.timestamp()) for w in job.windows]
            if job.reason is Reason.CAPACITY_FULL or not held.fits(segments, work.demand_at(job.level)):
                return None
            if job.windows and not placer.problem.free and job.windows[0].start > max(work.earliest, now):
                return None  # it is to start now: others may make room
            if placer.problem.free:
                alone = placer_of(work, free)
                alone.candidates.lane_windows = alone.candidates.windows_of(alone.problem.lanes)
                best_g, grams = min((c.grams for c in alone.candidates.all()), default=0.0), grams_of(job)
                priced = work.delay_g_per_hour or work.grams_per_currency  # then grams alone do not rank the windows
                if priced or (grams or 0.0) > best_g * (1.0 + WORTH):
                    return None
                if grams is not None:  # bounds add up: more work never lowers that of the others
                    certificates.append(Certificate(grams, least_g(alone)))
        jobs[work.key] = job
        for w in job.windows:
            end = max(w.end, now + OVERRUN) if w is job.windows[-1] and work.running_in is not None else w.end
            held.hold(w.region, w.start.timestamp(), end.timestamp(), work.demand_at(job.level))
    return Plan(now, {w.key: jobs[w.key] for w in fleet.work}, Certificate.total(certificates), previous.prices)
