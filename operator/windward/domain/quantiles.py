"""How far a forecast can be trusted, period by period: quantiles beside the values of a series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from windward.domain.series import Floats


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Quantiles of the intensity in each period; they speak of each period alone, not of sums over periods.

    Attributes:
        edges: period boundaries, n + 1 strictly increasing epoch seconds (UTC), as in `Series`.
        levels: k probabilities, strictly increasing, each in (0, 1).
        intensity_g_per_kwh: (k, n) values in gCO2e/kWh, finite, >= 0, not decreasing with the level.
    """

    edges: Floats
    levels: tuple[float, ...]
    intensity_g_per_kwh: Floats

    def __post_init__(self) -> None:
        values = self.intensity_g_per_kwh
        if values.shape != (len(self.levels), len(self.edges) - 1) or values.size == 0:
            raise ValueError(
                f"{len(self.levels)} levels and {len(self.edges)} edges for values of shape {values.shape}"
            )
        if not (self.levels[0] > 0 and self.levels[-1] < 1 and np.all(np.diff(self.levels) > 0)):
            raise ValueError(f"levels must increase within (0, 1): {self.levels}")
        if not np.all(np.diff(self.edges) > 0):
            raise ValueError("period starts must increase")
        if not np.all(np.isfinite(values)) or np.any(values < 0) or np.any(np.diff(values, axis=0) < 0):
            raise ValueError("quantiles must be finite, not negative, and in the order of their levels")

    def __eq__(self, other: object) -> bool:
        """Equal content, bit for bit; the generated comparison would raise on arrays."""
        if not isinstance(other, Quantiles):
            return NotImplemented
        return (
            self.levels == other.levels
            and np.array_equal(self.edges, other.edges)
            and np.array_equal(self.intensity_g_per_kwh, other.intensity_g_per_kwh)
        )

    def __hash__(self) -> int:
        return hash((self.levels, self.edges.tobytes(), self.intensity_g_per_kwh.tobytes()))

    def at(self, level: float) -> Floats:
        """The n values of one of the `levels`, in g/kWh.

        Raises:
            ValueError: `level` is none of them.
        """
        return np.asarray(self.intensity_g_per_kwh[self.levels.index(level)], dtype=np.float64)
