"""A cluster with GreenJobs and managed workloads: each is its own adapter's, for the controller they are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windward.cluster.kubernetes import KubernetesCluster
from windward.cluster.managed import ManagedWorkloads
from windward.cluster.port import BadObject, Snapshot
from windward.domain.observed import Event, Observed
from windward.manifests import RunFacts
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus
from windward_api.managed import MANAGED_KINDS, ManagedWorkload

_MANAGED = frozenset(kind.kind for kind in MANAGED_KINDS)


@dataclass(frozen=True, slots=True)
class CombinedCluster:
    """See `Cluster`."""

    own: KubernetesCluster
    managed: ManagedWorkloads

    def snapshot(self) -> Snapshot:
        ours = self.own.snapshot()
        theirs = self.managed.snapshot(ours.regions)
        jobs, bad = (*ours.jobs, *theirs.jobs), (*ours.bad, *theirs.bad)
        return Snapshot(jobs, ours.crons, ours.regions, bad, theirs.quotas)

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        return self._of(observed.job).claim_attempt(observed, attempt, region)

    def create_run(self, facts: RunFacts) -> None:
        self._of(facts.job).create_run(facts)

    def stop_run(self, job: GreenJob, name: str) -> None:
        self._of(job).stop_run(job, name)

    def hold(self, job: GreenJob) -> None:
        self._of(job).hold(job)

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        self._of(job).write_status(job, status, events)

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        (self.managed if bad.kind in _MANAGED else self.own).write_bad(bad, status)

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        self.own.write_cron_status(cron, status)

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        self.own.write_region_status(region, status)

    def create_job(self, body: Mapping[str, Any]) -> None:
        self.own.create_job(body)

    def delete_job(self, namespace: str, name: str) -> None:
        self.own.delete_job(namespace, name)

    def _of(self, job: GreenJob) -> KubernetesCluster | ManagedWorkloads:
        return self.managed if isinstance(job, ManagedWorkload) else self.own
