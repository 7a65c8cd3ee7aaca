"""Kernel regression on similar past days: from the shape of the last two days to the coming week.

It is the mean of a Gaussian process (Rasmussen and Williams 2006, equation 2.25) with a kernel that is partly linear,
partly local: similar days have similar continuations. Training uses origins at the same hour of day only, so that no
term is needed for the shape of the day. The target is the deviation from a mixture of profiles (`_base`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from windward.domain.series import Floats
from windward.forecasting.past import DAY, FIRST_ORIGIN, LEADS, WEEK, Ints, Past

_NOISE = 3.0
_LINEAR = 0.02
_NARROW = 0.003
_LEAST_SPREAD = 1e-3  # lower bound of the scale: identical days differ by rounding only
_MOST_DAYS = 730  # the solve is cubic in the days: two years take some 50 ms


@dataclass(frozen=True, eq=False)
class Analog:
    """The regression trained on hours before `known_until`; solved for each hour of day at its first use.

    Attributes:
        known_until: index of the first hour that is not used in training. The hours before it never change.
    """

    known_until: int
    _taught: dict[int, tuple[Floats, Floats] | None] = field(default_factory=dict)
    _spread: list[float] = field(default_factory=list)  # at most one

    def paths(self, past: Past, origins: Ints) -> Floats:
        """Forecasts on the log scale from each origin, (n, LEADS).

        Args:
            origins: (n,) indices of first unknown hours, >= FIRST_ORIGIN and >= `known_until`.
        """
        out = _base(past, origins)
        for hour in sorted(set((origins % DAY).tolist())):
            chosen = origins % DAY == hour
            taught = self._taught_at(past, hour)
            if taught is not None:
                there, weights = taught
                out[chosen] += _kernel(_shape(past, origins[chosen], self._scale(past)), there) @ weights
        return out

    def _scale(self, past: Past) -> float:
        """Standard deviation of the anomaly in the training hours, not in all hours of `past`."""
        if not self._spread:
            self._spread.append(max(float(np.nanstd(past.anomaly[: self.known_until])), _LEAST_SPREAD))
        return self._spread[0]

    def _taught_at(self, past: Past, hour: int) -> tuple[Floats, Floats] | None:
        """Shapes of the training days with an origin at this hour, (n, 104), and their weights, (n, LEADS)."""
        if hour not in self._taught:
            first = FIRST_ORIGIN + (hour - FIRST_ORIGIN) % DAY
            seen = np.arange(first, self.known_until - LEADS + 1, DAY)[-_MOST_DAYS:]
            self._taught[hour] = self._solved(past, seen) if len(seen) else None
        return self._taught[hour]

    def _solved(self, past: Past, seen: Ints) -> tuple[Floats, Floats]:
        there = _shape(past, seen, self._scale(past))
        missed = past.x[seen[:, None] + np.arange(LEADS)] - _base(past, seen)
        weights = np.linalg.solve(_kernel(there, there) + _NOISE * np.eye(len(seen)), missed)
        return there, np.asarray(weights, dtype=np.float64)


def _base(past: Past, origins: Ints) -> Floats:
    """0.4 x week's profile + 0.4 x month's profile + 0.2 x level + 0.4 x weekday deviation, (n, LEADS)."""
    target = origins[:, None] + np.arange(LEADS)
    day = target - DAY * (np.arange(LEADS) // DAY + 1)
    level = past.l168[origins - 1][:, None]
    mixed = 0.4 * past.m7[day] + 0.4 * past.m28[day] + 0.2 * level + 0.4 * past.weekday[target - WEEK]
    return np.asarray(mixed, dtype=np.float64)


def _shape(past: Past, origins: Ints, scale: float) -> Floats:
    """Features by which origins are compared, (n, 104); the factors weigh each part in the distance."""
    level = past.l168[origins - 1][:, None]
    back = origins[:, None] - 1 - np.arange(2 * DAY)
    days = past.x[back] - level
    profile = past.m7[back[:, :DAY]] - level
    levels = np.stack([past.l24[origins - 1], past.l72[origins - 1], past.l336[origins - 1]], axis=1) - level
    week_ago = past.x[origins[:, None] - WEEK + np.arange(DAY)] - level
    now = [past.anomaly[origins - 1], past.mean_anomaly(3)[origins - 1], past.mean_anomaly(6)[origins - 1]]
    parts = [
        0.6 * days[:, :DAY],
        0.3 * days[:, DAY:],
        0.6 * profile,
        3.0 * levels,
        0.3 * week_ago,
        np.stack(now, axis=1),
    ]
    turn = 2 * np.pi * (origins // DAY % 7) / 7
    weekday = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.concatenate([np.concatenate(parts, axis=1) / scale, weekday], axis=1)


def _kernel(a: Floats, b: Floats) -> Floats:
    product = a @ b.T
    distance2 = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1)[None, :] - 2.0 * product
    return np.asarray(np.exp(-_NARROW * distance2) + _LINEAR * product, dtype=np.float64)
