"""Similar days of the past: kernel regression from the shape of the last two days to the coming week.

The mean of a Gaussian process (Rasmussen and Williams 2006, equation 2.25) with a kernel that is partly linear and
partly local: days that began alike go on alike. Learnt from origins at the same hour of day only, so that the shape of
the day needs no formula; what is learnt is the distance from a mixture of profiles.
"""

from __future__ import annotations

import numpy as np

from windward.domain.series import Floats
from windward.forecasting.past import DAY, FIRST_ORIGIN, LEADS, WEEK, Ints, Past

_NOISE = 3.0
_LINEAR = 0.02
_NARROW = 0.003
_MOST_DAYS = 730  # the solve is cubic in the days: two years take some 50 ms


def paths(past: Past, origins: Ints, known_until: int) -> Floats:
    """Forecasts on the log scale from each origin, (n, LEADS), learnt from hours before `known_until` alone.

    Args:
        origins: (n,) indices of first unknown hours, >= FIRST_ORIGIN.
        known_until: no target at or beyond this index is learnt from; at most the smallest origin.
    """
    out = _base(past, origins)
    for hour in sorted(set((origins % DAY).tolist())):
        chosen = origins % DAY == hour
        seen = np.arange(FIRST_ORIGIN + (hour - FIRST_ORIGIN) % DAY, known_until - LEADS + 1, DAY)[-_MOST_DAYS:]
        if len(seen) == 0:
            continue
        # The scale is that of the learnt part, not of all that `past` may hold.
        scale = max(float(np.nanstd(past.anomaly[:known_until])), 1e-9)
        there, here = _shape(past, seen, scale), _shape(past, origins[chosen], scale)
        missed = past.x[seen[:, None] + np.arange(LEADS)] - _base(past, seen)
        weights = np.linalg.solve(_kernel(there, there) + _NOISE * np.eye(len(seen)), missed)
        out[chosen] += _kernel(here, there) @ weights
    return out


def _base(past: Past, origins: Ints) -> Floats:
    """0.4 of the week's profile, 0.4 of the month's, 0.2 of the level, and 0.4 of what the day of the week adds."""
    target = origins[:, None] + np.arange(LEADS)
    day = target - DAY * (np.arange(LEADS) // DAY + 1)
    level = past.l168[origins - 1][:, None]
    mixed = 0.4 * past.m7[day] + 0.4 * past.m28[day] + 0.2 * level + 0.4 * past.weekday[target - WEEK]
    return np.asarray(mixed, dtype=np.float64)


def _shape(past: Past, origins: Ints, scale: float) -> Floats:
    """What makes two origins alike, (n, 104); the factors say how much each part counts in a distance."""
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
