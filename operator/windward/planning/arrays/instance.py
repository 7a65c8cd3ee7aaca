"""A fleet as arrays: every job has lanes, every lane has starts, every start has its grams.

A lane is one way to run one job without a break: a region, and with it a length, units held and the grams of each
start. Several lanes of one job may lie in the same region, with other lengths and units: power levels, replicas.
Whatever a start costs beside its energy (a move, a wait, a change of plan) is already in its grams, so that everything
below compares one number. Regions and slots are indices; the caller knows their names and times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SAME_COST = 1e-12  # relative difference below which two ways cost the same: rounding must not add pauses
EVEN = 1e-9  # units: what sums of fractions may exceed a capacity by, by rounding alone
ROUNDING = 1e-9  # share of grams by which sums in another order may differ
EJECT = 0.5  # share of the tries of search in which others make way for one job
INVITE = 0.3  # share of those in which others are asked to where that job leaves
FEW_OUT, MANY_OUT = 12, 48  # jobs taken out at once: as a rule; where others are invited, or a job has no place
DRAWN = 7  # of a try's draws, those with a meaning of their own; the rest choose jobs and their order
DRAWS = DRAWN + 2 * FEW_OUT  # numbers drawn for a try
_BATCH = 1 << 16  # starts weighed at once: arrays of 400,000 are new memory each time, and take three times as long


def runs(first: Ints, count: Ints) -> Ints:
    """The numbers first[i], first[i] + 1, .. (count[i] of them) for each i, one after another."""
    ends = np.cumsum(count)
    return np.asarray(np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - (ends - count), count))


class Near(NamedTuple):
    """Jobs in the order in which their windows open: near in this list is near in time.

    Attributes:
        order, rank: (N,) jobs, and each job's place among them.
        low, high: (T + 1,) who may run in slots a to b stands in order[low[a] : high[b]].
    """

    order: Ints
    rank: Ints
    low: Ints
    high: Ints


@dataclass(frozen=True, eq=False)
class Instance:
    """Jobs, lanes and capacities; N jobs, L lanes, K starts, Q resources, R regions, T slots.

    Attributes:
        lanes: (N + 1,) lanes lanes[j] to lanes[j + 1] belong to job j; every job has at least one.
        region: (L,) index of the region.
        first: (L,) earliest slot to start in.
        width: (L,) number of starts, at least 1.
        slots: (L,) slots held from the start on; first + width - 1 + slots <= T.
        units: (L, Q) units held in each of them.
        cells: (L + 1,) starts of lane i have grams[cells[i] : cells[i + 1]].
        grams: (K,) what each start costs.
        cap: (Q, R, T) units there are; infinite where there is no bound.
    """

    lanes: Ints
    region: Ints
    first: Ints
    width: Ints
    slots: Ints
    units: Floats
    cells: Ints
    grams: Floats
    cap: Floats

    @property
    def size(self) -> int:
        """Number of jobs."""
        return len(self.lanes) - 1

    @cached_property
    def starts(self) -> Ints:
        """(N + 1,) the first cell of each job."""
        return self.cells[self.lanes]

    @cached_property
    def least(self) -> Floats:
        """(N,) grams of each job's cheapest start."""
        return np.asarray(np.minimum.reduceat(self.grams, self.starts[:-1]))

    @cached_property
    def lane_least(self) -> Floats:
        """(L,) grams of each lane's cheapest start."""
        return np.asarray(np.minimum.reduceat(self.grams, self.cells[:-1]))

    @cached_property
    def lane_of_cell(self) -> Ints:
        """(K,)"""
        return np.repeat(np.arange(len(self.region)), self.width)

    @cached_property
    def near(self) -> Near:
        """See `Near`."""
        opens = np.minimum.reduceat(self.first, self.lanes[:-1])
        closes = np.maximum.reduceat(self.first + self.width - 1 + self.slots, self.lanes[:-1])
        order, rank = np.lexsort((np.arange(self.size), opens)), np.empty(self.size, np.int64)
        rank[order] = np.arange(self.size)
        slots = np.arange(self.cap.shape[2] + 1)
        low = np.searchsorted(np.maximum.accumulate(closes[order]), slots, side="right")
        high = np.maximum(np.searchsorted(opens[order], slots, side="left"), low)
        return Near(order.astype(np.int64), rank, low.astype(np.int64), high.astype(np.int64))

    @cached_property
    def begins(self) -> Ints:
        """(K,) where each start lies in a (R, T + 1) array of prefix sums, flattened."""
        return runs(self.region * (self.cap.shape[2] + 1) + self.first, self.width)

    @cached_property
    def ends(self) -> Ints:
        """(K,) where each start's slots end there."""
        return self.begins + self.slots[self.lane_of_cell]

    @cached_property
    def batches(self) -> list[tuple[int, int]]:
        """Jobs a to b - 1, again and again, whose starts together fit the processor's cache."""
        inner = np.searchsorted(self.starts, np.arange(_BATCH, self.starts[-1], _BATCH))
        ends = np.unique([0, *inner, self.size]).tolist()
        return list(pairwise(ends))

    @cached_property
    def units_of_cell(self) -> Floats:
        """(Q, K)"""
        return np.repeat(self.units.T, self.width, axis=1)

    @cached_property
    def held(self) -> Floats:
        """(N, Q) unit-slots that a job holds, in its first lane."""
        lane = self.lanes[:-1]
        return np.asarray(self.units[lane] * self.slots[lane, None])

    @cached_property
    def unit_g(self) -> Floats:
        """(Q,) typical grams of one unit in one slot: the scale of prices and penalties."""
        mean_g = np.add.reduceat(self.grams, self.starts[:-1]) / np.diff(self.starts)
        held = self.held.sum(axis=0)
        return np.where(held > 0, abs(float(mean_g.sum())) / np.maximum(held, 1e-300), 0.0)

    @cached_property
    def alike(self) -> list[bool]:
        """(N,) whether all lanes of a job have one shape (first, width, slots, units), in ascending regions."""
        same = np.ones(len(self.region), bool)
        same[1:] = self.region[1:] > self.region[:-1]
        for column in (self.first, self.width, self.slots, *self.units.T):
            same[1:] &= column[1:] == column[:-1]
        same[self.lanes[:-1]] = True
        return [bool(x) for x in np.minimum.reduceat(same, self.lanes[:-1])]

    @cached_property
    def plain(self) -> tuple[list[int], list[int], list[int], list[int], list[int], list[int]]:
        """lanes, region, first, width, slots, cells as lists: what loops in Python read fastest."""
        columns = (self.lanes, self.region, self.first, self.width, self.slots, self.cells)
        lanes, region, first, width, slots, cells = (c.tolist() for c in columns)
        return lanes, region, first, width, slots, cells

    @cached_property
    def roof(self) -> Floats:
        """(Q, R, T) capacity with what rounding may add."""
        return np.asarray(self.cap + EVEN)

    @cached_property
    def cap_by_slot(self) -> Floats:
        """(Q, T, R)"""
        return by_slot(self.cap)

    @cached_property
    def roof_by_slot(self) -> Floats:
        """(Q, T, R)"""
        return by_slot(self.roof)

    @cached_property
    def needs(self) -> list[list[tuple[int, float]]]:
        """(L,) the resources that a lane holds anything of, with its units."""
        return [[(q, u) for q, u in enumerate(row) if u > 0.0] for row in self.units.tolist()]

    def of(self, jobs: Ints, cap: Floats) -> Instance:
        """Some of the jobs, with other capacities."""
        count = np.diff(self.lanes)[jobs]
        lane = runs(self.lanes[:-1][jobs], count)
        width = self.width[lane]
        return Instance(
            lanes=np.concatenate([[0], np.cumsum(count)]),
            region=self.region[lane],
            first=self.first[lane],
            width=width,
            slots=self.slots[lane],
            units=np.ascontiguousarray(self.units[lane]),
            cells=np.concatenate([[0], np.cumsum(width)]),
            grams=self.grams[runs(self.cells[:-1][lane], width)],
            cap=cap,
        )

    def use(self, lane: Ints, start: Ints) -> Floats:
        """(Q, R, T) units held by the jobs that have a lane (>= 0)."""
        placed = lane >= 0
        lane, start = lane[placed], start[placed]
        resources, regions, slots = self.cap.shape
        out = np.empty(self.cap.shape)
        at = self.region[lane] * (slots + 1) + start
        for q in range(resources):
            units = self.units[lane, q]
            size = regions * (slots + 1)
            change = np.bincount(at, units, size) - np.bincount(at + self.slots[lane], units, size)
            out[q] = np.cumsum(change.reshape(regions, slots + 1), axis=1)[:, :-1]
        return out

    def grams_of(self, lane: Ints, start: Ints) -> Floats:
        """(N,) grams of chosen starts; nan for jobs without one."""
        out = np.full(self.size, np.nan)
        placed = np.flatnonzero(lane >= 0)
        at = lane[placed]
        out[placed] = self.grams[self.cells[at] + start[placed] - self.first[at]]
        return out


def by_slot(of_regions: Floats) -> Floats:
    """(Q, R, T) to (Q, T, R), or back: a copy."""
    return np.ascontiguousarray(of_regions.transpose(0, 2, 1))


def prefix(rows: Floats | Bools) -> Floats:
    """(.., T + 1) sums of the slots before each."""
    out = np.zeros((*rows.shape[:-1], rows.shape[-1] + 1))
    np.cumsum(rows, axis=-1, out=out[..., 1:])
    return out


def scattered(count: int, want: int, seed: int) -> Ints:
    """`want` of `count` jobs, drawn without return, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:want]).astype(np.int64)
