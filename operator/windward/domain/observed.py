"""A GreenJob with its runs as observed in one snapshot, and the actions that reconcile may return for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from windward.domain.durations import Durations, stated
from windward.domain.run import Run
from windward_api.greenjob import GreenJob


@dataclass(frozen=True)
class Observed:
    """A GreenJob and its runs, ordered by attempt. Derived values are cached.

    Attributes:
        demand: units of each resource that one run holds, as its engine computes them; None: as the spec requests.
        released: its object may start to run without Windward, and nothing of it runs yet.
        resolved: its durations, with what the ledger knows of its profile; None: as the job itself states them.
    """

    job: GreenJob
    runs: tuple[Run, ...] = ()
    demand: Mapping[str, float] | None = None
    released: bool = False
    resolved: Durations | None = None

    @cached_property
    def durations(self) -> Durations:
        """How long its whole work is taken to run: the one place that says it."""
        return self.resolved or stated(self.job)

    @cached_property
    def key(self) -> str:
        return self.job.key

    @cached_property
    def uid(self) -> str:
        return self.job.metadata.uid

    @cached_property
    def finish_by(self) -> datetime:
        return self.job.finish_by()

    @cached_property
    def live(self) -> tuple[Run, ...]:
        return tuple(r for r in self.runs if r.phase.live)

    @cached_property
    def attempt(self) -> int:
        """The highest attempt in the status or among the runs: a restored older database never lowers it."""
        return max([self.job.status.attempt, *(r.attempt for r in self.runs)])

    @property
    def next_attempt(self) -> int:
        """Number of the run to create: the one in the status if it has no child yet, else one more than the highest."""
        latest = max((r.attempt for r in self.runs), default=0)
        return self.job.status.attempt if self.job.status.attempt > latest else latest + 1

    @property
    def run_now(self) -> bool:
        return self.job.metadata.annotations.get("windward.dev/run-now") == "true"

    @cached_property
    def ended(self) -> bool:
        """Whether the job reached its end: Complete or Failed is True."""
        return any(c.type in ("Complete", "Failed") and c.status == "True" for c in self.job.status.conditions)


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Create the run of `attempt` in `region` at a power level: its number is written to the status, then its child."""

    attempt: int
    region: str
    why: str
    level: str = ""


@dataclass(frozen=True, slots=True)
class PauseRun:
    """Request that a run writes its checkpoint and ends."""

    name: str
    reason: str  # PausedCarbonPeak, PausedByUser
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep a workload that somebody else made from starting before its window."""

    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Mark the job as ended; its receipt is written with it."""

    succeeded: bool
    reason: str  # Succeeded, BackoffLimitExceeded, InvalidSpec
    message: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the job, as its time to live after its end is over."""

    why: str


Action = CreateRun | PauseRun | Hold | Finish | DeleteJob


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes event: one sentence about a transition."""

    reason: str
    message: str
    warning: bool = False
