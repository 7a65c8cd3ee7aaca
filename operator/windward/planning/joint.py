"""Places all jobs that have a choice together, where capacity is contended (docs/planning.md 6).

1. Build arrays: every job, region and start on a time grid, with its exact grams.
2. Compute congestion prices, a placement and, for few jobs, a local search (`windward.planning.arrays`).
3. Place interruptible work anew, by exact search at power x intensity + prices.
4. For few jobs: take each out once more and put it back by the exact search for one job, off the grid.
5. Derive a lower bound from the prices; each plan states what its room is worth to the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from windward.domain.plan import CapacityPrices, Certificate, JobPlan, Plan, Reason
from windward.domain.series import Floats, Series
from windward.planning.arrays.instance import EVEN, prefix
from windward.planning.arrays.placement import Placement
from windward.planning.arrays.solve import Budget, Solution, solve
from windward.planning.bounds import grams_of
from windward.planning.capacity import Occupancy
from windward.planning.joint_arrays import (
    Grid,
    Lanes,
    Option,
    Pausing,
    bound_of,
    grid_of,
    lanes_of,
    resampled,
    step_of,
)
from windward.planning.placer import Placer
from windward.planning.rendering import Weighed
from windward.planning.windows import Candidate, Site

EXACT = 200  # up to so many jobs each is placed once more by exact search, off the grid
CHANGE_WORTH = 0.01  # share of a job's grams that another window than the planned one must save
_NEAR = 1e-3  # share above a job's cheapest window below which it is not refined
_TRIES = 1_000  # of search, for small fleets: half a second in numpy
_FIRST = Budget(iterations=60, tries=_TRIES, restarts=4)
_MEND = 40  # tries, some ten milliseconds in numpy, where a replan is not proved to be within half a per cent
_AGAIN = Budget(warm_iterations=12, theta=0.4, passes=25, polish=1, mend=_MEND)
_FEW = 3  # up to so many new jobs, or half of all, the search starts from the previous plan
_NEWLY = Budget(iterations=30, passes=25, polish=2, mend=_MEND)  # contended for the first time
_MISSED = Budget(warm_iterations=1, tries=80, restarts=1)  # where an earlier plan's prices leave jobs without a place


@dataclass(frozen=True, slots=True)
class Joint:
    """The plans of all jobs placed together, their congestion prices and their certificate."""

    jobs: Mapping[str, JobPlan]
    prices: CapacityPrices
    certificate: Certificate


def place_jointly(free: Sequence[Placer], held: Occupancy, now: datetime, previous: Plan | None) -> Joint:
    """Plan all of `free` on the capacity that `held` leaves, and hold their room in `held`.

    A job that no forecast covers for a whole window is planned alone, by its declared fallback.
    """
    able = [p for p in sorted(free, key=lambda p: p.work.key) if p.problem.fits_the_forecast]
    rest = [p for p in free if p not in able]
    jobs: dict[str, JobPlan] = {}
    for placer in rest:
        placer.candidates.lane_windows = None  # they were computed before any of these jobs held room
        jobs[placer.work.key] = placer.plan()
        placer.hold(held, jobs[placer.work.key])
    joint = _Joint(able, held, now, previous)
    joint.solve()
    joint.pause()
    if len(able) <= EXACT:
        joint.refine()
    placed = joint.plans()
    return Joint(jobs | placed, joint.congestion.prices(), joint.certificate(placed))


def _options_of(
    job: int, p: Placer, regions: Mapping[str, int], resources: Sequence[str], previous: Plan | None
) -> list[Option]:
    """The options of one job without a break, one per lane; its planned start is kept where it still lies ahead."""
    before = previous.jobs.get(p.work.key) if previous is not None else None
    first = before.windows[0] if before is not None and len(before.windows) == 1 else None
    out = []
    for site in p.problem.lanes:
        name, length = site.region.name, p.problem.length_s(site.region.name, site.speed)
        earliest = max(p.problem.earliest, float(site.series.edges[0]))
        latest = min(p.problem.latest_end, float(site.series.edges[-1])) - length
        if latest < earliest:
            continue
        same = first is not None and before is not None and (first.region, before.level) == (name, site.level)
        planned = first.start.timestamp() if first is not None and same else None
        kept = planned if planned is not None and earliest <= planned <= latest else None
        out.append(
            Option(
                job, regions.get(name, 0), earliest, latest, length, site.power_kw,
                tuple(site.demand.get(r, 0.0) for r in resources), kept, site.level, site.speed, site.start_kwh,
                p.work.delay_g_per_hour, site.price_g_per_hour,
            )
        )  # fmt: skip
    return sorted(out, key=lambda o: o.region)


def _mean_room(grid: Grid, room: Floats, held: Occupancy) -> Floats:
    """(Q, R, T) mean units free in each slot: no less than the units free throughout the slot."""
    out = np.full(room.shape, np.inf)
    for q, resource in enumerate(grid.resources):
        for r, region in enumerate(grid.regions):
            cap = held.regions[region].capacity.get(resource)
            if cap is not None:
                out[q, r] = np.maximum(0.0, cap - held.mean(region, resource, grid.edges))
    return np.asarray(np.maximum(out, room))


class _Congestion:
    """Prices of capacity, in grams, on the grid of one joint placement: what room is worth to other jobs.

    Attributes:
        mu: (Q, R, T) grams per unit and slot.
        summed: (Q, R, T + 1) their prefix sums.
    """

    def __init__(self, grid: Grid, mu: Floats) -> None:
        self.grid, self.mu, self.summed = grid, mu, prefix(mu)
        self._priced = {name for r, name in enumerate(grid.regions) if np.any(mu[:, r] > 0)}

    def room_g(self, region: str, demand: Mapping[str, float], times: Floats) -> Floats:
        """Returns the price of holding `demand` between consecutive times, in grams; (n - 1,) for n times."""
        r = self.grid.regions.index(region)
        total = np.zeros(len(times) - 1)
        for q, resource in enumerate(self.grid.resources):
            if units := demand.get(resource, 0.0):
                total += units * np.diff(np.interp(times, self.grid.edges, self.summed[q, r]))
        return total

    def surcharge(self, at: Site, times: Floats) -> Floats:
        """Returns `room_g` for a job at a site; see `best_pauses`."""
        return self.room_g(at.region.name, at.demand, times)

    def of(self, candidate: Candidate, demand: Mapping[str, float]) -> float:
        """Returns the price of the room that a candidate holds, in grams."""
        priced = [s for s in candidate.segments if s[0] in self._priced]
        return sum((float(self.room_g(region, demand, np.array([a, b]))[0]) for region, a, b in priced), 0.0)

    def prices(self) -> CapacityPrices:
        """Returns the prices that are not zero, as the first guess for the next plan."""
        rows = {
            (region, resource): tuple(self.mu[q, r].tolist())
            for q, resource in enumerate(self.grid.resources)
            for r, region in enumerate(self.grid.regions)
            if np.any(self.mu[q, r] > 0)
        }
        return CapacityPrices(datetime.fromtimestamp(self.grid.start, UTC), timedelta(seconds=self.grid.step), rows)


class _Joint:
    """One joint placement; its steps are called in order."""

    def __init__(self, able: Sequence[Placer], held: Occupancy, now: datetime, previous: Plan | None) -> None:
        self.able, self.held, self.now, self.previous = able, held, now, previous
        series = {q.region.name: q.series for p in able for q in p.problem.sites}
        names = sorted(series)
        index = {name: i for i, name in enumerate(names)}
        self.series: list[Series] = [series[name] for name in names]
        wanted = sorted({r for p in able for q in p.problem.lanes for r, u in q.demand.items() if u > 0})
        bounded = [r for r in wanted if any(r in held.regions[n].capacity for n in names)]
        self.options = [o for j, p in enumerate(able) for o in _options_of(j, p, index, bounded, previous)]
        self.of_job: list[list[Option]] = [[] for _ in able]
        for o in self.options:
            self.of_job[o.job].append(o)
        step = step_of(len(able))
        self.grid: Grid = grid_of(self.options, names, bounded, now.timestamp(), step)
        self.room = self.grid.room(held.regions, held)
        self.mean_room = _mean_room(self.grid, self.room, held)
        self.chosen: list[Candidate | None] = [None] * len(able)
        self.others: list[list[Candidate]] = [[] for _ in able]
        self.full: list[list[str]] = [[] for _ in able]
        self.congestion = _Congestion(self.grid, np.zeros(self.room.shape))

    def solve(self) -> None:
        """Compute prices and a first placement, without breaks."""
        worth = np.zeros(len(self.able))
        for o in self.options:
            mean = float(self.series[o.region].intensity_g_per_kwh.mean())
            worth[o.job] = max(worth[o.job], CHANGE_WORTH * o.power_kw * mean * o.length / 3600.0)
        lanes = lanes_of(self.options, self.series, self.grid, self.room, worth)
        warm = None
        if self.previous is not None and self.previous.prices is not None:
            p = self.previous.prices
            warm = resampled(p.rows, p.start.timestamp(), p.step.total_seconds(), self.grid)
        before = self._before(lanes)
        if int((before.lane < 0).sum()) > max(_FEW, len(self.able) // 2):
            solution = solve(lanes.instance, _FIRST, warm=warm)
        else:
            # Another seed at each replan, so that the next search tries other moves.
            again = replace(_NEWLY if warm is None else _AGAIN, seed=int(self.now.timestamp()) % 2**31)
            solution = solve(lanes.instance, again, warm=warm, begin=before)
            if any(self._is_lost(int(j)) for j in solution.late):
                anew = solve(lanes.instance, _MISSED, warm=solution.mu)
                solution = anew if len(anew.late) < len(solution.late) else solution
        self.congestion = _Congestion(self.grid, solution.mu)
        self._assign(lanes, solution)

    def _is_lost(self, j: int) -> bool:
        """Whether an unplaced job had a place in the previous plan, or is new: one that had none before is not searched
        for again."""
        before = self.previous.jobs.get(self.able[j].work.key) if self.previous is not None else None
        return before is None or before.reason is not Reason.CAPACITY_FULL

    def _before(self, lanes: Lanes) -> Placement:
        """The previous plan as a placement, as far as its starts still lie ahead."""
        x, at = lanes.instance, Placement.empty(lanes.instance)
        planned = np.array([np.nan if o.planned is None else o.planned for o in self.options])
        for cell in np.flatnonzero(np.abs(lanes.at - np.repeat(planned[lanes.option], x.width)) < 1.0).tolist():
            lane = int(x.lane_of_cell[cell])
            j = self.options[int(lanes.option[lane])].job
            at.lane[j], at.start[j] = lane, x.first[lane] + cell - x.cells[lane]
        at.used = x.use(at.lane, at.start)
        return at

    def _assign(self, lanes: Lanes, solution: Solution) -> None:
        """Choose the solution's candidate for each job and hold its room."""
        x = lanes.instance
        for j, p in enumerate(self.able):
            lane = int(solution.lane[j])
            if lane >= 0:
                cell = int(x.cells[lane] + solution.start[j] - x.first[lane])
                self.chosen[j] = candidate = self._candidate(lanes, cell, lane)
                self._hold(p, candidate)
        self._weigh(lanes)

    def _candidate(self, lanes: Lanes, cell: int, lane: int) -> Candidate:
        o = self.options[int(lanes.option[lane])]
        at = float(lanes.at[cell])
        return Candidate(((self.grid.regions[o.region], at, at + o.length),), float(lanes.true_g[cell]), o.level)

    def _weigh(self, lanes: Lanes) -> None:
        """Collect the best start of each job and region at the prices, as alternatives."""
        x = lanes.instance
        lane = x.lane_of_cell
        cost = lanes.true_g.copy()
        ends = x.begins + x.slots[lane]
        for q, summed in enumerate(self.congestion.summed):
            flat = summed.ravel()
            cost += x.units[lane, q] * (flat[ends] - flat[x.begins])
        option = lanes.option[lane]
        heads = np.flatnonzero(np.append(True, option[1:] != option[:-1]))
        least = np.minimum.reduceat(cost, heads)
        hits = np.flatnonzero(cost == np.repeat(least, np.diff(np.append(heads, len(cost)))))
        for cell in hits[np.searchsorted(hits, heads)].tolist():
            self.others[self.options[int(option[cell])].job].append(self._candidate(lanes, cell, int(lane[cell])))

    def congestion_g(self, j: int, c: Candidate) -> float:
        """Price of the room that a candidate of job `j` holds, in grams."""
        return self.congestion.of(c, self.able[j].work.demand_at(c.level))

    def pause(self) -> None:
        """Place interruptible jobs anew, one after another: at the prices and then, if `refine` will not run, without
        them."""
        jobs = [j for j, p in enumerate(self.able) if p.work.interruptible]
        jobs.sort(key=lambda j: (self.able[j].problem.latest_start, self.able[j].work.key))
        for priced in (True, False)[: 1 if len(self.able) <= EXACT else 2]:
            for j in jobs:
                self._lift(j)
                candidate = self.able[j].candidates.pauses(
                    self.congestion.surcharge if priced else None, step_of(len(self.able))
                )
                self._replace(j, [candidate], priced)

    def refine(self) -> None:
        """Place each job once more by exact search on the capacity that the others leave; note regions without room.

        In a replan, jobs that keep their start or have their cheapest window already are skipped.
        """
        for j, p in enumerate(self.able):
            least = min((c.grams for c in p.candidates.lane_windows or () if c is not None), default=-np.inf)
            current = self.chosen[j]
            if self.previous is not None and current is not None:
                kept = any(self._planned(o) == current.segments[0][:2] for o in self.of_job[j])
                if kept or current.grams <= least * (1 + _NEAR):
                    continue
            self._lift(j)
            windows = p.candidates.windows_of(p.problem.lanes)
            roomy = {q.region.name for q, c in zip(p.problem.lanes, windows, strict=True) if c is not None}
            self.full[j] = [q.region.name for q in p.problem.sites if q.region.name not in roomy]
            pausing = [p.candidates.pauses(coarsest=step_of(len(self.able)))] if p.work.interruptible else []
            self._replace(j, [*windows, *pausing], priced=False)
            self.others[j] = [c for c in (*windows, *pausing, current) if c is not None]

    def _lift(self, j: int) -> None:
        """Release the room of job `j`."""
        if (c := self.chosen[j]) is not None:
            for region, a, b in c.segments:
                self.held.release(region, a, b, self.able[j].work.demand_at(c.level))

    def _hold(self, p: Placer, c: Candidate) -> None:
        for region, a, b in c.segments:
            self.held.hold(region, a, b, p.work.demand_at(c.level))

    def _replace(self, j: int, candidates: Sequence[Candidate | None], priced: bool) -> None:
        """Hold room for a lifted job again: for the cheapest candidate that fits, or as before if none is cheaper."""
        p, best = self.able[j], self.chosen[j]
        for c in candidates:
            if c is None or c.segments[-1][2] > p.problem.latest_end + 1e-6:
                continue
            if not self.held.fits(c.segments, p.work.demand_at(c.level)):
                continue
            if best is None or self._cost(j, c, priced) < self._cost(j, best, priced) * (1 - EVEN) - EVEN:
                best = c
        self.chosen[j] = best
        if best is not None:
            self._hold(p, best)

    def _cost(self, j: int, c: Candidate, priced: bool) -> float:
        """Grams of a candidate with the prices on pauses and on changing a plan, and that on room if `priced`."""
        p = self.able[j]
        o = next((o for o in self.of_job[j] if o.planned is not None), None)
        change = 0.0
        if o is not None and self._planned(o) != c.segments[0][:2]:
            mean = float(self.series[o.region].intensity_g_per_kwh.mean())
            change = CHANGE_WORTH * o.power_kw * mean * o.length / 3600.0
        return c.grams + p.objective.price_g(c) + change + (self.congestion_g(j, c) if priced else 0.0)

    def _planned(self, o: Option) -> tuple[str, float | None]:
        return self.grid.regions[o.region], o.planned

    def plans(self) -> dict[str, JobPlan]:
        """The plan of each job; the choice stays where it saves too little but an immediate start has no room."""
        out = {}
        for j, p in enumerate(self.able):
            self._lift(j)
            chosen = self.chosen[j]
            plan = p.plan_for(chosen, Weighed(self.others[j], self.full[j], partial(self.congestion_g, j)))
            if not plan.windows and chosen is not None:
                plan = p.keep(chosen, Weighed(self.others[j]))
            out[p.work.key] = plan
            p.hold(self.held, plan)
        return out

    def certificate(self, plans: Mapping[str, JobPlan]) -> Certificate:
        """Grams of the jobs that were placed in time, and the lower bound of the same jobs."""
        grams = {j: grams_of(plans[p.work.key]) for j, p in enumerate(self.able) if self.chosen[j] is not None}
        placed = {j: g for j, g in grams.items() if g is not None}
        pausing = {}
        for j in placed:
            work = self.able[j].work
            if work.interruptible:
                resumes = 1 + work.started
                pausing[j] = Pausing(work.remaining.total_seconds(), resumes * work.overhead.total_seconds())
        options = [o for o in self.options if o.job in placed]
        bound = bound_of(options, pausing, self.series, self.grid, self.congestion.mu, self.mean_room)
        return Certificate(sum(placed.values()), bound)
