"""Running slower or on fewer replicas: measured levels of power, and how to fill hours with them.

A level is a speed and the draw that goes with it, from a measured curve; host power belongs in it. Energy per unit of
work along the lower convex hull of (speed, draw) only rises, so each hour takes the hull's steps in order of grams per
unit of work, the cheapest of all hours first, until the work is done. That is exact if two levels may share an hour
(docs/planning.md 3); `whole` finds one level an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from windward.domain.fleet import Level
from windward.domain.series import Floats


def hull(levels: Sequence[Level]) -> tuple[Level, ...]:
    """The levels on the lower convex hull with standing still, (0, 0); slowest first."""
    points: list[Level] = []
    for new in sorted(levels, key=lambda v: (v.speed, v.power_w)):
        if points and new.speed == points[-1].speed:
            continue
        while points and _slope(points[-2] if len(points) > 1 else None, points[-1]) >= _slope(points[-1], new):
            points.pop()
        points.append(new)
    return tuple(points)


def _slope(a: Level | None, b: Level) -> float:
    speed, power = (a.speed, a.power_w) if a is not None else (0.0, 0.0)
    return (b.power_w - power) / (b.speed - speed)


@dataclass(frozen=True, slots=True)
class Filling:
    """How hours are filled.

    Attributes:
        grams: of all of it.
        level: (T,) index into the hull of the highest level in each hour, -1: idle.
        share: (T,) of the hour for which it runs there; the rest of the hour runs one level lower.
    """

    grams: float
    level: np.ndarray
    share: Floats


def fill(levels: Sequence[Level], intensity_g_per_kwh: Floats, hours: float, work_h: float) -> Filling | None:
    """The least grams for `work_h` hours of work at speed 1, levels mixed within a slot; None if it does not fit.

    Args:
        intensity_g_per_kwh: (T,) of consecutive slots, with PUE.
        hours: length of a slot.
    """
    steps = _steps(levels, intensity_g_per_kwh, hours)
    if steps is None or steps.work.sum() < work_h - 1e-9:
        return None
    return _taken(steps, len(intensity_g_per_kwh), work_h)


@dataclass(frozen=True, slots=True)
class _Steps:
    """Hull steps of all slots, cheapest work first."""

    slot: np.ndarray
    level: np.ndarray
    work: Floats
    grams: Floats


def _steps(levels: Sequence[Level], intensity: Floats, hours: float) -> _Steps | None:
    ends = hull(levels)
    if not ends:
        return None
    speed = np.diff([0.0, *(v.speed for v in ends)])
    power = np.diff([0.0, *(v.power_w for v in ends)]) / 1000.0
    rate = intensity[:, None] * (power / speed)[None, :]
    order = np.argsort(rate.ravel(), kind="stable")  # within a slot the hull's own order: its slopes rise
    slot, level = np.divmod(order, len(ends))
    return _Steps(slot, level, speed[level] * hours, (intensity[slot] * power[level]) * hours)


def _taken(steps: _Steps, slots: int, work_h: float) -> Filling:
    before = np.cumsum(steps.work) - steps.work
    share = np.clip((work_h - before) / steps.work, 0.0, 1.0)
    used = share > 1e-12
    level, part = np.full(slots, -1), np.zeros(slots)
    level[steps.slot[used]] = steps.level[used]  # later steps of a slot are higher ones
    part[steps.slot[used]] = share[used]
    return Filling(float((steps.grams * share).sum()), level, part)


def whole(levels: Sequence[Level], intensity_g_per_kwh: Floats, hours: float, work_h: float) -> Filling | None:
    """As `fill`, with one level in each slot; the slot where it saves most ends early, as the work is done by then."""
    exact = fill(levels, intensity_g_per_kwh, hours, work_h)
    if exact is None:
        return None
    ends = hull(levels)
    speed = np.array([v.speed for v in ends])
    power = np.array([v.power_w for v in ends]) / 1000.0
    split = np.flatnonzero((exact.share > 1e-12) & (exact.share < 1.0 - 1e-12) & (exact.level > 0))
    best = None
    for other in ends:  # the one split slot at each level, and what is too much cut where it is dearest
        level = exact.level.copy()
        level[split] = ends.index(other)
        best = _least(best, _trimmed(level, speed, power, intensity_g_per_kwh, hours, work_h))
    for k in range(len(ends)):  # and every single level for itself
        found = fill([ends[k]], intensity_g_per_kwh, hours, work_h)
        if found is not None:
            best = _least(best, Filling(found.grams, np.where(found.level >= 0, k, -1), found.share))
    return best


def _least(a: Filling | None, b: Filling | None) -> Filling | None:
    if a is None or b is None:
        return a or b
    return b if b.grams < a.grams else a


def _trimmed(
    level: np.ndarray, speed: Floats, power: Floats, intensity: Floats, hours: float, work_h: float
) -> Filling | None:
    """One level a slot, with the work that is too much left out of the dearest slot (or slots)."""
    runs = level >= 0
    work = np.where(runs, speed[level], 0.0) * hours
    grams = np.where(runs, power[level], 0.0) * hours * intensity
    over = float(work.sum()) - work_h
    if over < -1e-9:
        return None
    share = np.where(runs, 1.0, 0.0)
    rate = np.where(runs, grams / np.maximum(work, 1e-12), -1.0)
    for t in np.argsort(-rate, kind="stable").tolist():
        if over <= 1e-12 or not runs[t]:
            break
        cut = min(work[t], over)
        share[t] -= cut / work[t]
        over -= cut
    return Filling(float((grams * share).sum()), np.where(share > 1e-12, level, -1), share)
