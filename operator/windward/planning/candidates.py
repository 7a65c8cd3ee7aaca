"""Candidates of one job on free capacity: the best window of each lane, the best plan with pauses, the live run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from windward.planning.objective import Objective, start_g
from windward.planning.pauses import Surcharge, best_pauses
from windward.planning.problem import Problem
from windward.planning.windows import Candidate, Site, best_window


class Candidates:
    """The ways to run one job.

    Attributes:
        lane_windows: the best window of each lane, where they were computed for many jobs at once; None: not computed.
    """

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective
        self.lane_windows: list[Candidate | None] | None = None

    def all(self) -> list[Candidate]:
        """Returns the best unbroken window of each lane, and the best plan with pauses."""
        return [c for c in (*self._windows(), self.pauses()) if c is not None]

    def windows_of(self, sites: Sequence[Site]) -> list[Candidate | None]:
        """Returns the best unbroken window at each site; None for a site where none fits."""
        occupancy = self.problem.occupancy
        return [
            best_window(q.at, q.work, q.length_s, q.earliest, q.latest, occupancy) for q in self.problem.queries(sites)
        ]

    def pauses(self, surcharge: Surcharge | None = None, coarsest: int = 1) -> Candidate | None:
        """Returns the best plan with pauses; None where the job may not pause, or nothing fits.

        Args:
            surcharge: grams charged for the room held, beside those of running; see `best_pauses`.
            coarsest: seconds; no time step of the search is shorter.
        """
        p, work = self.problem, self.problem.work
        if not work.interruptible:
            return None
        out = []
        for level in dict.fromkeys(lane.level for lane in p.lanes):  # one for the whole job; a live run keeps its own
            if work.running_in is not None and level != work.running_level:
                continue
            at = [lane for lane in p.lanes if lane.level == level]
            running_in = None if work.pending else work.running_in
            left = replace(work, remaining=work.remaining / at[0].speed, running_in=running_in)
            out.append(best_pauses(
                at, left, p.earliest, p.latest_end, p.occupancy, pause_g=self.objective.pause_g(), surcharge=surcharge,
                coarsest=coarsest,
            ))  # fmt: skip
        feasible = (c for c in out if c is not None)
        return min(feasible, key=lambda c: c.grams + self.objective.price_g(c), default=None)

    def at_once(self, order: Sequence[str]) -> tuple[str, float] | None:
        """Returns (region, now) of the first region in `order` that has room now; None where none has. A live run has
        room where it runs."""
        p = self.problem
        if p.work.running_in in order and not p.work.pending:
            return order[0], p.earliest
        for region in order:
            if p.occupancy.fits([(region, p.earliest, p.earliest + p.length_s(region))], p.work.demand):
                return region, p.earliest
        return None

    def soonest(self, order: Sequence[str]) -> tuple[str, float] | None:
        """Returns (region, start) of the earliest start with room, of equals the first in `order`; None where none is.

        Room held by other plans is not free, for due work either: else small jobs would delay a large one for ever.
        """
        p = self.problem
        rooms = [(p.occupancy.first_free(r, p.earliest, p.length_s(r), p.work.demand), r) for r in order]
        return min(((r, at) for at, r in rooms if at is not None), key=lambda room: room[1], default=None)

    def _windows(self) -> list[Candidate | None]:
        """The best unbroken window of each lane; of a live run its continuation, as only `pauses` plans a stop."""
        if self.problem.work.running_in is not None:
            return [self._going_on()]
        return self.lane_windows if self.lane_windows is not None else self.windows_of(self.problem.lanes)

    def _going_on(self) -> Candidate | None:
        """The live run without a break, in its region and at its level; one whose pod is pending starts once there is
        room."""
        p, level = self.problem, self.problem.work.running_level
        site = p.lane(p.work.running_in, level)
        if site is None:
            return None
        name, length_s = site.region.name, p.length_s(site.region.name, site.speed)
        if not p.work.pending:
            end = p.earliest + length_s
            return Candidate(((name, p.earliest, end),), site.grams(p.earliest, end), level)
        start = p.occupancy.first_free(name, p.earliest, length_s, site.demand)
        if start is None:
            return None
        grams = site.grams(start, start + length_s) + start_g(site, start)
        return Candidate(((name, start, start + length_s),), grams, level)
