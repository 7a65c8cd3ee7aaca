"""How long the whole work of a GreenJob is taken to run, and where that comes from."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from windward_api.greenjob import GreenJob
from windward_api.scalars import format_duration

ASSUMED = timedelta(hours=1)  # holds room for work of which nobody knows how long it takes
OVER = 1.01  # times its duration: a plan never holds less than a hundredth of it for what still runs
LONGER = 1.1  # times what it ran, where no past run took longer
LEAST_MORE = timedelta(minutes=1)
LONGEST = timedelta(days=9999)  # that a status can hold


class DurationSource(StrEnum):
    """Where a duration comes from."""

    DECLARED = "Declared"
    LEARNED = "Learned"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Durations:
    """The duration that a job is planned with.

    Attributes:
        expected: running time of the whole job, without interruption; learned: the median.
        p90: 90 % quantile of it; None: not known.
        profile: under which past runs are remembered; '': none.
        past: what past runs of the profile took, sorted.
        runs: how many past runs are known; after a job's end no more than their number is.
        differs: what past runs took, where the declared duration is off by more than half of it; else ''.
    """

    expected: timedelta
    p90: timedelta | None = None
    source: DurationSource = DurationSource.DECLARED
    profile: str = ""
    past: tuple[timedelta, ...] = ()
    runs: int = 0
    differs: str = ""

    @property
    def is_known(self) -> bool:
        """Whether anybody knows how long the work takes."""
        return self.source is not DurationSource.UNKNOWN

    def after(self, ran: timedelta) -> timedelta:
        """Returns the expected running time of the whole job, given that it has run for `ran` and is not done.

        It grows in steps, so that a plan stands from one to the next: to the median of the past runs that took longer
        than the step before; where none did, to 1.1 times that step; by a minute at least.
        """
        expected = self.expected
        if ran < expected * OVER:
            return expected
        while expected <= ran:
            longer = self.past[bisect_right(self.past, expected) :]
            step = longer[len(longer) // 2] if longer else expected * LONGER
            expected = max(step, expected + LEAST_MORE)
        return expected


def stated(job: GreenJob) -> Durations:
    """Returns what the job itself says: its spec, else what its status says that it was planned with."""
    spec, status = job.spec, job.status.duration
    if spec.duration is not None:
        if not job.profile:
            return Durations(spec.duration, spec.duration_p90)
        runs, differs = status.runs, status.differs
        return Durations(spec.duration, spec.duration_p90, profile=job.profile, runs=runs, differs=differs)
    if status.expected is not None and status.source in set(DurationSource):
        return Durations(status.expected, status.p90, DurationSource(status.source), status.profile, (), status.runs)
    return unknown(job)


def unknown(job: GreenJob) -> Durations:
    """Returns what stands in for a duration that nobody knows: an hour, or less where the finish-by time is nearer."""
    created = job.metadata.creation_timestamp
    left = job.spec.complete_within or (job.finish_by() - created if created is not None else ASSUMED)
    return Durations(max(min(ASSUMED, left), timedelta(seconds=1)), None, DurationSource.UNKNOWN, job.profile)


def sentence(durations: Durations, ran: timedelta) -> str:
    """Returns what a plan rests on, as a sentence: '' for work that runs as long as declared."""
    expected = durations.after(ran)
    if expected > durations.expected:
        past = bool(durations.past) and expected <= durations.past[-1]
        basis = f"past runs of profile {durations.profile} that took longer" if past else "what it ran so far"
        planned = format_duration(durations.expected) if durations.is_known else "the time assumed"
        return f"It runs longer than {planned}: {format_duration(whole(expected))} expected now, by {basis}."
    if durations.source is not DurationSource.LEARNED or durations.p90 is None:
        return ""
    return f"It takes {described(durations)}."


def described(durations: Durations) -> str:
    """Returns a duration with its source, in a few words."""
    text = format_duration(durations.expected)
    p90 = f", {format_duration(durations.p90)} in nine of ten" if durations.p90 is not None else ""
    match durations.source:
        case DurationSource.DECLARED:
            return f"{text}{p90}, declared"
        case DurationSource.LEARNED:
            runs = f"{durations.runs} past run" + ("s" if durations.runs != 1 else "")
            return f"{text}{p90}, learned from {runs} of profile {durations.profile}"
        case DurationSource.UNKNOWN:
            return f"unknown: no successful run of profile {durations.profile or '(none)'} yet, {text} assumed"


def whole(value: timedelta) -> timedelta:
    """Returns a running time in whole seconds, rounded up, as long as a status can hold."""
    return min(timedelta(seconds=math.ceil(value.total_seconds())), LONGEST)
