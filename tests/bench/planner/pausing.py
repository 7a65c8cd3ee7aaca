"""Work that may pause, planned anew every hour on forecasts as they were issued, against one who knew everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from bench.planner.fleets import trace
from bench.planner.online import DAYS, HOLD_OUT, HORIZON, View, World, perfect
from bench.planner.single import T0, series, work

from windward.domain.fleet import Region, Work
from windward.domain.series import Series
from windward.planning.occupancy import Occupancy
from windward.planning.pauses import best_pauses
from windward.planning.windows import Candidate, place

SLACK_H = 24
GRID_S = 900
_WORTH = 0.01  # of a job's grams, as in `plan`: what a pause must save beside its resume
_HERE = Region("a", "a")
_FREE = Occupancy({"a": _HERE})


@dataclass(frozen=True)
class Arrival:
    """A job of a kilowatt: its zone, the hour of the world at which it comes, and its hours of running."""

    zone: int
    hour: int
    length_h: float


def arrivals(data: Path, count: int, seed: int, hours: int) -> list[Arrival]:
    """Jobs of 1.5 to 24 h of the trace, spread over the hold-out fortnights that the world's `hours` hold."""
    dice = np.random.default_rng([seed, 10])
    _, _, duration, _ = trace(data)
    lengths = dice.choice(duration[(duration >= 5400) & (duration <= 86400)], count)
    days = [d for d in HOLD_OUT if d * 24 + 16 * 24 <= hours]
    begin = dice.choice(days, count) * 24 + dice.integers(0, DAYS * 24, count)
    zones = dice.integers(0, 3, count)
    return [
        Arrival(int(z), int(b), float(np.ceil(n / GRID_S)) / 4) for z, b, n in zip(zones, begin, lengths, strict=True)
    ]


def online_g(w: World, a: Arrival, view: View, overhead_h: float) -> float:
    """Grams of a job whose plan is made anew at each full hour; only the hour that passes is carried out."""
    job = work(a.length_h, interruptible=True, overhead=timedelta(hours=overhead_h))
    end_s = (a.hour + a.length_h + SLACK_H) * 3600.0
    known = series("a", w.actual[a.zone])
    total = 0.0
    for hour in range(a.hour, a.hour + HORIZON):
        belief = series("a", view(w, hour, HORIZON)[a.zone], hour)
        now_s = hour * 3600.0
        made = _planned(job, belief, now_s, end_s)
        job, ran = _passed(job, made, now_s, now_s + 3600.0, overhead_h * 3600.0)
        total += sum(float(np.diff(known.integral(np.array(s) + T0.timestamp()))[0]) for s in ran)
        if job.remaining <= timedelta(0):
            return total
    raise AssertionError("a job never ended")


def _planned(job: Work, belief: Series, now_s: float, end_s: float) -> list[tuple[float, float]]:
    """Spans of running, in seconds of the world; at once and to the end where pauses do not fit any more."""
    zero, mean = T0.timestamp(), float(belief.intensity_g_per_kwh.mean())
    found: Candidate | None = best_pauses(
        [place(job, _HERE, belief)], job, zero + now_s, zero + end_s, _FREE,
        pause_g=_WORTH * mean * job.duration.total_seconds() / 3600.0, coarsest=GRID_S,
    )  # fmt: skip
    if found is None:
        return [(now_s, now_s + HORIZON * 3600.0)]
    return [(a - zero, b - zero) for _, a, b in found.segments]


def _passed(
    job: Work, spans: list[tuple[float, float]], now_s: float, until_s: float, overhead_s: float
) -> tuple[Work, list[tuple[float, float]]]:
    """The job after an hour, and when it ran. A resume never crosses the hour: it is one slot of the grid at most."""
    left, started, running = job.remaining.total_seconds(), job.started, job.running_in is not None
    ran = []
    on = False
    for a, b in spans:
        a, b = max(a, now_s), min(b, until_s)
        if b <= a or left <= 0:
            continue
        resume = overhead_s if started and not (running and a == now_s) else 0.0
        b = min(b, a + resume + left)
        ran.append((a, b))
        left -= b - a - resume
        started, on = True, b == until_s
    return replace(
        job, remaining=timedelta(seconds=left), started=started, running_in="a" if on and left > 0 else None
    ), ran


def savings(w: World, jobs: list[Arrival], view: View, overhead_h: float) -> tuple[float, float]:
    """Per cent saved against running at once: planned anew on issued forecasts, and by one who knew everything."""
    now = online = best = 0.0
    for a in jobs:
        known = series("a", perfect(w, a.hour, HORIZON)[a.zone], a.hour)
        zero, start = T0.timestamp(), a.hour * 3600.0
        job = work(a.length_h, interruptible=True, overhead=timedelta(hours=overhead_h))
        at = place(job, _HERE, known)
        now += at.grams(zero + start, zero + start + a.length_h * 3600.0)
        end = zero + start + (a.length_h + SLACK_H) * 3600.0
        found = best_pauses([at], job, zero + start, end, _FREE, coarsest=GRID_S)
        assert found is not None
        best += found.grams
        online += online_g(w, a, view, overhead_h)
    return 100 * (1 - online / now), 100 * (1 - best / now)
