"""Planning anew every hour: what was decided before, and who may still come (docs/planning.md 8).

Only work that has started is committed. All else is placed again each time, on what the running work leaves, with the
prices of the plan before, a price on changing one's mind, and ghosts in the place of the arrivals to come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from windward.planning.fleet.instance import Floats, Instance, Ints, runs
from windward.planning.fleet.placement import Placement


def shifted(mu: Floats, slots: int) -> Floats:
    """Prices of an earlier plan as they stand `slots` later; the new end has none."""
    out = np.zeros(mu.shape)
    if slots < mu.shape[2]:
        out[:, :, : mu.shape[2] - slots] = mu[:, :, slots:]
    return out


def with_change_price(fleet: Instance, region: Ints, start: Ints, price_g: Floats) -> Instance:
    """The fleet, where every start but a job's planned one costs more.

    Args:
        region, start: (N,) planned before; start -1: nothing was.
        price_g: (N,) what another start must save; it stands in the objective, never in reported grams.
    """
    lanes_of = np.diff(fleet.lanes)
    want_region, want_start = np.repeat(region, lanes_of), np.repeat(start, lanes_of)
    price = np.repeat(np.where(start >= 0, price_g, 0.0), lanes_of)
    grams = fleet.grams + np.repeat(price, fleet.width)
    at = want_start - fleet.first
    kept = np.flatnonzero((want_start >= 0) & (fleet.region == want_region) & (at >= 0) & (at < fleet.width))
    cell = fleet.cells[kept] + at[kept]
    grams[cell] = fleet.grams[cell]
    return replace(fleet, grams=grams)


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


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Work as it came, kept to stand for work to come; one entry a job.

    Attributes:
        slot: (N,) of arrival.
        slack, slots: (N,) slots.
        units, energy_kwh: (N,) units held, energy in one slot.
        allowed: (N, R).
    """

    slot: Ints
    slack: Ints
    slots: Ints
    units: Floats
    energy_kwh: Floats
    allowed: np.ndarray


def ghosts(seen: Arrivals, now: int, horizon: int, *, days: int, share: float, day: int = 24) -> Arrivals:
    """Who may come in the next day, told by who came in the last `days`.

    Each arrival of those days comes again at its hour of the coming day, with `share` of its units over the number of
    days that are known: a smooth mean of several days in place of one of them, which would be as accidental as any.

    Returns:
        Arrivals in slots counted from now, inside the horizon; none while less than half a day is known.
    """
    first = max(now - days * day, int(seen.slot[0]) if len(seen.slot) else now)
    if now - first < day // 2:
        return _some(seen, np.zeros(len(seen.slot), bool))
    recent = (seen.slot >= first) & (seen.slot < now)
    ahead = (seen.slot - now) % day
    known_days = max(1.0, (now - first) / day)
    fits = recent & (ahead + seen.slots <= horizon)
    back = _some(seen, fits)
    begin = ahead[fits]
    units = back.units * share / known_days
    energy = back.energy_kwh * share / known_days
    slack = np.minimum(back.slack, horizon - back.slots - begin)
    return replace(back, slot=begin, slack=slack, units=units, energy_kwh=energy)


def _some(seen: Arrivals, keep: np.ndarray) -> Arrivals:
    return Arrivals(
        seen.slot[keep], seen.slack[keep], seen.slots[keep], seen.units[keep], seen.energy_kwh[keep],
        seen.allowed[keep],
    )  # fmt: skip
