"""The port through which the controller sees and changes the world.

ClusterError            something outside failed
|- Unavailable          try again later; nothing is known to have happened
|- AttemptConflict      the object changed since it was observed: look again before acting
`- Refused              the world says no, and says why; asking again will not help
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from windward.domain.observed import Event, Observed
from windward.manifests import RunFacts
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob, GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus


class ClusterError(Exception):
    """Something outside failed."""


class Unavailable(ClusterError):
    """The world does not answer; try again later."""


class AttemptConflict(ClusterError):
    """The object changed since it was observed."""


class Refused(ClusterError):
    """The world refuses what was asked, for example by an admission policy."""


@dataclass(frozen=True, slots=True)
class BadObject:
    """An object of ours that cannot be read: it harms only itself."""

    kind: str
    namespace: str
    name: str
    generation: int
    message: str
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything of ours at one moment."""

    jobs: tuple[Observed, ...] = ()
    crons: tuple[GreenCronJob, ...] = ()
    regions: tuple[GreenRegion, ...] = ()
    bad: tuple[BadObject, ...] = ()


class Cluster(Protocol):
    """A world in which GreenJobs live and runs run.

    Every method may be called again with the same arguments and then does nothing more. All block; none retries
    for longer than a few seconds; all raise only `ClusterError`s.
    """

    def snapshot(self) -> Snapshot:
        """All GreenJobs (ended ones too) with their runs, all GreenCronJobs and GreenRegions."""
        ...

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        """Write `attempt` into the job's status if nothing changed since `observed`; before the child is created.

        Raises:
            AttemptConflict: somebody wrote in between.
        """
        ...

    def create_run(self, facts: RunFacts) -> None:
        """Start a run under its deterministic name; a child of ours that exists already is success.

        Raises:
            Refused: the child may not be made; the sentence says why.
        """
        ...

    def stop_run(self, job: GreenJob, name: str) -> None:
        """Tell a run to pause: SIGTERM, its grace period, then the end. Returns at once."""
        ...

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        """Replace the job's status; afterwards emit the events."""
        ...

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        """Tell the owner of an unreadable object what is wrong with it."""
        ...

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        """Replace the status of a GreenCronJob."""
        ...

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        """Replace the status of a GreenRegion."""
        ...

    def create_job(self, body: Mapping[str, Any]) -> None:
        """Create a GreenJob; one of this name and owner that exists already is success."""
        ...

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete a GreenJob with its runs; one that is gone is success."""
        ...
