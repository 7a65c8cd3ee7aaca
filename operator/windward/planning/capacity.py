"""Capacity of regions over time, as the work placed so far leaves it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from windward.domain.fleet import Region
from windward.domain.series import Floats, distinct


@dataclass
class Occupancy:
    """Who holds what, when. Times are epoch seconds."""

    regions: Mapping[str, Region]
    _held: dict[tuple[str, str], list[tuple[float, float, float]]] = field(default_factory=dict)
    _steps: dict[tuple[str, str], tuple[Floats, Floats]] = field(default_factory=dict)

    def hold(self, region: str, start: float, end: float, demand: Mapping[str, float]) -> None:
        """Take `demand` in `region` over [start, end). What has no bound there is nobody's concern."""
        for resource, units in self._bounded(region, demand):
            self._held.setdefault((region, resource), []).append((start, end, units))
            self._steps.pop((region, resource), None)

    def release(self, region: str, start: float, end: float, demand: Mapping[str, float]) -> None:
        """Give back exactly what one `hold` took."""
        for resource, units in self._bounded(region, demand):
            self._held[region, resource].remove((start, end, units))
            self._steps.pop((region, resource), None)

    def _bounded(self, region: str, demand: Mapping[str, float]) -> list[tuple[str, float]]:
        capacity = self.regions[region].capacity if region in self.regions else {}
        return [(r, units) for r, units in demand.items() if units > 0 and r in capacity]

    def bounded(self, region: str, demand: Mapping[str, float]) -> bool:
        """Whether any of `demand` has a bound there."""
        return bool(self._bounded(region, demand))

    def free(self, region: str, starts: Floats, ends: Floats, demand: Mapping[str, float]) -> np.ndarray:
        """For each interval [starts, ends): whether `demand` fits throughout."""
        fits = np.ones(len(starts), dtype=bool)
        for resource, units in self._bounded(region, demand):
            bound = self.regions[region].capacity[resource]
            fits &= self.peak(region, resource, starts, ends) + units <= bound + 1e-9
        return fits

    def fits(self, segments: Iterable[tuple[str, float, float]], demand: Mapping[str, float]) -> bool:
        """Whether `demand` fits throughout each segment (region, start, end)."""
        return all(self.free(r, np.array([a]), np.array([b]), demand)[0] for r, a, b in segments)

    def first_free(self, region: str, earliest: float, length: float, demand: Mapping[str, float]) -> float | None:
        """The first moment from which `demand` fits for `length` seconds; None where there is never so much."""
        later = self.boundaries(region, demand)
        starts = np.append(earliest, distinct(later[later > earliest]))
        fits = np.flatnonzero(self.free(region, starts, starts + length, demand))
        return float(starts[fits[0]]) if len(fits) else None

    def boundaries(self, region: str, demand: Mapping[str, float]) -> Floats:
        """Times at which something that `demand` competes with begins or ends."""
        times = [self._levels(region, resource)[0][1:] for resource, _ in self._bounded(region, demand)]
        return np.concatenate(times) if times else np.zeros(0)

    def copy(self) -> Occupancy:
        return Occupancy(self.regions, {k: list(v) for k, v in self._held.items()}, dict(self._steps))

    def overused(self, regions: Collection[str]) -> bool:
        """Whether more is held in any of the regions, at any time, than there is."""
        for region, resource in self._held:
            bound = self.regions[region].capacity[resource]
            if region in regions and self._levels(region, resource)[1].max() > bound + 1e-9:
                return True
        return False

    def peak(self, region: str, resource: str, starts: Floats, ends: Floats) -> Floats:
        """Most units held at once within each interval [starts, ends)."""
        times, level = self._levels(region, resource)
        first = times.searchsorted(starts, side="right") - 1
        last = np.maximum(times.searchsorted(ends, side="left"), first + 1)
        if len(starts) == 1:  # often asked; the general way takes several times as long
            return np.array([level[first[0] : last[0]].max()])
        pairs = np.stack([first, last], axis=1).ravel()
        return np.asarray(np.maximum.reduceat(np.append(level, 0.0), pairs)[::2])

    def mean(self, region: str, resource: str, edges: Floats) -> Floats:
        """Mean units held in each period between consecutive edges."""
        times, level = self._levels(region, resource)
        if len(times) == 1:
            return np.zeros(len(edges) - 1)
        area = np.concatenate([[0.0], np.cumsum(level[1:-1] * np.diff(times[1:]))])
        return np.diff(np.interp(edges, times[1:], area)) / np.diff(edges)

    def _levels(self, region: str, resource: str) -> tuple[Floats, Floats]:
        """Units held as a step function: level[i] from times[i] on; the first time is minus infinity."""
        key = (region, resource)
        if key not in self._steps:
            starts, ends, units = np.array(self._held.get(key, ())).reshape(-1, 3).T
            times = np.concatenate([[-np.inf], starts, ends])
            order = times.argsort(kind="stable")
            times, total = times[order], np.concatenate([[0.0], units, -units])[order].cumsum()
            last = np.ones(len(times), bool)
            np.not_equal(times[1:], times[:-1], out=last[:-1])
            self._steps[key] = (times[last], np.maximum(0.0, total[last].round(9)))
        return self._steps[key]
