"""Capacity of regions over time, as the work placed so far leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from windward.domain.fleet import Region
from windward.domain.series import Floats, distinct


@dataclass
class Occupancy:
    """Who holds what, when. Times are epoch seconds."""

    regions: Mapping[str, Region]
    _held: dict[tuple[str, str], list[tuple[float, float, float]]] = field(default_factory=dict)

    def hold(self, region: str, start: float, end: float, demand: Mapping[str, float]) -> None:
        """Take `demand` in `region` over [start, end)."""
        for resource, units in demand.items():
            self._held.setdefault((region, resource), []).append((start, end, units))

    def bounded(self, region: str, demand: Mapping[str, float]) -> bool:
        """Whether any of `demand` has a bound there."""
        return any(units > 0 and r in self.regions[region].capacity for r, units in demand.items())

    def free(self, region: str, starts: Floats, ends: Floats, demand: Mapping[str, float]) -> np.ndarray:
        """For each interval [starts, ends): whether `demand` fits throughout."""
        fits = np.ones(len(starts), dtype=bool)
        for resource, units in demand.items():
            bound = self.regions[region].capacity.get(resource)
            if bound is None or units <= 0:
                continue
            fits &= self._peak(region, resource, starts, ends) + units <= bound + 1e-9
        return fits

    def boundaries(self, region: str, demand: Mapping[str, float]) -> Floats:
        """Times at which something that `demand` competes with begins or ends."""
        times = [t for r in demand for a, b, _ in self._held.get((region, r), ()) for t in (a, b)]
        return np.asarray(times, dtype=np.float64)

    def _peak(self, region: str, resource: str, starts: Floats, ends: Floats) -> Floats:
        """Most units held at once within each interval."""
        held = self._held.get((region, resource))
        if not held:
            return np.zeros(len(starts))
        a, b, u = (np.array(column) for column in zip(*held, strict=True))
        # Use changes only at starts of holdings: its peak in an interval is at the interval's start or at one of them.
        at = np.concatenate([[-np.inf], distinct(a)])
        level = np.array([u[(a <= t) & (t < b)].sum() for t in at])
        peak = np.array([u[(a <= s) & (s < b)].sum() for s in starts])
        for t, use in zip(at, level, strict=True):
            peak = np.where((starts < t) & (t < ends), np.maximum(peak, use), peak)
        return peak
