"""Plans one job: work with no choice starts as soon as there is room; other work gets its cheapest candidate."""

from __future__ import annotations

import numpy as np

from windward.domain.plan import JobPlan, Reason
from windward.planning.candidates import Candidates
from windward.planning.capacity import Occupancy
from windward.planning.objective import Objective
from windward.planning.problem import Problem
from windward.planning.rendering import Rendering, Weighed
from windward.planning.windows import Candidate
from windward_api.greenjob import Fallback

_LEAST_SAVING = 0.005  # an immediate start that saves a smaller share has the reason RunNow


class Placer:
    """Plans one job on the capacity that is free.

    Attributes:
        problem: the job, its sites and its time window.
        objective: what a candidate costs.
        candidates: the ways to run it.
        before: the job's previous plan.
    """

    def __init__(self, problem: Problem, before: JobPlan | None = None) -> None:
        self.work, self.problem, self.before = problem.work, problem, before
        self.objective = Objective(self.problem)
        self.candidates = Candidates(self.problem, self.objective)
        self.rendering = Rendering(self.problem, self.objective)

    def plan(self) -> JobPlan:
        """Returns the plan of the job; cases without a choice come first."""
        p, work = self.problem, self.work
        if not p.known:
            return self._without_windows(Reason.NO_ALLOWED_REGION)
        if work.asap:
            return self._at_once(Reason.USER_FORCED)
        if not work.duration_known:
            return self._at_once(Reason.DURATION_UNKNOWN)
        if work.running_in is not None and not work.interruptible:
            return self._at_once(Reason.CLEANER_WINDOW)
        if p.is_due:
            late = p.earliest + p.length_s() > work.finish_by.timestamp()
            return self._at_once(Reason.DEADLINE_TOO_SOON if late else Reason.NO_SLACK)
        return self._cheapest()

    def hold(self, occupancy: Occupancy, plan: JobPlan) -> None:
        """Hold the room of a plan of this job."""
        for w in plan.windows:
            occupancy.hold(w.region, w.start.timestamp(), w.end.timestamp(), self.work.demand_at(plan.level))

    def plan_for(self, best: Candidate | None, weighed: Weighed) -> JobPlan:
        """Returns the plan for the best candidate, or for an immediate start where it saves less than `min_saving`.

        Args:
            best: None where nothing fits in time.
        """
        work = self.work
        if best is None:
            return self._at_once(Reason.CAPACITY_FULL)
        if self.before is not None and self._is_unchanged(self.before, best):
            return self.before
        later_g, baseline_g = self.objective.emissions_g(self.rendering.windows(best)), self.objective.run_now_g
        share = 1.0 - later_g / baseline_g if later_g is not None and baseline_g else None
        if not work.started and work.min_saving > 0 and share is not None and share < work.min_saving:
            at_once = self._at_once(Reason.SAVING_BELOW_THRESHOLD, share)
            if self._is_worth(at_once, later_g):
                return at_once
        starts_now = best.segments[0][1] <= self.problem.earliest + 1 and len(best.segments) == 1
        nothing_saved = starts_now and (share is None or share < _LEAST_SAVING)
        return self.rendering.plan(Reason.RUN_NOW if nothing_saved else Reason.CLEANER_WINDOW, best, weighed)

    def keep(self, chosen: Candidate, weighed: Weighed) -> JobPlan:
        """Returns the plan for a candidate, however little it saves."""
        return self.rendering.plan(Reason.CLEANER_WINDOW, chosen, weighed)

    def _cheapest(self) -> JobPlan:
        """The plan for the cheapest candidate; see `plan_for`."""
        options = self.candidates.all()
        if not options:
            return self._at_once(Reason.CAPACITY_FULL) if self.problem.fits_the_forecast else self._without_forecast()
        # Of equals, the earliest end, then the region named first.
        best = min(options, key=lambda c: (self.objective.cost_g(c), c.segments[-1][2], len(c.segments)))
        return self.plan_for(best, Weighed(options))

    def _is_worth(self, at_once: JobPlan, later_g: float | None) -> bool:
        """Whether starting at once costs less than `min_saving` of the baseline, compared with the later plan.

        Where home is full, an immediate start elsewhere may emit far more than the wait would save.
        """
        now_g, baseline_g = at_once.emissions_g, self.objective.run_now_g
        if not at_once.windows or now_g is None or later_g is None or baseline_g is None:
            return False
        return now_g - later_g < self.work.min_saving * baseline_g

    def _is_unchanged(self, before: JobPlan, best: Candidate) -> bool:
        """Whether the previous plan has the same windows and grams on the same forecasts: then it is returned as it is,
        although the grams of its alternatives may differ a little now."""
        work, p = self.work, self.problem
        windows = tuple((w.region, w.start.timestamp(), w.end.timestamp()) for w in before.windows)
        if before.reason is not Reason.CLEANER_WINDOW or work.started or work.spent_g or windows != best.segments:
            return False
        if (before.level, before.latest_start, before.vintages) != (best.level, p.latest_start, p.vintages()):
            return False
        grams, share = before.emissions_g, before.saved_share
        if grams is None or abs(grams - best.grams) > 1e-9 * best.grams or (share or 0.0) < work.min_saving:
            return False
        weighed = {r for r, _, _ in windows} | {a.region for a in before.alternatives}
        return weighed - {"several"} == set(work.regions)

    def _at_once(self, reason: Reason, best_share: float | None = None) -> JobPlan:
        """Plan one unbroken window from the first moment with room: in the region where the job runs; else in that of
        fewest grams with room now, else in the one that has room first.

        With `SAVING_BELOW_THRESHOLD` home comes first: a saving too small to wait for is too small to move for.
        """
        p, work, stays = self.problem, self.work, reason is Reason.SAVING_BELOW_THRESHOLD
        if work.running_in in p.known:
            order = [work.running_in]
        else:
            order = sorted(p.known, key=lambda r: (stays and r != work.home, self._now_g(r), r != work.home))
        place = self.candidates.at_once(order) or (None if stays else self.candidates.soonest(order))
        if place is None:
            return self._without_windows(Reason.CAPACITY_FULL)
        region, start = place
        level = work.running_level if region == work.running_in else None
        speed = 1.0 if level is None else work.levels[level].speed
        segment = (region, start, start + p.length_s(region, speed))
        return self.rendering.plan(reason, Candidate((segment,), 0.0, level), Weighed(best_share=best_share))

    def _now_g(self, region: str) -> float:
        """Grams of an unbroken window in `region` from now on; infinite where they are not known."""
        p = self.problem
        grams = self.objective.window_g(region, p.earliest, p.earliest + p.length_s(region))
        return grams if grams is not None else np.inf

    def _without_forecast(self) -> JobPlan:
        """The plan that the declared fallback asks for; the latest start holds in either case."""
        if self.work.fallback is Fallback.RUN_NOW:
            return self._at_once(Reason.FALLBACK_NO_FORECAST)
        return self._without_windows(Reason.AWAITING_FORECAST)

    def _without_windows(self, reason: Reason) -> JobPlan:
        return self.rendering.plan(reason, Candidate((), 0.0), Weighed())
