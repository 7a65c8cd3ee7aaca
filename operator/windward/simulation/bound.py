"""What a job is measured by in a simulation, the same whatever the policy does: its baseline, and its lower bound.

Both rest on what only the world knows, the true duration, so that a policy that wastes work has no larger baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from windward.domain.fleet import Region
from windward.domain.series import Floats, Series
from windward.lifecycle.baseline import JOULES_PER_KWH
from windward.lifecycle.work import home_of, levels_of, power_w
from windward.planning.bounds import least_of
from windward.simulation.arrivals import Arrival
from windward_api.greenjob import InterruptionPolicy


@dataclass(frozen=True)
class Site:
    """A region with what a kilowatt-hour there emitted.

    Attributes:
        recorded: the zone's intensity, g/kWh.
        effective: the same with the region's own generation, g/kWh before PUE; holes stay holes.
    """

    region: Region
    recorded: Series
    effective: Series

    @classmethod
    def of(cls, region: Region, recorded: Series) -> Site:
        """Returns the site of a region, given its zone's recorded intensity."""
        return cls(region, recorded, region.effective(recorded))


def baseline_g(arrival: Arrival, takes: timedelta, sites: Mapping[str, Site]) -> float | None:
    """Returns the grams of a job run at once, at home, as declared and without interruption.

    Args:
        takes: its true duration as declared.

    Returns:
        None where home or one of its hours is not known.
    """
    site, end = sites.get(home_of(arrival.job.spec)), arrival.at + takes
    if site is None or not site.effective.covers(arrival.at, end):
        return None
    kwh = power_w(arrival.job.spec) * takes.total_seconds() / JOULES_PER_KWH
    return kwh * site.effective.mean(arrival.at, end) * site.region.pue


def least_possible_g(arrival: Arrival, takes: timedelta, until: datetime, sites: Mapping[str, Site]) -> float:
    """Returns grams that no run of a job to its end goes below, at any power level, in any of its regions.

    A job that may not pause is bounded by its best unbroken window. Of one that may, no run does more work in a moment
    than the fastest level, and none needs less energy for it than the thriftiest: the cheapest moments at both.

    Args:
        takes: its true duration as declared.
        until: the latest end to be considered. Hours that are not known are no choice: what ran then is not weighed.

    Returns:
        0 where the job fits into no known hours.
    """
    spec = arrival.job.spec
    ways = [(power_w(spec), 1.0), *((v.power_w, v.speed) for v in levels_of(spec))]
    allowed = [sites[name] for name in spec.placement.regions if name in sites]
    begin_s, end_s = arrival.at.timestamp(), max(until, arrival.at + takes).timestamp()
    if spec.interruption.policy is InterruptionPolicy.CHECKPOINT:
        fastest = max(speed for _, speed in ways)
        best = least_of(*_moments(allowed, begin_s, end_s), takes.total_seconds() / fastest)
        best *= min(watts / speed for watts, speed in ways) * fastest / JOULES_PER_KWH
    else:
        stretches = [(s, site.region.pue) for site in allowed for s in site.effective.stretches]
        best = min(
            (
                pue * watts / 1000.0 * _best_window(series, begin_s, end_s, takes.total_seconds() / speed)
                for series, pue in stretches
                for watts, speed in ways
            ),
            default=np.inf,
        )
    return float(best) if np.isfinite(best) else 0.0


def _best_window(series: Series, begin_s: float, end_s: float, length_s: float) -> float:
    """Least integral, in g/kWh x h, of a window within a stretch and [begin_s, end_s]; infinite where none fits."""
    first, last = max(begin_s, float(series.edges[0])), min(end_s, float(series.edges[-1])) - length_s
    if last < first:
        return float(np.inf)
    starts = np.concatenate([[first, last], series.edges, series.edges - length_s])
    starts = starts[(starts >= first) & (starts <= last)]
    return float((series.integral(starts + length_s) - series.integral(starts)).min())


def _moments(sites: list[Site], begin_s: float, end_s: float) -> tuple[Floats, Floats]:
    """(g/kWh with PUE in the cleanest region, seconds) of each period of [begin_s, end_s) in which one is known."""
    known = [(s, site.region.pue) for site in sites for s in site.effective.stretches]
    edges = np.unique(np.clip(np.concatenate([[begin_s, end_s], *(s.edges for s, _ in known)]), begin_s, end_s))
    middle, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    cost = np.full(len(middle), np.inf)
    for series, pue in known:
        i = np.searchsorted(series.edges, middle, side="right") - 1
        inside = (i >= 0) & (i < len(series.intensity_g_per_kwh))
        there = series.intensity_g_per_kwh[np.clip(i, 0, len(series.intensity_g_per_kwh) - 1)] * pue
        cost = np.where(inside, np.minimum(cost, there), cost)
    return cost[np.isfinite(cost)], widths[np.isfinite(cost)]
