"""What the planner plans: jobs and regions as plain numbers, free of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windward_api.greenjob import Fallback


@dataclass(frozen=True, slots=True)
class Region:
    """A place to run.

    Attributes:
        zone: grid zone that feeds it.
        pue: site energy per IT energy.
        capacity: units of each resource that runs may hold together; a resource that is not listed has no bound.
    """

    name: str
    zone: str
    pue: float = 1.0
    capacity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """One job as the planner sees it: what is left to do, and where and when it may be done.

    Attributes:
        key: namespace/name, the last tie-break.
        earliest: it may not run before.
        finish_by: it must be finished by then.
        remaining: running time still needed, without resume overhead.
        duration: running time of the whole job, for the run-now baseline.
        submitted: when running at once would have started.
        power_w: draw while it runs, at the meter.
        demand: units of each resource that it holds while it runs.
        interruptible: it may be paused at any time.
        overhead: running time that each resume costs.
        started: at least one run did some of the work, so that the next start is a resume.
        running_in: region of the run that is going on now; going on there costs no overhead.
        margin: share of the duration kept in reserve before the finish-by time.
        asap: the user asked for an immediate start.
        spent_g: grams that its runs emitted so far.
    """

    key: str
    earliest: datetime
    finish_by: datetime
    remaining: timedelta
    duration: timedelta
    submitted: datetime
    power_w: float
    regions: tuple[str, ...]
    home: str
    demand: Mapping[str, float] = field(default_factory=dict)
    interruptible: bool = False
    overhead: timedelta = timedelta(0)
    started: bool = False
    running_in: str | None = None
    min_saving: float = 0.0
    fallback: Fallback = Fallback.RUN_NOW
    margin: float = 0.05
    asap: bool = False
    spent_g: float = 0.0

    @property
    def reserve(self) -> timedelta:
        """Time kept free before the finish-by for what no plan foresees: a slower node, one more resume."""
        return max(self.duration * self.margin, self.overhead if self.interruptible else timedelta(0))

    def latest_start(self) -> datetime:
        """When it must run without further pause to finish in time, whatever the carbon.

        Absolute: it follows from the finish-by time alone and never slides with replanning.
        """
        resume = self.overhead if self.started and self.running_in is None else timedelta(0)
        return self.finish_by - self.reserve - self.remaining - resume


@dataclass(frozen=True, slots=True)
class Fleet:
    """All work to place, and all places."""

    work: tuple[Work, ...]
    regions: Mapping[str, Region]
