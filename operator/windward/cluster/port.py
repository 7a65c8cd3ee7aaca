"""The port through which the controller observes and changes a cluster.

ClusterError            the cluster failed
|- Unavailable          no answer; whether the write happened is unknown: retry later
|- AttemptConflict      the object changed since it was observed: observe again before acting
|- NotFound             there is no such object
`- Refused              the cluster rejects the request and says why: a retry will not help
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from windward.domain.observed import Event, Observed
from windward.manifests import RunFacts
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus


class ClusterError(Exception):
    """The cluster failed."""


class Unavailable(ClusterError):
    """The cluster does not answer; retry later."""


class AttemptConflict(ClusterError):
    """The object changed since it was observed."""


class NotFound(ClusterError):
    """There is no such object."""


class Refused(ClusterError):
    """The cluster rejects the request, for example by an admission policy."""


@dataclass(frozen=True, slots=True)
class BadObject:
    """An object of ours that cannot be parsed; it is reported and skipped."""

    kind: str
    namespace: str
    name: str
    generation: int
    message: str
    status: Mapping[str, Any] = field(default_factory=dict)
    uid: str = ""

    @property
    def display_name(self) -> str:
        """What people call it within its namespace: with its kind where it is none of ours."""
        return self.name if self.kind.startswith("Green") else f"{self.kind.lower()}/{self.name}"

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.display_name}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects of ours at one moment.

    Attributes:
        quotas: region -> units of each resource that its queue leaves to our work; without an entry: no queue.
    """

    jobs: tuple[Observed, ...] = ()
    crons: tuple[GreenCronJob, ...] = ()
    regions: tuple[GreenRegion, ...] = ()
    bad: tuple[BadObject, ...] = ()
    quotas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Cluster(Protocol):
    """Where GreenJobs are stored and their runs are executed.

    Every method is idempotent. All block; none retries for longer than a few seconds; all raise only `ClusterError`s.
    """

    def snapshot(self) -> Snapshot:
        """Returns all GreenJobs, ended ones too, with their runs, and all GreenCronJobs and GreenRegions."""
        ...

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        """Writes `attempt` into the job's status, before the child is created. Returns the job as written.

        Raises:
            AttemptConflict: the job changed since `observed`.
        """
        ...

    def create_run(self, facts: RunFacts) -> None:
        """Creates a run under its deterministic name; succeeds if the child exists and belongs to the job.

        Raises:
            Refused: the child may not be created; the message says why.
        """
        ...

    def stop_run(self, job: GreenJob, name: str) -> None:
        """Asks a run to pause: SIGTERM, its grace period, then SIGKILL. Returns at once."""
        ...

    def hold(self, job: GreenJob) -> None:
        """Keep a workload that nothing runs of from starting without us; one that cannot is held already."""
        ...

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        """Replaces the job's status, then emits the events."""
        ...

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        """Replaces the status of an object that cannot be parsed."""
        ...

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        """Replaces the status of a GreenCronJob."""
        ...

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        """Replaces the status of a GreenRegion."""
        ...

    def create_job(self, body: Mapping[str, Any]) -> None:
        """Creates a GreenJob; succeeds if one of this name exists."""
        ...

    def delete_job(self, namespace: str, name: str) -> None:
        """Deletes a GreenJob with its runs; succeeds if it is gone."""
        ...
