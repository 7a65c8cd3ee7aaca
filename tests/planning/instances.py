"""Instances of the placement arrays for tests and benches."""

import numpy as np

from windward.domain.series import Floats
from windward.planning.arrays.instance import Bools, Instance, Ints, runs


def windows(
    *,
    earliest: Ints,
    latest: Ints,
    slots: Ints,
    units: Floats,
    energy_kwh: Floats,
    allowed: Bools,
    intensity_g_per_kwh: Floats,
    cap: Floats,
    home: Ints | None = None,
    move_kwh: Floats | None = None,
) -> Instance:
    """The plain fleet of docs/planning.md: one lane for each allowed region, grams from prefix sums of the intensity.

    Args:
        earliest, latest, slots: (N,) slots.
        units: (N,) of the only resource.
        energy_kwh: (N,) energy in one slot.
        allowed: (N, R).
        intensity_g_per_kwh: (R, T), with PUE.
        cap: (R, T).
        home, move_kwh: (N,) data moved once, at the start's intensity, unless the job runs at home.
    """
    job, region = (x.astype(np.int64) for x in np.nonzero(allowed))
    width = (latest - earliest + 1)[job]
    lane_slots, first = slots[job], earliest[job]
    cells = np.concatenate([[0], np.cumsum(width)])
    total = np.zeros((cap.shape[0], cap.shape[1] + 1))
    np.cumsum(intensity_g_per_kwh, axis=1, out=total[:, 1:])
    begins = runs(region * total.shape[1] + first, width)
    flat = total.ravel()
    grams = flat[begins + np.repeat(lane_slots, width)] - flat[begins]
    grams *= np.repeat(energy_kwh[job], width)
    if home is not None and move_kwh is not None:
        moved = np.where(region != home[job], move_kwh[job], 0.0)
        at = runs(region * cap.shape[1] + first, width)
        grams += np.repeat(moved, width) * intensity_g_per_kwh.ravel()[at]
    return Instance(
        lanes=np.concatenate([[0], np.cumsum(allowed.sum(axis=1))]).astype(np.int64),
        region=region,
        first=first.astype(np.int64),
        width=width.astype(np.int64),
        slots=lane_slots.astype(np.int64),
        units=np.ascontiguousarray(units[job, None], dtype=np.float64),
        cells=cells.astype(np.int64),
        grams=grams,
        cap=np.ascontiguousarray(cap[None], dtype=np.float64),
    )
