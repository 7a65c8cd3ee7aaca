"""The placing of one piece of work: what cannot be helped, then the best of all regions and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.plan import Alternative, JobPlan, Reason, Window
from windward.planning import explain
from windward.planning.occupancy import Occupancy
from windward.planning.pauses import Surcharge, best_pauses
from windward.planning.windows import Candidate, Place, best_window, place
from windward_api.greenjob import Fallback

_PAUSE_WORTH = 0.01  # share of the whole job's grams that a pause must save beside its own resume
_WORTH_SAYING = 0.005  # a saving below this is called running now


class Placing:
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

    @property
    def free(self) -> bool:
        """Whether there is anything to choose, so that it can make room for others."""
        work = self.work
        held = work.asap or work.running_in is not None or self.earliest >= self.latest_start.timestamp()
        return bool(self.places) and not held

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
        if not self.places:
            return self._without_forecast()
        return self._cheapest()

    def _cheapest(self) -> JobPlan:
        """The best of all regions and shapes, unless too little is saved to wait for it."""
        work = self.work
        options = [c for c in self._windows() if c is not None]
        options += [c for c in (self.pauses(),) if c is not None]
        if not options:
            blocked = any(self.occupancy.bounded(p.region.name, work.demand) for p in self.places)
            return self._without_windows(Reason.CAPACITY_FULL) if blocked else self._without_forecast()
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
            best: None where there is no room.
            full: regions that have no room left in time.
            paid: grams that a candidate's room is worth to others.
        """
        work = self.work
        if best is None:
            return self._without_windows(Reason.CAPACITY_FULL)
        made = self._made(Reason.CLEANER_WINDOW, best, options, full=full, paid=paid)
        share = made.saved_share
        if not work.started and work.min_saving > 0 and share is not None and share < work.min_saving:
            return self._at_once(Reason.SAVING_BELOW_THRESHOLD, share)
        starts_now = best.segments[0][1] <= self.earliest + 1 and len(best.segments) == 1
        if starts_now and (share is None or share < _WORTH_SAYING):
            return self._made(Reason.RUN_NOW, best, options, full=full, paid=paid)
        return made

    def stand(self, chosen: Candidate, options: list[Candidate]) -> JobPlan:
        """The plan of a choice as it is, however little it saves."""
        return self._made(Reason.CLEANER_WINDOW, chosen, options)

    def length_s(self, region: str | None = None) -> float:
        """Length of one unbroken window, with the resume that it begins with."""
        work = self.work
        resume = work.started and (work.running_in is None or region not in (None, work.running_in))
        return work.remaining.total_seconds() + (work.overhead.total_seconds() if resume else 0.0)

    def _windows(self) -> list[Candidate | None]:
        """The best unbroken window of each region; of work that runs: going on, first. Stopping is for `_pauses`."""
        if self.work.running_in is not None:
            at = next((p for p in self.places if p.region.name == self.work.running_in), None)
            end = self.earliest + self.length_s(self.work.running_in)
            on = Candidate(((self.work.running_in, self.earliest, end),), at.grams(self.earliest, end)) if at else None
            return [on]
        return self.windows_of(self.places)

    def price_g(self, candidate: Candidate) -> float:
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

    def pauses(self, surcharge: Surcharge | None = None, coarsest: int = 1) -> Candidate | None:
        """The best way with pauses on what is free, with a price on room if there is one."""
        work = self.work
        if not work.interruptible:
            return None
        return best_pauses(
            self.places, work, self.earliest, self.latest_end, self.occupancy,
            pause_g=self._pause_g(), surcharge=surcharge, coarsest=coarsest,
        )  # fmt: skip

    def windows_of(self, places: Sequence[Place]) -> list[Candidate | None]:
        """The best unbroken window of each place on what is free."""
        out = []
        for p in places:
            length = self.length_s(p.region.name)
            out.append(best_window(p, self.work, length, self.earliest, self.latest_end - length, self.occupancy))
        return out

    def _at_once(self, reason: Reason, best_share: float | None = None) -> JobPlan:
        """Start now, without a break: where it runs, else where it emits least of the regions that have room.

        A saving too small to wait for is too small to leave home for; so is one that nobody can tell.
        """
        stays = reason is Reason.SAVING_BELOW_THRESHOLD
        order = sorted(
            self.known, key=lambda r: (r != self.work.running_in, 0.0 if stays else self._now_g(r), r != self.work.home)
        )
        for region in order:
            length = self.length_s(region)
            span = (np.array([self.earliest]), np.array([self.earliest + length]))
            if region == self.work.running_in or self.occupancy.free(region, *span, self.work.demand)[0]:
                break
        else:
            if reason is not Reason.DEADLINE_TOO_SOON and self.earliest < self.latest_start.timestamp():
                return self._without_windows(Reason.CAPACITY_FULL)
            region = order[0]
        length = self.length_s(region)
        segment = (region, self.earliest, self.earliest + length)
        return self._made(reason, Candidate((segment,), 0.0), [], best_share)

    def _now_g(self, region: str) -> float:
        """Grams of starting in `region` at once; infinite where they are not known."""
        end = self.earliest + self.length_s(region)
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
            alternatives=tuple(self._alternatives(chosen, options, full, paid)),
            vintages=self._vintages(),
            demo=any(p.series.demo for p in self.places),
            capacity_g=paid(chosen) if paid is not None else 0.0,
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
                tuple(self._window(*s) for s in c.segments),
                c.grams + self.work.spent_g,
                capacity_g=paid(c) if paid is not None else 0.0,
            )
            for c in sorted(options, key=lambda c: c.grams)
            if c.segments != chosen.segments
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
        return weighed + crowded + excluded

    def _vintages(self) -> tuple[tuple[str, str], ...]:
        zones = sorted({p.region.zone for p in self.places})
        return tuple((z, self.forecasts[z].vintage) for z in zones)
