"""The best single window, exact.

With piecewise-constant intensity, the grams of a window of fixed length are piecewise linear in its start. The best
start is therefore the earliest, the latest, or one where the window's start or end meets a boundary of the series
(or of other work's hold on capacity): 2 W + 2 candidates for W periods of any length, and no grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from windward.domain.fleet import Region, Work
from windward.domain.series import Floats, Series, distinct
from windward.planning.arrays.instance import runs
from windward.planning.capacity import Occupancy

START_S = 900.0  # over which a start draws its energy: grams stay continuous in the start


@dataclass(frozen=True, slots=True)
class Site:
    """One region as a place for one piece of work, times in epoch seconds."""

    region: Region
    series: Series
    power_kw: float  # at the grid: with PUE
    start_kwh: float  # at the grid, drawn evenly over the first START_S of every start
    demand: Mapping[str, float]  # units of each resource that are held there
    price_g_per_hour: float  # what running there costs in currency, as grams; in the objective alone
    speed: float = 1.0
    level: int | None = None  # index in the work's levels; None: as declared

    def grams(self, start: float, end: float) -> float:
        """Of running, without what a start draws."""
        a, b = self.series.integral(np.array([start, end]))
        return float(self.power_kw * (b - a))

    def start_g(self, starts: Floats) -> Floats:
        """Grams of what each start draws."""
        return (
            self.start_kwh
            / (START_S / 3600.0)
            * (self.series.integral(starts + START_S) - self.series.integral(starts))
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to do the work: segments (region, start, end) and their grams."""

    segments: tuple[tuple[str, float, float], ...]
    grams: float
    level: int | None = None


def site_of(work: Work, region: Region, series: Series) -> Site:
    """`region` as a place for `work`; `series` is the effective one."""
    return Site(
        region, series, work.power_w / 1000.0 * region.pue, start_kwh=_start_kwh(work, region), demand=work.demand,
        price_g_per_hour=work.grams_per_currency * region.cost_per_hour(work.demand),
    )  # fmt: skip


def levels_of(work: Work, at: Site) -> list[Site]:
    """The same place at each of the work's levels."""
    return [
        replace(
            at, power_kw=v.power_w / 1000.0 * at.region.pue, speed=v.speed, level=i, demand=work.demand_at(i),
            price_g_per_hour=work.grams_per_currency * at.region.cost_per_hour(work.demand_at(i)),
        )
        for i, v in enumerate(work.levels)
    ]  # fmt: skip


def _start_kwh(work: Work, region: Region) -> float:
    moved = work.move_energy_wh if region.name != work.home else 0.0
    return (work.start_energy_wh + moved) / 1000.0 * region.pue


def best_window(
    at: Site, work: Work, length_s: float, earliest: float, latest: float, occupancy: Occupancy
) -> Candidate | None:
    """The cheapest start in [earliest, latest] of a window of `length_s`; of equals, the earliest.

    None where no start fits: the window would leave the series, or capacity is taken throughout.
    """
    series = at.series
    latest = min(latest, float(series.edges[-1]) - length_s)
    earliest = max(earliest, float(series.edges[0]))
    if latest < earliest:
        return None
    meets = np.concatenate([series.edges, occupancy.boundaries(at.region.name, at.demand)])
    drawn = [meets - START_S] if at.start_kwh else []
    starts = np.concatenate([[earliest, latest], meets, meets - length_s, *drawn])
    starts = distinct(starts[(starts >= earliest) & (starts <= latest)])
    starts = starts[occupancy.free(at.region.name, starts, starts + length_s, at.demand)]
    if len(starts) == 0:
        return None
    grams = at.power_kw * (series.integral(starts + length_s) - series.integral(starts))
    if at.start_kwh:
        grams += at.start_g(starts)
    cost = grams + work.delay_g_per_hour / 3600.0 * (starts - earliest)
    # Rounding must not decide between equal windows: within a billionth, the earliest wins.
    i = int(np.flatnonzero(cost <= cost.min() * (1 + 1e-9) + 1e-12)[0])
    start = float(starts[i])
    return Candidate(((at.region.name, start, start + length_s),), float(grams[i]), at.level)


@dataclass(frozen=True, slots=True)
class WindowQuery:
    """One job's question for its best window in one place; see `best_window`."""

    at: Site
    work: Work
    length_s: float
    earliest: float
    latest: float


def best_windows(queries: Sequence[WindowQuery], occupancy: Occupancy) -> list[Candidate | None]:
    """`best_window` for many queries at once, each blind to the others; the answers are the same."""
    out: list[Candidate | None] = [None] * len(queries)
    by_region: dict[str, list[int]] = {}
    for i, query in enumerate(queries):
        by_region.setdefault(query.at.region.name, []).append(i)
    for indices in by_region.values():
        for i, best in zip(indices, _of_region([queries[i] for i in indices], occupancy), strict=True):
            out[i] = best
    return out


def _of_region(queries: Sequence[WindowQuery], occupancy: Occupancy) -> list[Candidate | None]:
    """The same for queries of one region, whose place has one series."""
    at = queries[0].at
    name, series = at.region.name, at.series
    a = np.maximum([k.earliest for k in queries], series.edges[0])
    length = np.array([k.length_s for k in queries])
    b = np.minimum([k.latest for k in queries], series.edges[-1] - length)
    wanted = sorted({r for k in queries for r in k.at.demand if r in at.region.capacity})
    demand = {r: np.array([k.at.demand.get(r, 0.0) for k in queries]) for r in wanted}
    most = {r: float(units.max()) for r, units in demand.items()}
    edges = distinct(np.concatenate([series.edges, occupancy.boundaries(name, most)]))
    shifts = [np.zeros(len(queries)), length]
    if any(k.at.start_kwh for k in queries):
        shifts.append(np.full(len(queries), START_S))
    starts, of = _meeting(edges, a, b, shifts)
    ends = starts + length[of]
    grams = np.array([k.at.power_kw for k in queries])[of] * (series.integral(ends) - series.integral(starts))
    if len(shifts) > 2:
        drawn = series.integral(starts + START_S) - series.integral(starts)
        grams += np.array([k.at.start_kwh for k in queries])[of] / (START_S / 3600.0) * drawn
    cost = grams + np.array([k.work.delay_g_per_hour for k in queries])[of] / 3600.0 * (starts - a[of])
    fits = (a <= b)[of]
    for resource, units in demand.items():
        held, bound = occupancy.peak(name, resource, starts, ends), at.region.capacity[resource]
        fits &= (units[of] <= 0) | (held + units[of] <= bound + 1e-9)
    cost[~fits] = np.inf
    heads = np.searchsorted(of, np.arange(len(queries)))
    least = np.minimum.reduceat(cost, heads)
    even = np.where(np.isfinite(least), least * (1 + 1e-9) + 1e-12, -np.inf)
    hits = np.flatnonzero(cost <= even[of])
    first = dict(zip(of[hits][::-1].tolist(), hits[::-1].tolist(), strict=True))  # of equals the earliest stays
    out: list[Candidate | None] = [None] * len(queries)
    for i, k in first.items():
        start = float(starts[k])
        out[i] = Candidate(((name, start, start + queries[i].length_s),), float(grams[k]), queries[i].at.level)
    return out


def _meeting(edges: Floats, a: Floats, b: Floats, shifts: Sequence[Floats]) -> tuple[Floats, np.ndarray]:
    """All starts worth a look, by query and then time, and whose they are."""
    each = np.arange(len(a))
    starts, of = [a, b], [each, each]
    for shift in shifts:
        i = np.searchsorted(edges, a + shift)
        count = np.maximum(0, np.searchsorted(edges, b + shift, side="right") - i)
        starts.append(edges[runs(i, count)] - np.repeat(shift, count))
        of.append(np.repeat(each, count))
    s, j = np.concatenate(starts), np.concatenate(of)
    within = (s >= a[j]) & (s <= b[j]) | (a > b)[j]
    s, j = s[within], j[within]
    order = np.lexsort((s, j))
    return s[order], j[order]
