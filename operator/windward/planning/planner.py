"""`plan`: the one function that decides where and when work runs.

Jobs are placed one after another, those with the least freedom first, each by an exact search on the capacity that
the ones before it left. That is optimal for one job, and for a fleet whose regions are not contended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import Alternative, JobPlan, Plan, Reason, Window
from windward.planning import explain
from windward.planning.occupancy import Occupancy
from windward.planning.pauses import best_pauses
from windward.planning.windows import Candidate, Place, best_window, place
from windward_api.greenjob import Fallback

_PAUSE_WORTH = 0.01  # share of the whole job's grams that a pause must save beside its own resume
_WORTH_SAYING = 0.005  # a saving below this is called running now


def plan(fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, previous: Plan | None = None) -> Plan:
    """Place the whole fleet.

    Args:
        fleet: the work and the regions.
        forecasts: zone -> what is known of its intensity; a missing zone counts as unknown.
        now: the time of planning; nothing is placed before it.
        previous: the plan before; accepted for planners that price changes. Exact placement needs no memory.

    Returns:
        A plan for every piece of work. Work that cannot be placed has a reason and no windows; nothing raises.
    """
    del previous
    occupancy = Occupancy(fleet.regions)
    order = sorted(fleet.work, key=lambda w: (w.running_in is None, not w.asap, w.latest_start(), w.key))
    jobs: dict[str, JobPlan] = {}
    for work in order:
        made = _Placing(work, fleet, forecasts, now, occupancy).plan()
        for w in made.windows:
            occupancy.hold(w.region, w.start.timestamp(), w.end.timestamp(), work.demand)
        jobs[work.key] = made
    return Plan(now, {w.key: jobs[w.key] for w in fleet.work})


class _Placing:
    """The placing of one piece of work."""

    def __init__(
        self, work: Work, fleet: Fleet, forecasts: Mapping[str, Forecast], now: datetime, occupancy: Occupancy
    ) -> None:
        self.work, self.fleet, self.forecasts, self.now, self.occupancy = work, fleet, forecasts, now, occupancy
        self.known = tuple(r for r in work.regions if r in fleet.regions)
        self.places = tuple(self._places())
        self.earliest = max(work.earliest, now).timestamp()
        self.latest_start = work.latest_start()
        self.latest_end = (work.finish_by - work.reserve).timestamp()

    def _places(self) -> list[Place]:
        out = []
        for name in self.known:
            region = self.fleet.regions[name]
            forecast = self.forecasts.get(region.zone)
            if forecast is not None and forecast.series is not None and forecast.freshness.usable:
                out.append(place(self.work, region, forecast.series))
        return out

    def plan(self) -> JobPlan:
        """The steps, from what cannot be helped to what can be chosen."""
        work = self.work
        if not self.known:
            return self._without_windows(Reason.NO_ALLOWED_ZONE)
        if work.asap:
            return self._at_once(Reason.USER_FORCED)
        if work.running_in is not None and not work.interruptible:
            return self._at_once(Reason.CLEANER_WINDOW)
        if self.earliest >= self.latest_start.timestamp():
            late = self.earliest + self._length_s() > work.finish_by.timestamp()
            return self._at_once(Reason.DEADLINE_TOO_SOON if late else Reason.NO_SLACK)
        if not self.places:
            return self._without_forecast()
        return self._cheapest()

    def _cheapest(self) -> JobPlan:
        """The best of all regions and shapes, unless too little is saved to wait for it."""
        work = self.work
        options = [c for c in self._windows() if c is not None]
        options += [c for c in (self._pauses(),) if c is not None]
        if not options:
            blocked = any(self.occupancy.bounded(p.region.name, work.demand) for p in self.places)
            return self._without_windows(Reason.CAPACITY_FULL) if blocked else self._without_forecast()
        # Rounding must not decide: of equals, the earliest end, then the region named first.
        best = min(options, key=lambda c: (round(c.grams + self._price_g(c), 9), c.segments[-1][2], len(c.segments)))
        made = self._made(Reason.CLEANER_WINDOW, best, options)
        share = made.saved_share
        if not work.started and work.min_saving > 0 and share is not None and share < work.min_saving:
            return self._at_once(Reason.SAVING_BELOW_THRESHOLD, share)
        starts_now = best.segments[0][1] <= self.earliest + 1 and len(best.segments) == 1
        if starts_now and (share is None or share < _WORTH_SAYING):
            return self._made(Reason.RUN_NOW, best, options)
        return made

    def _length_s(self, region: str | None = None) -> float:
        """Length of one unbroken window, with the resume that it begins with."""
        work = self.work
        resume = work.started and (work.running_in is None or region not in (None, work.running_in))
        return work.remaining.total_seconds() + (work.overhead.total_seconds() if resume else 0.0)

    def _windows(self) -> list[Candidate | None]:
        """The best unbroken window of each region; of work that runs: going on, first. Stopping is for `_pauses`."""
        if self.work.running_in is not None:
            at = next((p for p in self.places if p.region.name == self.work.running_in), None)
            end = self.earliest + self._length_s(self.work.running_in)
            on = Candidate(((self.work.running_in, self.earliest, end),), at.grams(self.earliest, end)) if at else None
            return [on]
        out = []
        for p in self.places:
            length = self._length_s(p.region.name)
            out.append(best_window(p, self.work, length, self.earliest, self.latest_end - length, self.occupancy))
        return out

    def _price_g(self, candidate: Candidate) -> float:
        """What the pauses of a plan must save beside their resumes; stopping what runs now is a pause too."""
        region, start, _ = candidate.segments[0]
        stops = self.work.running_in is not None and (region != self.work.running_in or start > self.earliest)
        return self._pause_g() * (len(candidate.segments) - 1 + stops)

    def _pause_g(self) -> float:
        """A share of the whole job's grams at the mean of its cleanest region: minSavingPercent, and at least what
        forecasts are good for."""
        worth = max(_PAUSE_WORTH, self.work.min_saving)
        means = [p.power_kw * p.series.mean(p.series.start, p.series.end) for p in self.places]
        return worth * min(means, default=0.0) * self.work.duration.total_seconds() / 3600.0

    def _pauses(self) -> Candidate | None:
        work = self.work
        if not work.interruptible:
            return None
        return best_pauses(self.places, work, self.earliest, self.latest_end, self.occupancy, pause_g=self._pause_g())

    def _at_once(self, reason: Reason, best_share: float | None = None) -> JobPlan:
        """Start now, without a break: where it runs, else where it emits least of the regions that have room.

        A saving too small to wait for is too small to leave home for; so is one that nobody can tell.
        """
        stays = reason is Reason.SAVING_BELOW_THRESHOLD
        order = sorted(
            self.known, key=lambda r: (r != self.work.running_in, 0.0 if stays else self._now_g(r), r != self.work.home)
        )
        for region in order:
            length = self._length_s(region)
            span = (np.array([self.earliest]), np.array([self.earliest + length]))
            if region == self.work.running_in or self.occupancy.free(region, *span, self.work.demand)[0]:
                break
        else:
            if reason is not Reason.DEADLINE_TOO_SOON and self.earliest < self.latest_start.timestamp():
                return self._without_windows(Reason.CAPACITY_FULL)
            region = order[0]
        length = self._length_s(region)
        segment = (region, self.earliest, self.earliest + length)
        return self._made(reason, Candidate((segment,), 0.0), [], best_share)

    def _now_g(self, region: str) -> float:
        """Grams of starting in `region` at once; infinite where they are not known."""
        end = self.earliest + self._length_s(region)
        grams = self._window(region, self.earliest, end).emissions_g
        return grams if grams is not None else np.inf

    def _without_forecast(self) -> JobPlan:
        """The declared fallback; whatever it is, the latest start stands."""
        if self.work.fallback is Fallback.RUN_NOW or self.earliest >= self.latest_start.timestamp():
            return self._at_once(Reason.FALLBACK_NO_FORECAST)
        return self._without_windows(Reason.AWAITING_FORECAST)

    def _without_windows(self, reason: Reason) -> JobPlan:
        return self._made(reason, Candidate((), 0.0), [])

    def _made(
        self, reason: Reason, chosen: Candidate, options: list[Candidate], best_share: float | None = None
    ) -> JobPlan:
        """The answer, with its grams, its baseline and what else was weighed."""
        work = self.work
        windows = tuple(self._window(*s) for s in chosen.segments)
        grams = [w.emissions_g for w in windows]
        known = [g for g in grams if g is not None]
        emissions = work.spent_g + sum(known) if len(known) == len(grams) and grams else None
        feasible = bool(windows) and windows[-1].end <= work.finish_by
        made = JobPlan(
            key=work.key,
            reason=reason,
            windows=windows,
            emissions_g=emissions,
            run_now_g=self._run_now_g(),
            latest_start=self.latest_start,
            feasible=feasible,
            explanation="",
            edge=self._touches_edge(chosen),
            alternatives=tuple(self._alternatives(chosen, options)),
            vintages=self._vintages(),
            demo=any(p.series.demo for p in self.places),
        )
        return replace(made, explanation=explain.sentence(made, work, self.now, best_share))

    def _window(self, region: str, start: float, end: float) -> Window:
        at = next((p for p in self.places if p.region.name == region), None)
        a, b = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        grams = at.grams(start, end) if at is not None and at.series.covers(a, b) else None
        return Window(region, a, b, grams)

    def _run_now_g(self) -> float | None:
        """Grams of the whole job from submission, at home, unbroken; from now where the past is not known."""
        at = next((p for p in self.places if p.region.name == self.work.home), None)
        if at is None:
            return None
        for start in (self.work.submitted, self.now):
            end = start + self.work.duration
            if at.series.covers(start, end):
                return at.grams(start.timestamp(), end.timestamp())
        return None

    def _touches_edge(self, chosen: Candidate) -> bool:
        """Whether the plan ends where knowledge ends, before the finish-by time: more might be won beyond."""
        if not chosen.segments or not self.places:
            return False
        horizon = max(float(p.series.edges[-1]) for p in self.places)
        return horizon < self.work.finish_by.timestamp() and chosen.segments[-1][2] >= horizon - 1

    def _alternatives(self, chosen: Candidate, options: list[Candidate]) -> list[Alternative]:
        weighed = [
            Alternative(
                c.segments[0][0] if len({s[0] for s in c.segments}) == 1 else "several",
                tuple(self._window(*s) for s in c.segments),
                c.grams + self.work.spent_g,
            )
            for c in sorted(options, key=lambda c: c.grams)
            if c.segments != chosen.segments
        ]
        priced = {p.region.name for p in self.places}
        excluded = [
            Alternative(name, (), None, explain.exclusion(name, self.fleet, self.forecasts))
            for name in self.work.regions
            if name not in priced
        ]
        return weighed + excluded

    def _vintages(self) -> tuple[tuple[str, str], ...]:
        zones = sorted({p.region.zone for p in self.places})
        return tuple((z, self.forecasts[z].vintage) for z in zones)
