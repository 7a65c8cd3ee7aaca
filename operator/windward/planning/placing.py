"""The placing of one piece of work: what cannot be helped, then the best of all regions and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial

import numpy as np

from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import Alternative, JobPlan, Reason, Window
from windward.domain.series import Series
from windward.planning import explain
from windward.planning.occupancy import Occupancy
from windward.planning.pauses import Surcharge, best_pauses
from windward.planning.windows import Ask, Candidate, Place, best_window, levels_of, place
from windward_api.greenjob import Fallback

_PAUSE_WORTH = 0.01  # share of the whole job's grams that a pause must save beside its own resume
_WORTH_SAYING = 0.005  # a saving below this is called running now
_ROUNDING_S = 1e-6  # what a datetime may be beside its epoch seconds


def _covers(at: Place, start: float, end: float) -> bool:
    """Whether all of it is known."""
    edges = at.series.edges
    return bool(edges[0] <= start + _ROUNDING_S and end <= edges[-1] + _ROUNDING_S)


class Placing:
    """The placing of one piece of work."""

    def __init__(
        self,
        work: Work,
        fleet: Fleet,
        forecasts: Mapping[str, Forecast],
        now: datetime,
        occupancy: Occupancy,
        effective: Mapping[str, Series],
        before: JobPlan | None = None,
    ) -> None:
        self.effective, self.before = effective, before
        self.found: list[Candidate | None] | None = None  # best windows, where they were sought for many at once
        self.work, self.fleet, self.forecasts, self.now, self.occupancy = work, fleet, forecasts, now, occupancy
        self.known = tuple(r for r in work.regions if r in fleet.regions)
        self.places = tuple(self._places())  # as declared
        self.lanes = (*self.places, *(v for p in self.places for v in levels_of(work, p)))  # and at each level
        self.earliest = max(work.earliest, now).timestamp()
        self.latest_start = work.latest_start()
        self.latest_end = (work.finish_by - work.reserve).timestamp()

    def _places(self) -> list[Place]:
        out = []
        for name in self.known:
            region = self.fleet.regions[name]
            forecast = self.forecasts.get(region.zone)
            if forecast is not None and forecast.series is not None and forecast.freshness.usable:
                out.append(place(self.work, region, self.effective[name]))
        return out

    @property
    def free(self) -> bool:
        """Whether there is anything to choose, so that it can make room for others."""
        work = self.work
        held = work.asap or work.running_in is not None or self.earliest >= self.latest_start.timestamp()
        return bool(self.places) and not held

    @property
    def fits_the_forecast(self) -> bool:
        """Whether there is any start in its window after which all of it is known."""
        return any(
            min(k.latest, float(k.at.series.edges[-1]) - k.length_s) >= max(k.earliest, float(k.at.series.edges[0]))
            for k in self.asks(self.lanes)
        )

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
            late = self.earliest + self.length_s() > work.finish_by.timestamp()
            return self._at_once(Reason.DEADLINE_TOO_SOON if late else Reason.NO_SLACK)
        return self._cheapest()

    def ways(self) -> list[Candidate]:
        """The best of each region and shape."""
        return [c for c in (*self._windows(), self.pauses()) if c is not None]

    def _cheapest(self) -> JobPlan:
        """The best of all regions and shapes, unless too little is saved to wait for it."""
        options = self.ways()
        if not options:
            return self._at_once(Reason.CAPACITY_FULL) if self.fits_the_forecast else self._without_forecast()
        # Rounding must not decide: of equals, the earliest end, then the region named first.
        best = min(options, key=lambda c: (round(c.grams + self.price_g(c), 9), c.segments[-1][2], len(c.segments)))
        return self.adopt(best, options)

    def adopt(
        self,
        best: Candidate | None,
        options: list[Candidate],
        full: Sequence[str] = (),
        paid: Callable[[Candidate], float] | None = None,
    ) -> JobPlan:
        """The plan of a choice among options, unless too little is saved to wait for it.

        Args:
            best: None where there is no room in time.
            full: regions that have no room left in time.
            paid: grams that a candidate's room is worth to others.
        """
        work = self.work
        if best is None:
            return self._at_once(Reason.CAPACITY_FULL)
        if self.before is not None and self._stands(self.before, best):
            return self.before
        later_g, baseline_g = self._emissions_g(self._told(best)), self.run_now_g
        share = 1.0 - later_g / baseline_g if later_g is not None and baseline_g else None
        if not work.started and work.min_saving > 0 and share is not None and share < work.min_saving:
            at_once = self._at_once(Reason.SAVING_BELOW_THRESHOLD, share)
            if self._is_worth(at_once, later_g):
                return at_once
        starts_now = best.segments[0][1] <= self.earliest + 1 and len(best.segments) == 1
        vain = starts_now and (share is None or share < _WORTH_SAYING)
        return self._made(Reason.RUN_NOW if vain else Reason.CLEANER_WINDOW, best, options, full=full, paid=paid)

    def _is_worth(self, at_once: JobPlan, later_g: float | None) -> bool:
        """Whether starting now, where there is room, emits no more than waiting does by what makes waiting worth it.

        Where home is full, the regions that are not may emit many times what a little patience does.
        """
        now_g, baseline_g = at_once.emissions_g, self.run_now_g
        if not at_once.windows or now_g is None or later_g is None or baseline_g is None:
            return False
        return now_g - later_g < self.work.min_saving * baseline_g

    def _stands(self, before: JobPlan, best: Candidate) -> bool:
        """Whether the plan before says the same, on the same forecasts: then it is told again word for word, though
        what it weighed against may cost a little more or less since."""
        work = self.work
        windows = tuple((w.region, w.start.timestamp(), w.end.timestamp()) for w in before.windows)
        if before.reason is not Reason.CLEANER_WINDOW or work.started or work.spent_g or windows != best.segments:
            return False
        if (before.level, before.latest_start, before.vintages) != (best.level, self.latest_start, self._vintages()):
            return False
        grams, share = before.emissions_g, before.saved_share
        if grams is None or abs(grams - best.grams) > 1e-9 * best.grams or (share or 0.0) < work.min_saving:
            return False
        weighed = {r for r, _, _ in windows} | {a.region for a in before.alternatives}
        return weighed - {"several"} == set(work.regions)

    def stand(self, chosen: Candidate, options: list[Candidate]) -> JobPlan:
        """The plan of a choice as it is, however little it saves."""
        return self._made(Reason.CLEANER_WINDOW, chosen, options)

    def length_s(self, region: str | None = None, speed: float = 1.0) -> float:
        """Length of one unbroken window, with the resume that it begins with."""
        work = self.work
        goes_on = work.running_in is not None and not work.pending and region in (None, work.running_in)
        resume = work.started and not goes_on
        return work.remaining.total_seconds() / speed + (work.overhead.total_seconds() if resume else 0.0)

    def _windows(self) -> list[Candidate | None]:
        """The best unbroken window of each region; of work that runs: going on, first. Stopping is for `_pauses`."""
        if self.work.running_in is not None:
            return [self._going_on()]
        return self.found if self.found is not None else self.windows_of(self.lanes)

    def _going_on(self) -> Candidate | None:
        """Without a break, where it runs and as it runs; of a run that has not begun, from when there is room."""
        region, level = self.work.running_in, self.work.running_level
        at = next((p for p in self.lanes if p.region.name == region and p.level == level), None)
        if at is None:
            return None
        name, length = at.region.name, self.length_s(at.region.name, at.speed)
        if not self.work.pending:
            return Candidate(
                ((name, self.earliest, self.earliest + length),), at.grams(self.earliest, self.earliest + length), level
            )
        start = self.occupancy.first_free(name, self.earliest, length, at.demand)
        if start is None:
            return None
        grams = at.grams(start, start + length) + float(at.start_g(np.array([start]))[0])
        return Candidate(((name, start, start + length),), grams, level)

    def price_g(self, candidate: Candidate) -> float:
        """Grams that are no emissions: the wait, the currency, and what pauses must save beside their resumes;
        stopping what runs is one too."""
        region, start, _ = candidate.segments[0]
        other_g = 0.0
        if self.work.delay_g_per_hour:
            other_g += self.work.delay_g_per_hour * (candidate.segments[-1][2] - self.earliest) / 3600.0
        if self.work.grams_per_currency:
            other_g += self.work.grams_per_currency * self.cost(candidate)
        if len(candidate.segments) == 1 and self.work.running_in is None:
            return other_g
        runs = self.work.running_in is not None and not self.work.pending
        stops = runs and (region != self.work.running_in or start > self.earliest)
        return other_g + self._pause_g() * (len(candidate.segments) - 1 + stops)

    def cost(self, candidate: Candidate) -> float:
        """Of a candidate's running hours, in the currency of its regions' prices."""
        demand = self.work.demand_at(candidate.level)
        return sum(
            (b - a) / 3600.0 * self.fleet.regions[name].cost_per_hour(demand) for name, a, b in candidate.segments
        )

    def _pause_g(self) -> float:
        """A share of the whole job's grams at the mean of its cleanest region: minSavingPercent, and at least what
        forecasts are good for."""
        worth = max(_PAUSE_WORTH, self.work.min_saving)
        means = [p.power_kw * p.series.mean(p.series.start, p.series.end) for p in self.places]
        return worth * min(means) * self.work.duration.total_seconds() / 3600.0

    def pauses(self, surcharge: Surcharge | None = None, coarsest: int = 1) -> Candidate | None:
        """The best way with pauses on what is free, with a price on room if there is one."""
        work = self.work
        if not work.interruptible:
            return None
        out = []
        for level in dict.fromkeys(p.level for p in self.lanes):  # one for the whole job; going on keeps its own
            if work.running_in is not None and level != work.running_level:
                continue
            at = [p for p in self.lanes if p.level == level]
            running_in = None if work.pending else work.running_in
            left = replace(work, remaining=work.remaining / at[0].speed, running_in=running_in)
            out.append(best_pauses(
                at, left, self.earliest, self.latest_end, self.occupancy, pause_g=self._pause_g(), surcharge=surcharge,
                coarsest=coarsest,
            ))  # fmt: skip
        return min((c for c in out if c is not None), key=lambda c: c.grams + self.price_g(c), default=None)

    def windows_of(self, places: Sequence[Place]) -> list[Candidate | None]:
        """The best unbroken window of each place on what is free."""
        return [best_window(k.at, k.work, k.length_s, k.earliest, k.latest, self.occupancy) for k in self.asks(places)]

    def asks(self, places: Sequence[Place]) -> list[Ask]:
        """The questions for one unbroken window in each place."""
        lengths = [self.length_s(p.region.name, p.speed) for p in places]
        return [Ask(p, self.work, s, self.earliest, self.latest_end - s) for p, s in zip(places, lengths, strict=True)]

    def _at_once(self, reason: Reason, best_share: float | None = None) -> JobPlan:
        """Start as soon as there is room, without a break: where it runs, else where that is soonest, and emits least.

        A saving too small to wait for is too small to leave home for, while home has room.
        """
        work, stays = self.work, reason is Reason.SAVING_BELOW_THRESHOLD
        if work.running_in in self.known:
            order = [work.running_in]
        else:
            order = sorted(self.known, key=lambda r: (stays and r != work.home, self._now_g(r), r != work.home))
        found = self._now(order) or (None if stays else self._soonest(order))
        if found is None:
            return self._without_windows(Reason.CAPACITY_FULL)
        region, start = found
        level = work.running_level if region == work.running_in else None
        speed = 1.0 if level is None else work.levels[level].speed
        segment = (region, start, start + self.length_s(region, speed))
        return self._made(reason, Candidate((segment,), 0.0, level), [], best_share)

    def _now(self, order: Sequence[str]) -> tuple[str, float] | None:
        """The first region that has room at once: where it runs it has; and when that is."""
        if self.work.running_in in order and not self.work.pending:
            return order[0], self.earliest
        for region in order:
            span = (np.array([self.earliest]), np.array([self.earliest + self.length_s(region)]))
            if self.occupancy.free(region, *span, self.work.demand)[0]:
                return region, self.earliest
        return None

    def _soonest(self, order: Sequence[str]) -> tuple[str, float] | None:
        """The region that has room first, of equals the one named first, and when; None where none ever has so much.

        Room that was promised to others is none: work that is due waits its turn as well, or whoever is large would
        wait for ever while small ones slip in.
        """
        rooms = [(self.occupancy.first_free(r, self.earliest, self.length_s(r), self.work.demand), r) for r in order]
        return min(((r, at) for at, r in rooms if at is not None), key=lambda found: found[1], default=None)

    def _now_g(self, region: str) -> float:
        """Grams of starting in `region` at once; infinite where they are not known."""
        end = self.earliest + self.length_s(region)
        grams = self._window(region, self.earliest, end).emissions_g
        return grams if grams is not None else np.inf

    def _without_forecast(self) -> JobPlan:
        """The declared fallback, before the latest start."""
        if self.work.fallback is Fallback.RUN_NOW:
            return self._at_once(Reason.FALLBACK_NO_FORECAST)
        return self._without_windows(Reason.AWAITING_FORECAST)

    def _without_windows(self, reason: Reason) -> JobPlan:
        return self._made(reason, Candidate((), 0.0), [])

    def _made(
        self,
        reason: Reason,
        chosen: Candidate,
        options: list[Candidate],
        best_share: float | None = None,
        full: Sequence[str] = (),
        paid: Callable[[Candidate], float] | None = None,
    ) -> JobPlan:
        """The answer, with its grams, its baseline and what else was weighed."""
        work = self.work
        windows = self._told(chosen)
        feasible = bool(windows) and windows[-1].end <= work.finish_by
        made = partial(
            JobPlan,
            key=work.key,
            reason=reason,
            windows=windows,
            emissions_g=self._emissions_g(windows),
            run_now_g=self.run_now_g,
            latest_start=self.latest_start,
            feasible=feasible,
            edge=self._touches_edge(chosen),
            alternatives=tuple(self._alternatives(chosen, options, full, paid)),
            vintages=self._vintages(),
            demo=any(p.series.demo for p in self.places),
            capacity_g=paid(chosen) if paid is not None else 0.0,
            level=chosen.level,
            level_name=self._level_name(chosen),
            go_on_g=self._go_on_g(),
        )
        return made(explanation=explain.sentence(made(explanation=""), work, self.now, best_share))

    def _go_on_g(self) -> float | None:
        """Grams of the whole job if its run went on from now without a break."""
        region, level = self.work.running_in, self.work.running_level
        at = next((p for p in self.lanes if p.region.name == region and p.level == level), None)
        if at is None:
            return None
        end = self.earliest + self.length_s(at.region.name, at.speed)
        return self.work.spent_g + at.grams(self.earliest, end) if _covers(at, self.earliest, end) else None

    def _level_name(self, c: Candidate) -> str:
        return self.work.levels[c.level].name if c.level is not None else ""

    def _emissions_g(self, windows: Sequence[Window]) -> float | None:
        """Of the whole job, with what it emitted so far; None where a window's grams are unknown, or there is none."""
        grams = [w.emissions_g for w in windows]
        known = [g for g in grams if g is not None]
        return self.work.spent_g + sum(known) if len(known) == len(grams) and grams else None

    def _told(self, c: Candidate) -> tuple[Window, ...]:
        """The windows of a candidate; of an unbroken one that was sought its grams are known."""
        if len(c.segments) == 1 and c.grams > 0:
            region, a, b = c.segments[0]
            return (Window(region, datetime.fromtimestamp(a, UTC), datetime.fromtimestamp(b, UTC), c.grams),)
        return tuple(self._window(*s, c.level) for s in c.segments)

    def _window(self, region: str, start: float, end: float, level: int | None = None) -> Window:
        at = next((p for p in self.lanes if p.region.name == region and p.level == level), None)
        grams = at.grams(start, end) if at is not None and _covers(at, start, end) else None
        if at is not None and grams is not None and not self._goes_on(region, start):
            grams += float(at.start_g(np.array([start]))[0])
        return Window(region, datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), grams)

    def _goes_on(self, region: str, start: float) -> bool:
        return region == self.work.running_in and start <= self.earliest and not self.work.pending

    @cached_property
    def run_now_g(self) -> float | None:
        """Grams of the whole job from submission, at home, unbroken; from now where the past is not known."""
        at = next((p for p in self.places if p.region.name == self.work.home), None)
        if at is None:
            return None
        for start in (self.work.submitted.timestamp(), self.now.timestamp()):
            end = start + self.work.duration.total_seconds()
            if _covers(at, start, end):
                return at.grams(start, end) + float(at.start_g(np.array([start]))[0])
        return None

    def _touches_edge(self, chosen: Candidate) -> bool:
        """Whether the plan ends where knowledge ends, before the finish-by time: more might be won beyond."""
        if not chosen.segments or not self.places:
            return False
        horizon = max(float(p.series.edges[-1]) for p in self.places)
        return horizon < self.work.finish_by.timestamp() and chosen.segments[-1][2] >= horizon - 1

    def _alternatives(
        self,
        chosen: Candidate,
        options: list[Candidate],
        full: Sequence[str],
        paid: Callable[[Candidate], float] | None,
    ) -> list[Alternative]:
        weighed = [
            Alternative(
                c.segments[0][0] if len({s[0] for s in c.segments}) == 1 else "several",
                self._told(c),
                c.grams + self.work.spent_g,
                capacity_g=paid(c) if paid is not None else 0.0,
                level_name=self._level_name(c),
            )
            for c in sorted(options, key=lambda c: c.grams)
            if c.segments != chosen.segments or c.level != chosen.level
        ]
        weighed.sort(key=lambda a: (a.emissions_g or 0.0) + a.capacity_g)
        by = explain.clock(self.work.finish_by, self.now)
        crowded = [Alternative(name, (), None, f"no room for it that ends before {by}") for name in full]
        priced = {p.region.name for p in self.places}
        excluded = [
            Alternative(name, (), None, explain.exclusion(name, self.fleet, self.forecasts))
            for name in self.work.regions
            if name not in priced
        ]
        return weighed + (crowded or self._too_small(bool(chosen.segments))) + excluded

    def _too_small(self, placed: bool) -> list[Alternative]:
        """The regions that never have what the work asks for, where no place was found."""
        said = [] if placed else [(r, explain.shortfall(self.work, self.fleet.regions[r])) for r in self.known]
        return [Alternative(region, (), None, why) for region, why in said if why]

    def _vintages(self) -> tuple[tuple[str, str], ...]:
        zones = sorted({p.region.zone for p in self.places})
        return tuple((z, self.forecasts[z].vintage) for z in zones)
