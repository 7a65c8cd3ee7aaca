"""Learned durations: from what past runs of a profile took to the duration that its next job is planned with.

Quantiles are order statistics of the last `NEWEST` successful jobs: of n values the expected duration is number
n // 2 + 1 (of an even number the upper of both in the middle), the 90 % quantile is the least value number k with
k / (n + 1) >= 0.9. Of fewer than nine values none is: it is the longest, times 1 + 1 / (2 n). One past run is enough.
Both are rounded up to steps that people write, at most a twelfth of them, so that plans do not change for seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from windward.domain.durations import LONGEST, Durations, DurationSource, unknown
from windward.domain.observed import Observed
from windward.domain.run import Phase, Run
from windward.lifecycle.work import speed_of
from windward_api.contract import EXIT_PAUSED
from windward_api.greenjob import GreenJob, InterruptionPolicy
from windward_api.scalars import format_duration

NEWEST = 50  # past runs that are looked at: what a profile does changes with its data and its code
LEVEL = 0.9
FACTOR = 1.5  # between a declared duration and the median of past runs, from which on it is told
# What lasts less than the first is rounded up to the second. Each step is a multiple of the ones before it.
STEPS = (
    (timedelta(minutes=2), timedelta(seconds=1)),
    (timedelta(minutes=20), timedelta(seconds=10)),
    (timedelta(hours=2), timedelta(minutes=1)),
    (timedelta(hours=12), timedelta(minutes=5)),
    (timedelta.max, timedelta(minutes=15)),
)


class Learned(NamedTuple):
    """Quantiles of past running times, and how many values they rest on."""

    p50: timedelta
    p90: timedelta
    runs: int


def learned(past: Iterable[timedelta]) -> Learned | None:
    """Returns the quantiles of past running times; None where there are none. The order of `past` does not matter."""
    values = sorted(past)
    n = len(values)
    if n == 0:
        return None
    k = math.ceil(LEVEL * (n + 1) - 1e-9)
    p90 = values[k - 1] if k <= n else values[-1] * (1 + 1 / (2 * n))
    return Learned(rounded_up(values[n // 2]), rounded_up(p90), n)


def rounded_up(value: timedelta) -> timedelta:
    """Returns a running time rounded up to its step in `STEPS`; longer ones never become the shorter ones."""
    step = next(step for below, step in STEPS if value <= below)
    return min(max(step, -(-value // step) * step), LONGEST)


def resolved(job: GreenJob, past: Iterable[timedelta]) -> Durations:
    """Returns the durations that a job is planned with.

    Args:
        past: what the newest successful jobs of its profile took.
    """
    values = tuple(sorted(past))
    known, declared = learned(values), job.spec.duration
    if declared is not None:
        differs = _difference(declared, known, job.profile) if known is not None else ""
        return Durations(
            declared, job.spec.duration_p90, profile=job.profile, past=values, runs=len(values), differs=differs
        )
    if known is None:
        return unknown(job)
    return Durations(known.p50, known.p90, DurationSource.LEARNED, job.profile, values, known.runs)


def _difference(declared: timedelta, known: Learned, profile: str) -> str:
    if known.p50 / FACTOR <= declared <= known.p50 * FACTOR:
        return ""
    runs = f"the last {known.runs} runs" if known.runs > 1 else "the last run"
    return (
        f"spec.duration says {format_duration(declared)}, {runs} of profile {profile} took "
        f"{format_duration(known.p50)} (median): correct it, or remove it to have it learned"
    )


def running_time(observed: Observed) -> timedelta | None:
    """Returns how long the work of a successful job ran as declared, without resumes; None where that is not known.

    What a failed or lost run did may have been kept or not where checkpoints are written, so such jobs say nothing;
    where none are, the run that succeeded did all of it. Nor does a warped clock say anything of another run.
    """
    started = [r for r in observed.runs if r.started_at is not None]
    done = next((r for r in started if r.phase is Phase.SUCCEEDED and r.finished_at is not None), None)
    if done is None or any(r.time_scale != 1.0 for r in started):
        return None
    if observed.job.spec.interruption.policy is InterruptionPolicy.NEVER:
        return _worked(observed, done, resumed=False)
    before = [r for r in started if r.attempt < done.attempt]
    if any(r.phase is not Phase.PAUSED or r.exit_code != EXIT_PAUSED or r.finished_at is None for r in before):
        return None
    spans = [_worked(observed, r, resumed=i > 0) for i, r in enumerate([*before, done])]
    return sum(spans, timedelta(0))


def _worked(observed: Observed, run: Run, *, resumed: bool) -> timedelta:
    assert run.finished_at is not None
    span = run.ran_for(run.finished_at) - (observed.job.overhead() if resumed else timedelta(0))
    return max(timedelta(seconds=1), span) * speed_of(observed.job.spec, run.level)
