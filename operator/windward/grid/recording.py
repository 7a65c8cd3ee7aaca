"""A zone of a recorded trace."""

from __future__ import annotations

from dataclasses import dataclass

from windward.domain.series import Floats


@dataclass(frozen=True, slots=True)
class Recording:
    """Equal steps of one zone: value i, in g/kWh, holds over [start_s + i step_s, start_s + (i + 1) step_s); NaN: a
    hole."""

    start_s: float
    step_s: float
    intensity_g_per_kwh: Floats

    @property
    def end_s(self) -> float:
        return self.start_s + self.step_s * len(self.intensity_g_per_kwh)
