"""The best single window, exact.

With piecewise-constant intensity, the grams of a window of fixed length are piecewise linear in its start. The best
start is therefore the earliest, the latest, or one where the window's start or end meets a boundary of the series
(or of other work's hold on capacity): 2 W + 2 candidates for W periods of any length, and no grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from windward.domain.fleet import Region, Work
from windward.domain.series import Series, distinct
from windward.planning.occupancy import Occupancy


@dataclass(frozen=True, slots=True)
class Place:
    """One region as a place for one piece of work, times in epoch seconds."""

    region: Region
    series: Series
    power_kw: float  # at the grid: with PUE

    def grams(self, start: float, end: float) -> float:
        a, b = self.series.integral(np.array([start, end]))
        return float(self.power_kw * (b - a))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to do the work: segments (region, start, end) and their grams."""

    segments: tuple[tuple[str, float, float], ...]
    grams: float


def place(work: Work, region: Region, series: Series) -> Place:
    """`region` as a place for `work`."""
    return Place(region, region.effective(series), work.power_w / 1000.0 * region.pue)


def best_window(
    at: Place, work: Work, length_s: float, earliest: float, latest: float, occupancy: Occupancy
) -> Candidate | None:
    """The cheapest start in [earliest, latest] of a window of `length_s`; of equals, the earliest.

    None where no start fits: the window would leave the series, or capacity is taken throughout.
    """
    series = at.series
    latest = min(latest, float(series.edges[-1]) - length_s)
    earliest = max(earliest, float(series.edges[0]))
    if latest < earliest:
        return None
    meets = np.concatenate([series.edges, occupancy.boundaries(at.region.name, work.demand)])
    starts = np.concatenate([[earliest, latest], meets, meets - length_s])
    starts = distinct(starts[(starts >= earliest) & (starts <= latest)])
    if occupancy.bounded(at.region.name, work.demand):
        starts = starts[occupancy.free(at.region.name, starts, starts + length_s, work.demand)]
        if len(starts) == 0:
            return None
    grams = at.power_kw * (series.integral(starts + length_s) - series.integral(starts))
    # Rounding must not decide between equal windows: within a billionth, the earliest wins.
    i = int(np.flatnonzero(grams <= grams.min() * (1 + 1e-9) + 1e-12)[0])
    start = float(starts[i])
    return Candidate(((at.region.name, start, start + length_s),), float(grams[i]))
