"""One GreenJob as it is seen at one moment, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from windward.domain.run import Run
from windward_api.greenjob import GreenJob


@dataclass(frozen=True)
class Observed:
    """A GreenJob and its runs, ordered by attempt. What follows from them is asked for all the time, and kept.

    Attributes:
        demand: what one run holds of a region, as its engine says; None: what its spec asks.
    """

    job: GreenJob
    runs: tuple[Run, ...] = ()
    demand: Mapping[str, float] | None = None

    @cached_property
    def key(self) -> str:
        return f"{self.job.metadata.namespace}/{self.job.metadata.name}"

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
        """The highest attempt anyone knows of: an older truth (a restored database) never lowers it."""
        return max([self.job.status.attempt, *(r.attempt for r in self.runs)])

    @property
    def next_attempt(self) -> int:
        """Number of the run to create: the one claimed whose child never came to be, else one more."""
        made = max((r.attempt for r in self.runs), default=0)
        return self.job.status.attempt if self.job.status.attempt > made else made + 1

    @property
    def run_now(self) -> bool:
        return self.job.metadata.annotations.get("windward.dev/run-now") == "true"

    @cached_property
    def ended(self) -> bool:
        """Whether the job reached its end: Complete or Failed is True."""
        return any(c.type in ("Complete", "Failed") and c.status == "True" for c in self.job.status.conditions)


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Start attempt `attempt` in `region`, at a power level: first the number into the status, then the child."""

    attempt: int
    region: str
    why: str
    level: str = ""


@dataclass(frozen=True, slots=True)
class PauseRun:
    """Tell a run to write its checkpoint and end."""

    name: str
    reason: str  # PausedCarbonPeak, PausedByUser
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The job reached its end; with it goes the receipt."""

    succeeded: bool
    reason: str  # Succeeded, BackoffLimitExceeded, InvalidSpec
    message: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Its time to live after the end is over."""

    why: str


Action = CreateRun | PauseRun | Finish | DeleteJob


@dataclass(frozen=True, slots=True)
class Event:
    """One sentence for people about a transition that happened."""

    reason: str
    message: str
    warning: bool = False
