"""Managed workloads on a cluster: listed, started, paused and told; see `windward_api.managed`.

Of such an object nothing is changed but `spec.suspend`, Kueue's gate and our own annotations; of its Workload,
`spec.active`. Where it has a queue, `suspend` is Kueue's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from windward.cluster.engines.port import Rights
from windward.cluster.kube_api import Api
from windward.cluster.kube_events import emit, reference_to
from windward.cluster.managed_reader import ManagedReader
from windward.cluster.port import AttemptConflict, BadObject, NotFound, Snapshot
from windward.cluster.release import path_of, release, set_active
from windward.domain.clock import Clock
from windward.domain.observed import Event, Observed
from windward.manifests import RunFacts
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegion
from windward_api.managed import (
    ERROR,
    HELD_AT,
    LATEST_START,
    MANAGED_KINDS,
    STATUS,
    SUMMARY,
    ManagedWorkload,
    held_annotation,
    status_annotation,
)
from windward_api.scalars import format_time

Body = dict[str, Any]
EVENT_LIMIT = 1024  # bytes of an Event's message
# What both processes need, beyond what the operator reads of pods; the chart grants exactly that.
RELEASE_RIGHTS = (
    *(Rights(k.group, k.plural, ("get", "list", "patch", "watch")) for k in MANAGED_KINDS),
    Rights("kueue.x-k8s.io", "workloads", ("list", "patch")),
    Rights("", "namespaces", ("get", "list")),  # `get` alone where not all are served
)
RIGHTS = (*RELEASE_RIGHTS, Rights("kueue.x-k8s.io", "localqueues", ("list",)))


@dataclass(frozen=True, slots=True)
class ManagedWorkloads:
    """See the module."""

    api: Api
    clock: Clock
    reader: ManagedReader

    def snapshot(self, regions: Sequence[GreenRegion]) -> Snapshot:
        """Returns all managed workloads with their runs, those that cannot be read, and what the queues leave to us."""
        return self.reader.snapshot(regions)

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> ManagedWorkload:
        """Writes the number of the next run into the status annotation, if nothing changed since."""
        job = _managed(observed.job)
        status = job.status.model_copy(update={"attempt": attempt, "attempt_region": region})
        version = job.metadata.resource_version
        body = self._annotate(job, {STATUS: status_annotation(job.metadata.uid, status)}, version)
        meta = job.metadata.model_copy(update={"resource_version": body["metadata"]["resourceVersion"]})
        return job.model_copy(update={"status": status, "metadata": meta})

    def create_run(self, facts: RunFacts) -> None:
        """Releases it: from its suspension, or into its queue."""
        job = _managed(facts.job)
        try:
            release(self.api, job.managed, self.api.get(_path(job)), facts.region.spec.queue or "")
        except NotFound:
            raise AttemptConflict(f"{job.key} is gone") from None

    def stop_run(self, job: GreenJob, name: str) -> None:
        """Suspends it, or takes it out of its queue: SIGTERM to its containers, and their grace period."""
        self.hold(job)

    def hold(self, job: GreenJob) -> None:
        """Keeps it from starting; what runs of it is ended."""
        job = _managed(job)
        note = {HELD_AT: held_annotation(job.metadata.uid, self.clock.now())}
        if not job.queue:
            self.api.patch(_path(job), {"metadata": {"annotations": note}, "spec": {"suspend": True}})
            return
        # First the note that it was us: without it, what is not active waits for somebody else.
        self._annotate(job, note)
        set_active(self.api, {"namespace": job.metadata.namespace, "uid": job.metadata.uid}, False)

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        """Writes the status annotation, one line for people, and until when it is held at most; then the events."""
        job = _managed(job)
        waits = status.finished_at is None and not job.spec.suspend and status.summary.state in _HELD_STATES
        latest = status.plan.latest_start if waits else None
        annotations: dict[str, str | None] = {
            STATUS: status_annotation(job.metadata.uid, status),
            SUMMARY: summary_line(status),
            LATEST_START: format_time(latest) if latest is not None else None,
            ERROR: None,
            # A start may have died before it took the note away.
            **({HELD_AT: None} if status.summary.state in _FREE_STATES else {}),
        }
        try:
            self._annotate(job, annotations)
        except NotFound:
            return
        for event in events:
            emit(self.api, reference_to(job), event, self.clock.now())

    def write_bad(self, bad: BadObject, status: BaseModel) -> None:
        """Tells the owner of an object that cannot be read what is wrong with it, in an annotation and an event."""
        assert isinstance(status, GreenJobStatus)
        kind = next(k for k in MANAGED_KINDS if k.kind == bad.kind)
        path = path_of(kind, bad.namespace, bad.name)
        annotations = {STATUS: status_annotation(bad.uid, status), ERROR: bad.message}
        try:
            self.api.patch(path, {"metadata": {"annotations": annotations}})
        except NotFound:
            return
        names = {"name": bad.name, "namespace": bad.namespace, "uid": bad.uid}
        about = {"apiVersion": kind.api_version, "kind": kind.kind, **names}
        emit(self.api, about, Event("InvalidSpec", bad.message[:EVENT_LIMIT], warning=True), self.clock.now())

    def _annotate(self, job: ManagedWorkload, annotations: Mapping[str, str | None], version: str = "") -> Body:
        meta: Body = {"annotations": dict(annotations), **({"resourceVersion": version} if version else {})}
        return self.api.patch(_path(job), {"metadata": meta})


_FREE_STATES = ("Starting", "Running", "Complete", "Failed")
_HELD_STATES = ("Waiting", "Paused", "Pausing", "Pending")


def summary_line(status: GreenJobStatus) -> str:
    """Returns what a person wants to know first, as one line."""
    s = status.summary
    parts = [f"{s.state} ({s.reason})" if s.reason else s.state]
    parts += [f"in {s.region}" if s.region else "", f"start {s.start}" if s.start else ""]
    parts += [f"finish by {s.finish_by}" if s.finish_by else "", s.emissions, f"saves {s.saved}" if s.saved else ""]
    return ", ".join(p for p in parts if p)


def _managed(job: object) -> ManagedWorkload:
    assert isinstance(job, ManagedWorkload)
    return job


def _path(job: ManagedWorkload) -> str:
    return path_of(job.managed, job.metadata.namespace, job.metadata.name)
