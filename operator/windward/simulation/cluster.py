"""A cluster that exists only in numbers: GreenJobs, runs that take time and draw power, regions that are full or not.

It keeps the promises of the `Cluster` port. Work, pauses and failures follow the contract with containers, and the
meter writes what a worker would report. As on a real cluster, what a run has done is reported when it ends or pauses;
until then its running time says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from windward.cluster import AttemptConflict, Snapshot
from windward.cluster.port import BadObject
from windward.domain.clock import FixedClock
from windward.domain.observed import Event, Observed
from windward.lifecycle.work import demand_of
from windward.manifests import RunFacts
from windward.simulation.faults import Faults
from windward.simulation.job import SimulatedJob
from windward.simulation.nodes import SimulatedNodes
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus


@dataclass
class SimulatedCluster:
    """See the module.

    Attributes:
        jobs: by namespace and name, in the order in which they were submitted.
        gone: those that were deleted, by uid: kept for the count.
        events: how many were emitted.
    """

    clock: FixedClock
    regions: Sequence[GreenRegion]
    faults: Faults = field(default_factory=Faults)
    jobs: dict[str, SimulatedJob] = field(default_factory=dict)
    gone: dict[str, SimulatedJob] = field(default_factory=dict)
    events: int = 0

    def __post_init__(self) -> None:
        self._nodes = SimulatedNodes(self.clock, self.regions, self.faults, self.jobs)

    # -- the port ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(job.observed() for job in self.jobs.values()), (), tuple(self.regions), ())

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        job = self.jobs.get(observed.key)
        if job is None or not job.is_unchanged_since(observed):
            raise AttemptConflict(f"{observed.key} changed")
        job.write_status(job.job.status.model_copy(update={"attempt": attempt, "attempt_region": region}))
        return job.job

    def create_run(self, facts: RunFacts) -> None:
        job = self.jobs[f"{facts.job.metadata.namespace}/{facts.job.metadata.name}"]
        if all(r.name != facts.name for r in job.runs):
            job.add_run(facts.name, facts.attempt, facts.region.metadata.name, facts.level)
            self._nodes.start(job)

    def stop_run(self, job: GreenJob, name: str) -> None:
        simulated = self.jobs.get(f"{job.metadata.namespace}/{job.metadata.name}")
        if simulated is not None and simulated.live is not None and simulated.live.name == name:
            self._nodes.pause(simulated)

    def hold(self, job: GreenJob) -> None:
        """Does nothing: of a GreenJob nothing runs before a run is created."""

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        simulated = self.jobs.get(f"{job.metadata.namespace}/{job.metadata.name}")
        if simulated is not None:
            simulated.write_status(status)
            self.events += len(events)

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        raise AssertionError(f"{bad.key}: nothing that is simulated is malformed")

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        raise AssertionError("no crons are simulated")

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        """Nobody looks at it, and it changes nothing."""

    def create_job(self, body: Mapping[str, Any]) -> None:
        raise AssertionError("no crons are simulated")

    def delete_job(self, namespace: str, name: str) -> None:
        job = self.jobs.pop(f"{namespace}/{name}", None)
        if job is not None:
            self._nodes.remove(job)
            self.gone[job.job.metadata.uid] = job

    # -- what is simulated -------------------------------------------------------------------------------------------

    def submit(self, job: GreenJob) -> None:
        """A user applies a GreenJob."""
        takes_s = self.faults.duration(job).total_seconds()
        self.jobs[f"{job.metadata.namespace}/{job.metadata.name}"] = SimulatedJob(job, takes_s, demand_of(job.spec))

    def pass_time(self, span: timedelta) -> bool:
        """Let what runs work for `span`, then move the clock. Returns whether anything ended or was lost meanwhile."""
        return self._nodes.pass_time(span)
