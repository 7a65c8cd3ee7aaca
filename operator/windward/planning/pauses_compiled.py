"""The dynamic programme of `pauses`, compiled by numba: the same steps in the same order, equal bytes.

Nothing imports this module but `pauses`, and only in processes that plan many times (`prefer_compiled`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit  # type: ignore[import-untyped,unused-ignore]

from windward.planning.arrays.instance import SAME_COST


def _sweep_py(
    run_g: Any,
    start_g: Any,
    late_g: Any,
    pause_g: float,
    n: int,
    overhead: int,
    fresh: bool,
    running: int,
    prefix: Any,
    barred: Any,
    paused_from: Any,
    resumed: Any,
) -> float:
    regions, slots = run_g.shape
    idles = np.full((overhead + 1, n + 1), np.inf)
    idle = np.full(n + 1, np.inf)
    run = np.full((regions, n + 1), np.inf)
    if running < 0:
        idle[0] = 0.0
    else:
        run[running, 0] = 0.0
    for t in range(slots + 1):
        if t > 0:
            for r in range(regions):
                for k in range(n, 0, -1):
                    run[r, k] = run[r, k - 1] + run_g[r, t - 1]
                run[r, 0] = np.inf
        for k in range(n + 1):
            r = 0
            for other in range(1, regions):
                if run[other, k] < run[r, k]:
                    r = other
            best = run[r, k] + (late_g[t] if k == n else pause_g)
            if best < idle[k] * (1 - SAME_COST):
                idle[k] = best
                paused_from[t, k] = r
        now = t % (overhead + 1)
        idles[now] = idle
        began = t - overhead
        if began >= 0:
            since = began % (overhead + 1)
            for r in range(regions):
                if barred[r, t] > barred[r, began]:
                    continue
                add = prefix[r, t] - prefix[r, began] + start_g[r, began]
                for k in range(1 if fresh else 0, n + 1):
                    cost = idles[since, k] + add
                    if cost < run[r, k] * (1 - SAME_COST):
                        run[r, k] = cost
                        resumed[r, t, k] = True
        if fresh:
            for r in range(regions):
                first = idles[now, 0] + start_g[r, t]
                if first < run[r, 0]:
                    run[r, 0] = first
                    resumed[r, t, 0] = True
    return float(idle[n])


sweep = njit(cache=True)(_sweep_py)
