"""Turns the chosen candidate into a `JobPlan`: windows with grams, baseline, alternatives and an explanation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from windward.domain.plan import Alternative, JobPlan, Reason, Window
from windward.planning import explain
from windward.planning.objective import Objective
from windward.planning.problem import Problem
from windward.planning.windows import Candidate


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the chosen candidate was compared with.

    Attributes:
        options: the candidates.
        full: regions that have no room left in time.
        congestion_g: grams that a candidate's room is worth to other jobs; None: room has no price.
        best_share: the best saving as a share of the baseline, where it was too small to wait for.
    """

    options: Sequence[Candidate] = ()
    full: Sequence[str] = ()
    congestion_g: Callable[[Candidate], float] | None = None
    best_share: float | None = None

    def room_g(self, candidate: Candidate) -> float:
        """Returns grams that a candidate's room is worth to other jobs; 0 where room has no price."""
        return self.congestion_g(candidate) if self.congestion_g is not None else 0.0


class Rendering:
    """Renders the plans of one job."""

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective

    def plan(self, reason: Reason, chosen: Candidate, weighed: Weighed) -> JobPlan:
        """Returns the plan for a candidate."""
        p = self.problem
        windows = self.windows(chosen)
        rendered = partial(
            JobPlan,
            key=p.work.key,
            reason=reason,
            windows=windows,
            emissions_g=self.objective.emissions_g(windows),
            run_now_g=self.objective.run_now_g,
            latest_start=p.latest_start,
            feasible=bool(windows) and windows[-1].end <= p.work.finish_by,
            edge=self._touches_edge(chosen),
            alternatives=tuple(self._alternatives(chosen, weighed)),
            vintages=p.vintages(),
            demo=any(site.series.demo for site in p.sites),
            capacity_g=weighed.room_g(chosen),
            level=chosen.level,
            level_name=self._level_name(chosen),
            go_on_g=self.objective.go_on_g(),
        )
        return rendered(explanation=explain.sentence(rendered(explanation=""), p.work, p.now, weighed.best_share))

    def windows(self, candidate: Candidate) -> tuple[Window, ...]:
        """Returns the windows of a candidate, with grams; None as grams where no forecast covers a window."""
        if len(candidate.segments) == 1 and candidate.grams > 0:
            return (_window(*candidate.segments[0], candidate.grams),)
        return tuple(self.window(*segment, candidate.level) for segment in candidate.segments)

    def window(self, region: str, start: float, end: float, level: int | None = None) -> Window:
        """Returns one window with its grams; times in epoch seconds."""
        return _window(region, start, end, self.objective.window_g(region, start, end, level))

    def _level_name(self, candidate: Candidate) -> str:
        return self.problem.work.levels[candidate.level].name if candidate.level is not None else ""

    def _touches_edge(self, chosen: Candidate) -> bool:
        """Whether the plan ends at the forecast's end, before the finish-by time: a later issue may improve it."""
        if not chosen.segments or not self.problem.sites:
            return False
        horizon = max(float(site.series.edges[-1]) for site in self.problem.sites)
        return horizon < self.problem.work.finish_by.timestamp() and chosen.segments[-1][2] >= horizon - 1

    def _alternatives(self, chosen: Candidate, weighed: Weighed) -> list[Alternative]:
        p = self.problem
        others = [
            self._alternative(c, weighed)
            for c in sorted(weighed.options, key=lambda c: c.grams)
            if c.segments != chosen.segments or c.level != chosen.level
        ]
        others.sort(key=lambda a: (a.emissions_g or 0.0) + a.capacity_g)
        by = explain.clock(p.work.finish_by, p.now)
        crowded = [Alternative(name, (), None, f"no room for it that ends before {by}") for name in weighed.full]
        usable = {site.region.name for site in p.sites}
        excluded = [
            Alternative(name, (), None, explain.exclusion(name, p.fleet, p.forecasts))
            for name in p.work.regions
            if name not in usable
        ]
        return others + (crowded or self._too_small(bool(chosen.segments))) + excluded

    def _alternative(self, candidate: Candidate, weighed: Weighed) -> Alternative:
        regions = {region for region, _, _ in candidate.segments}
        return Alternative(
            candidate.segments[0][0] if len(regions) == 1 else "several",
            self.windows(candidate),
            candidate.grams + self.problem.work.spent_g,
            capacity_g=weighed.room_g(candidate),
            level_name=self._level_name(candidate),
        )

    def _too_small(self, placed: bool) -> list[Alternative]:
        """If the job has no window: the regions whose whole capacity is less than it needs."""
        p = self.problem
        shortfalls = [] if placed else [(r, explain.shortfall(p.work, p.fleet.regions[r])) for r in p.known]
        return [Alternative(region, (), None, why) for region, why in shortfalls if why]


def _window(region: str, start: float, end: float, grams: float | None) -> Window:
    return Window(region, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), grams)
