"""A placed fleet an hour later, for the replanning case of the bench and the properties of replans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.planning.arrays.instance import Instance, Ints, runs
from windward.planning.arrays.placement import Placement


def later(fleet: Instance, lane: Ints, start: Ints, slot: int) -> tuple[Instance, Ints, Placement]:
    """What is left of a placed fleet when `slot` comes: the jobs that start then or after, on what the others leave.

    Returns:
        The instance (slots are counted as before), the jobs that are left, and where they were placed.
    """
    jobs = np.flatnonzero((lane >= 0) & (start >= slot))
    gone = lane.copy()
    gone[jobs] = -1
    part = fleet.of(jobs, np.maximum(0.0, fleet.cap - fleet.use(gone, start)))
    cut = np.minimum(np.maximum(0, slot - part.first), part.width - 1)
    alive = part.first + part.width > slot
    alive_cells = np.repeat(alive, part.width) & (runs(part.first, part.width) >= slot)
    width = np.where(alive, part.width - cut, 0)
    lanes = np.concatenate([[0], np.cumsum(np.add.reduceat(alive.astype(np.int64), part.lanes[:-1]))])
    rest = replace(
        part,
        lanes=lanes.astype(np.int64),
        region=part.region[alive],
        first=(part.first + cut)[alive],
        width=width[alive],
        slots=part.slots[alive],
        units=np.ascontiguousarray(part.units[alive]),
        cells=np.concatenate([[0], np.cumsum(width[alive])]).astype(np.int64),
        grams=part.grams[alive_cells],
    )
    index = np.cumsum(alive) - 1  # lanes of `part` -> lanes of `rest`
    old = part.lanes[:-1] + lane[jobs] - fleet.lanes[:-1][jobs]
    at = Placement(index[old].astype(np.int64), start[jobs].copy(), np.zeros(0))
    at.used = rest.use(at.lane, at.start)
    return rest, jobs, at
