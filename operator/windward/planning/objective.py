"""The cost of a candidate in grams: its emissions, and the declared prices of delay, money and pauses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from windward.domain.plan import Window
from windward.planning.problem import Problem, covers
from windward.planning.windows import Candidate, Site

_PAUSE_WORTH = 0.01  # share of the whole job's grams that a pause must save beside its own resume


class Objective:
    """Costs of one job's candidates."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def cost_g(self, candidate: Candidate) -> float:
        """Returns emissions plus price, rounded to 1e-9 g so that equal candidates compare as equal."""
        return round(candidate.grams + self.price_g(candidate), 9)

    def price_g(self, candidate: Candidate) -> float:
        """Returns the prices in grams, which are no emissions: of delay, of currency and of each pause; stopping a live
        run counts as one."""
        p, work = self.problem, self.problem.work
        region, start, _ = candidate.segments[0]
        other_g = work.delay_g_per_hour * (candidate.segments[-1][2] - p.earliest) / 3600.0
        other_g += work.grams_per_currency * self.currency(candidate)
        runs = work.running_in is not None and not work.pending
        stops = runs and (region != work.running_in or start > p.earliest)
        pauses = len(candidate.segments) - 1 + stops
        return other_g + (self.pause_g() * pauses if pauses else 0.0)

    def currency(self, candidate: Candidate) -> float:
        """Returns what a candidate's running hours cost, in the currency of its regions' prices."""
        demand, regions = self.problem.work.demand_at(candidate.level), self.problem.fleet.regions
        return sum((b - a) / 3600.0 * regions[name].cost_per_hour(demand) for name, a, b in candidate.segments)

    def pause_g(self) -> float:
        """Returns grams that one pause must save beside its own resume: a share of the whole job's grams at the mean
        intensity of its cleanest region. The share is minSavingPercent, at least 1 %."""
        work = self.problem.work
        worth = max(_PAUSE_WORTH, work.min_saving)
        means = [p.power_kw * p.series.mean(p.series.start, p.series.end) for p in self.problem.sites]
        return worth * min(means) * work.duration.total_seconds() / 3600.0

    @cached_property
    def run_now_g(self) -> float | None:
        """Grams of the whole job, unbroken at home from submission, or from now where the past is not known; None where
        neither is covered."""
        work = self.problem.work
        home = next((p for p in self.problem.sites if p.region.name == work.home), None)
        if home is None:
            return None
        for start in (work.submitted.timestamp(), self.problem.now.timestamp()):
            end = start + work.duration.total_seconds()
            if covers(home, start, end):
                return home.grams(start, end) + start_g(home, start)
        return None

    def go_on_g(self) -> float | None:
        """Returns grams of the whole job if its live run continued without a break; None where that is not known."""
        p = self.problem
        site = p.lane(p.work.running_in, p.work.running_level)
        if site is None:
            return None
        end = p.earliest + p.length_s(site.region.name, site.speed)
        return p.work.spent_g + site.grams(p.earliest, end) if covers(site, p.earliest, end) else None

    def window_g(self, region: str, start: float, end: float, level: int | None = None) -> float | None:
        """Returns grams of one window, with its start energy; None where its hours are not known."""
        site = self.problem.lane(region, level)
        if site is None or not covers(site, start, end):
            return None
        begins = not self.problem.goes_on(region, start)
        return site.grams(start, end) + (start_g(site, start) if begins else 0.0)

    def emissions_g(self, windows: Sequence[Window]) -> float | None:
        """Returns grams of the whole job: emitted so far, plus the windows; None where a window's are unknown, or there
        is none."""
        grams = [w.emissions_g for w in windows]
        known = [g for g in grams if g is not None]
        return self.problem.work.spent_g + sum(known) if len(known) == len(grams) and grams else None


def start_g(site: Site, start: float) -> float:
    """Returns grams of the energy that one start at this site draws."""
    return float(site.start_g(np.array([start]))[0])
