"""Builds the arrays of a joint placement from jobs, regions and series, on a time grid of slots.

Grams of a start are exact for any length, by the integrals of the series. Room is counted in whole slots, so that a
placement on the grid keeps the capacities at every moment. Each job and region has up to four lanes: a start now, one
at the planned time, one at each grid point, and the latest start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from windward.domain.fleet import Region
from windward.domain.series import Floats, Series, distinct
from windward.planning.arrays.instance import Instance, Ints, prefix, runs
from windward.planning.bounds import least_of
from windward.planning.capacity import Occupancy
from windward.planning.windows import START_S

STEPS_S = ((60, 900), (300, 1800))  # (most jobs, seconds of a slot); an hour for more jobs


@dataclass(frozen=True, slots=True)
class Option:
    """One job in one region: when it may start and what it draws. Times in epoch seconds.

    Attributes:
        job: index.
        region: index in the grid's regions.
        planned: start in the previous plan, if it lies ahead and in this region; another start has a price.
        units: of each of the grid's resources.
        level, speed, start_kwh, delay_g_per_hour, price_g_per_hour: see `Site` and `Work`.
    """

    job: int
    region: int
    earliest: float
    latest: float
    length: float
    power_kw: float
    units: tuple[float, ...]
    planned: float | None = None
    level: int | None = None
    speed: float = 1.0
    start_kwh: float = 0.0
    delay_g_per_hour: float = 0.0
    price_g_per_hour: float = 0.0


@dataclass(frozen=True)
class Grid:
    """Slots, regions and resources of an instance."""

    start: float
    step: float
    slots: int
    regions: tuple[str, ...]
    resources: tuple[str, ...]

    @property
    def edges(self) -> Floats:
        return np.asarray(self.start + self.step * np.arange(self.slots + 1, dtype=np.float64))

    def room(self, where: Mapping[str, Region], held: Occupancy) -> Floats:
        """(Q, R, T) units that are free throughout each slot."""
        edges, out = self.edges, np.full((len(self.resources), len(self.regions), self.slots), np.inf)
        for q, resource in enumerate(self.resources):
            for r, region in enumerate(self.regions):
                cap = where[region].capacity.get(resource)
                if cap is not None:
                    out[q, r] = np.maximum(0.0, cap - held.peak(region, resource, edges[:-1], edges[1:]))
        return out


def step_of(count: int) -> int:
    """Seconds of a slot for a fleet of so many jobs."""
    return next((step for most, step in STEPS_S if count <= most), 3600)


def grid_of(
    options: Sequence[Option], regions: Sequence[str], resources: Sequence[str], now: float, step: float
) -> Grid:
    """The grid that holds every option; its boundaries are multiples of the step since the epoch."""
    start = float(np.floor(now / step) * step)
    end = max(o.latest + o.length for o in options)
    return Grid(start, step, int(np.ceil((end - start) / step - 1e-9)) + 1, tuple(regions), tuple(resources))


@dataclass(frozen=True)
class Lanes:
    """The instance, with the exact time of every start.

    Attributes:
        instance: see `Instance`; its grams include the prices on delay, on currency and on changing a plan.
        at: (K,) epoch seconds of each start.
        option: (L,) index of each lane's option.
        true_g: (K,) grams without prices.
    """

    instance: Instance
    at: Floats
    option: Ints
    true_g: Floats


def lanes_of(options: Sequence[Option], series: Sequence[Series], grid: Grid, cap: Floats, change_g: Floats) -> Lanes:
    """All lanes of all options.

    Args:
        options: in the order of jobs; each job has at least one.
        series: of each of the grid's regions.
        cap: (Q, R, T).
        change_g: (N,) grams that another start than the planned one must save.
    """
    job = np.array([o.job for o in options])
    a, b = np.array([o.earliest for o in options]), np.array([o.latest for o in options])
    planned = np.array([np.nan if o.planned is None else o.planned for o in options])
    h, zero = grid.step, grid.start
    first, last = np.ceil((a - zero) / h - 1e-9), np.floor((b - zero) / h + 1e-9)
    on_grid = last >= first
    index = np.arange(len(options))
    early = index[(np.abs(zero + first * h - a) > 1e-6) | ~on_grid]
    late = index[(b > a) & ((np.abs(zero + last * h - b) > 1e-6) | ~on_grid)]
    kept = index[(planned > a) & (planned < b)]
    parts = [(early, a[early], 0), (kept, planned[kept], 1), (late, b[late], 3)]
    option = np.concatenate([p[0] for p in parts] + [index[on_grid]])
    begin = np.concatenate([p[1] for p in parts] + [(zero + first * h)[on_grid]])
    width = np.concatenate([np.ones(len(p[0])) for p in parts] + [(last - first + 1)[on_grid]]).astype(np.int64)
    kind = np.concatenate([np.full(len(p[0]), p[2]) for p in parts] + [np.full(int(on_grid.sum()), 2)])
    order = np.lexsort((kind, option))
    option, begin, width = option[order], begin[order], width[order]
    return _assembled(options, option, begin, width, series, grid, cap, change_g, planned, job)


def _assembled(
    options: Sequence[Option], option: Ints, begin: Floats, width: Ints, series: Sequence[Series], grid: Grid,
    cap: Floats, change_g: Floats, planned: Floats, job: Ints,
) -> Lanes:  # fmt: skip
    region = np.array([o.region for o in options])[option]
    length = np.array([o.length for o in options])[option]
    power = np.array([o.power_kw for o in options])[option]
    cells = np.concatenate([[0], np.cumsum(width)]).astype(np.int64)
    step = runs(np.zeros(len(width), np.int64), width)
    at = np.repeat(begin, width) + grid.step * step
    end = at + np.repeat(length, width)
    grams, where = np.empty(len(at)), np.repeat(region, width)
    for r, known in enumerate(series):
        here = where == r
        grams[here] = known.integral(end[here]) - known.integral(at[here])
    grams *= np.repeat(power, width)
    grams += _drawn_at_start(options, option, width, series, where, at)
    first = np.floor((begin - grid.start) / grid.step + 1e-9).astype(np.int64)
    last = np.ceil((begin + length - grid.start) / grid.step - 1e-9).astype(np.int64)
    had = np.zeros(len(change_g), bool)
    had[job[~np.isnan(planned)]] = True
    same = np.abs(at - np.repeat(planned[option], width)) < 1.0
    price = np.where(same, 0.0, np.repeat((change_g * had)[job[option]], width))
    delay = np.array([o.delay_g_per_hour for o in options])
    if np.any(delay):
        price += np.repeat(delay[option], width) * (end - grid.start) / 3600.0
    running_g = np.array([o.price_g_per_hour for o in options])
    if np.any(running_g):
        price += np.repeat(running_g[option] * length, width) / 3600.0
    units = np.array([o.units for o in options]).reshape(len(options), -1)
    lane_job = job[option]
    instance = Instance(
        lanes=np.searchsorted(lane_job, np.arange(len(change_g) + 1)).astype(np.int64),
        region=region.astype(np.int64),
        first=first,
        width=width,
        slots=last - first,
        units=np.ascontiguousarray(units[option]),
        cells=cells,
        grams=grams + price,
        cap=cap,
    )
    return Lanes(instance, at, option, grams)


def _drawn_at_start(
    options: Sequence[Option], option: Ints, width: Ints, series: Sequence[Series], where: Ints, at: Floats
) -> Floats:
    """(K,) grams of what each start draws."""
    kwh = np.repeat(np.array([o.start_kwh for o in options])[option], width)
    for r, known in enumerate(series) if np.any(kwh) else ():
        here = where == r
        kwh[here] *= (known.integral(at[here] + START_S) - known.integral(at[here])) / (START_S / 3600.0)
    return kwh


def resampled(
    rows: Mapping[tuple[str, str], tuple[float, ...]], start: float, step: float, grid: Grid
) -> Floats | None:
    """Prices of an earlier plan on this grid, in grams per unit and slot; 0 outside its time, None if all are 0."""
    out = np.zeros((len(grid.resources), len(grid.regions), grid.slots))
    for (region, resource), values in rows.items():
        if region in grid.regions and resource in grid.resources:
            row = np.asarray(values) / step
            total = prefix(row * step)
            edges = start + step * np.arange(len(row) + 1)
            area = np.interp(grid.edges, edges, total)
            out[grid.resources.index(resource), grid.regions.index(region)] = np.diff(area)
    return out if np.any(out > 0) else None


@dataclass(frozen=True, slots=True)
class Pausing:
    """Remaining need of an interruptible job.

    Attributes:
        seconds: of running at the declared power.
        resumes_s: seconds of the overheads that are inevitable if it pauses.
    """

    seconds: float
    resumes_s: float


def bound_of(
    options: Sequence[Option],
    pausing: Mapping[int, Pausing],
    series: Sequence[Series],
    grid: Grid,
    mu: Floats,
    room: Floats,
) -> float:
    """Returns a lower bound on the grams of these jobs: the dual value of the prices in continuous time.

    Args:
        pausing: interruptible jobs by index: each runs unbroken, or with at least one resume.
        room: (Q, R, T) mean units free in each slot.
    """
    rate = mu / grid.step  # grams per unit and second
    paid = prefix(mu)
    finite = np.isfinite(room)
    value = -float((mu[finite] * room[finite]).sum())
    best = np.full(max(o.job for o in options) + 1 if options else 0, np.inf)
    for r, known in enumerate(series):
        here = [o for o in options if o.region == r]
        if here:
            _windows_bound(best, here, known, grid, paid[:, r])
    by_job: dict[int, list[Option]] = {}
    for o in options if pausing else ():
        by_job.setdefault(o.job, []).append(o)
    for job, need in pausing.items():
        of_job = by_job.get(job, [])
        for speed in {o.speed for o in of_job}:  # one level serves the whole job
            at = [o for o in of_job if o.speed == speed]
            seconds = need.seconds / speed + need.resumes_s
            best[job] = min(best[job], _pausing_bound(at, seconds, series, grid, rate))
    return value + float(best[np.isfinite(best)].sum())


def _windows_bound(best: Floats, options: Sequence[Option], known: Series, grid: Grid, paid: Floats) -> None:
    """The cheapest start of unbroken windows in one region, at the prices; exact: costs are linear between edges."""
    edges = distinct(np.concatenate([known.edges, grid.edges]))
    job, units = np.array([o.job for o in options]), np.array([o.units for o in options])
    a, b = np.array([o.earliest for o in options]), np.array([o.latest for o in options])
    length, power = np.array([o.length for o in options]), np.array([o.power_kw for o in options])
    starts, which = [a, b], [np.arange(len(options))] * 2
    for shift in (np.zeros(len(options)), length):
        i = np.searchsorted(edges, a + shift)
        count = np.maximum(0, np.searchsorted(edges, b + shift, side="right") - i)
        starts.append(edges[runs(i, count)] - np.repeat(shift, count))
        which.append(np.repeat(np.arange(len(options)), count))
    s, of = np.concatenate(starts), np.concatenate(which)
    e = s + length[of]
    cost = power[of] * (known.integral(e) - known.integral(s))
    for q in range(paid.shape[0]):
        cost += units[of, q] * (np.interp(e, grid.edges, paid[q]) - np.interp(s, grid.edges, paid[q]))
    np.minimum.at(best, job[of], cost)


def _pausing_bound(
    options: Sequence[Option], seconds: float, series: Sequence[Series], grid: Grid, rate: Floats
) -> float:
    """The cost of the cheapest `seconds` seconds in the job's time window, each in its cheapest region."""
    a, b = min(o.earliest for o in options), max(o.latest + o.length for o in options)
    edges = np.concatenate([series[o.region].edges for o in options] + [grid.edges, [a, b]])
    edges = distinct(np.clip(edges, a, b))
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    cost = np.full(len(middle), np.inf)
    slot = np.clip(((middle - grid.start) / grid.step).astype(np.int64), 0, grid.slots - 1)
    for o in options:
        known = series[o.region]
        price = o.power_kw * np.diff(known.integral(edges)) / width + np.array(o.units) @ rate[:, o.region, slot]
        cost = np.minimum(cost, np.where(middle < known.edges[-1], price, np.inf))
    return least_of(cost, width, seconds)
