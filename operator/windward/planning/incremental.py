"""New work beside a plan that stands: most arrivals find room where they would run were they alone, and move nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np

from windward.domain.fleet import Fleet, Work
from windward.domain.plan import Certificate, JobPlan, Plan, Reason
from windward.planning.bounds import grams_of, least_g
from windward.planning.capacity import Occupancy
from windward.planning.placer import Placer

WORTH = 0.3  # share of its grams, above its best were it alone, that new work may pay until all is planned anew
OVERRUN = timedelta(minutes=15)  # what runs keeps its room at least so long

PlacerOf = Callable[[Work, Occupancy], Placer]


def join(fleet: Fleet, placer_of: PlacerOf, now: datetime, previous: Plan) -> Plan | None:
    """The plan before, with what is new put in.

    Args:
        fleet: its `unchanged` work keeps its plans.
        placer_of: the placer of one job on an occupancy.

    Returns:
        None where new work lacks room, or would pay much for what others hold: then all is to be planned anew. A little
        is put right when the next issue has all planned anew; meanwhile nobody moves.
    """
    held, free = Occupancy(fleet.regions), Occupancy(fleet.regions)
    jobs: dict[str, JobPlan] = {}
    proofs = [previous.certificate] if previous.certificate is not None else []
    for work in sorted(fleet.work, key=lambda w: (w.key not in fleet.unchanged, -w.priority, w.key)):
        if work.key in fleet.unchanged:
            made = previous.jobs[work.key]
        else:
            placer = placer_of(work, held)
            made = placer.plan()
            if made.reason is Reason.CAPACITY_FULL or not _fits(held, work, made):
                return None
            if made.windows and not placer.problem.free and made.windows[0].start > max(work.earliest, now):
                return None  # it is to start now: others may make room
            if placer.problem.free:
                alone = placer_of(work, free)
                alone.candidates.found = alone.candidates.windows_of(alone.problem.lanes)
                best_g, grams = min((c.grams for c in alone.candidates.all()), default=0.0), grams_of(made)
                weighed = work.delay_g_per_hour or work.grams_per_currency  # then grams alone do not say what is best
                if weighed or (grams or 0.0) > best_g * (1.0 + WORTH):
                    return None
                if grams is not None:  # a bound with those of the others: more work never lowers theirs
                    proofs.append(Certificate(grams, least_g(alone)))
        jobs[work.key] = made
        for w in made.windows:
            end = max(w.end, now + OVERRUN) if w is made.windows[-1] and work.running_in is not None else w.end
            held.hold(w.region, w.start.timestamp(), end.timestamp(), work.demand_at(made.level))
    certificate = Certificate(sum(c.plan_g for c in proofs), sum(c.bound_g for c in proofs)) if proofs else None
    return Plan(now, {w.key: jobs[w.key] for w in fleet.work}, certificate, previous.prices)


def _fits(held: Occupancy, work: Work, made: JobPlan) -> bool:
    spans = [(w.region, np.array([w.start.timestamp()]), np.array([w.end.timestamp()])) for w in made.windows]
    return all(held.free(*span, work.demand_at(made.level))[0] for span in spans)
