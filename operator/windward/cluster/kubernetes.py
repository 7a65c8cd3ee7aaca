"""A Kubernetes cluster: each run is one object of an engine, placed on its region's nodes by node selector.

Reads are whole lists from etcd, so no decision rests on a stale cache. Writes are idempotent by name. Only the engines
(`engines.port`) know the kinds of these objects and how one is rendered, read and paused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from windward.cluster.engines import ENGINES, Engine
from windward.cluster.engines.port import engine_of
from windward.cluster.kube_api import JSON_PATCH, Api
from windward.cluster.kube_events import emit, reference_to
from windward.cluster.kube_pods import Controllers
from windward.cluster.kube_runs import is_child, runs_of
from windward.cluster.kube_watch import follow
from windward.cluster.parse import bad_object, read_job, read_objects
from windward.cluster.pod_memory import Ends, PodMemory
from windward.cluster.port import AttemptConflict, BadObject, NotFound, Refused, Snapshot
from windward.domain.clock import Clock
from windward.domain.observed import Event, Observed
from windward.manifests import RunFacts
from windward.manifests.pod import LABEL_UID, NotInPod, RuntimeImage
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus

log = logging.getLogger(__name__)
OURS = "/apis/windward.dev/v1alpha1"
Body = dict[str, Any]


@dataclass
class KubernetesCluster:
    """See `Cluster`.

    Attributes:
        namespaces: where GreenJobs are managed; empty: all namespaces.
        engines: all that may own runs; the first that accepts a GreenJob renders its next run.
    """

    api: Api
    clock: Clock
    runtime: RuntimeImage
    namespaces: tuple[str, ...] = ()
    engines: tuple[Engine, ...] = ENGINES
    _memory: PodMemory = field(default_factory=PodMemory)

    def snapshot(self) -> Snapshot:
        crons, regions, bad = read_objects(self._all(OURS, "greencronjobs"), self.api.items(f"{OURS}/greenregions"))
        bodies = self._all(OURS, "greenjobs")
        # Children after their owners: the number of a child made in between is claimed already.
        listed = {e: self._children(e) for e in self.engines}
        below = [child for children in listed.values() for child in children]
        pods = self._all("/api/v1", "pods", labelSelector=LABEL_UID)
        self._memory.remember(pods)
        by_uid, their_pods = {e: _by_label(children) for e, children in listed.items()}, _by_label(pods)
        controllers, seen = self._memory.note(below), self._memory.ends()
        now, out = self.clock.now(), []
        for body in bodies:
            job = read_job(body)
            if isinstance(job, GreenJob):
                uid = job.metadata.uid
                children = {e: labelled.get(uid, []) for e, labelled in by_uid.items()}
                observed = read_runs(body, job, children, their_pods.get(uid, ()), seen, controllers, now)
                if isinstance(observed, Observed):
                    out.append(observed)
                    continue
                job = observed
            bad.append(job)
        self._memory.forget(below, pods)
        return Snapshot(tuple(out), tuple(crons), tuple(regions), tuple(bad))

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        meta = observed.job.metadata
        patch = {
            "metadata": {"resourceVersion": meta.resource_version},
            "status": {"attempt": attempt, "attemptRegion": region},
        }
        job = read_job(self.api.patch(f"{_path('greenjobs', meta.namespace, meta.name)}/status", patch))
        if isinstance(job, BadObject):
            raise AttemptConflict(job.message)
        return job

    def create_run(self, facts: RunFacts) -> None:
        engine = engine_of(self.engines, facts.job)
        if engine is None:
            raise Refused("no engine of this operator runs this kind of work: ask for another kind")
        path = engine.resource.path(facts.job.metadata.namespace)
        try:
            self.api.post(path, engine.render(facts, self.runtime))
        except NotInPod as e:
            raise Refused(str(e)) from e
        except NotFound:
            kind, group = engine.resource.kind, engine.resource.group
            fix = "install its controller, or ask for another kind of work"
            raise Refused(f"this cluster knows no {kind} of {group}: {fix}") from None
        except AttemptConflict:
            if not is_child(facts.job, self.api.get(f"{path}/{facts.name}")):
                kind = engine.resource.kind
                raise Refused(f"{kind} {facts.name} belongs to somebody else: delete or rename it") from None

    def stop_run(self, job: GreenJob, name: str) -> None:
        for engine in self.engines:
            try:
                child = self.api.get(engine.resource.path(job.metadata.namespace, name))
                if is_child(job, child):
                    engine.pause(self.api, job, child, self.clock.now())
            except NotFound:
                continue

    def hold(self, job: GreenJob) -> None:
        """Does nothing: of a GreenJob nothing runs before a run is created."""

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        meta = job.metadata
        try:
            self._status("greenjobs", meta.namespace, meta.name, status)
        except NotFound:
            return
        for event in events:
            emit(self.api, reference_to(job), event, self.clock.now())

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        try:
            namespace = None if bad.kind == "GreenRegion" else bad.namespace
            self._status(f"{bad.kind.lower()}s", namespace, bad.name, status)
        except NotFound:
            return

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        self._status("greencronjobs", cron.metadata.namespace, cron.metadata.name, status)

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        self._status("greenregions", None, region.metadata.name, status)

    def create_job(self, body: Mapping[str, Any]) -> None:
        namespace = body["metadata"]["namespace"]
        try:
            self.api.post(_path("greenjobs", namespace), body)
        except AttemptConflict:
            return  # the tick's job is there: its name is the scheduled time

    def delete_job(self, namespace: str, name: str) -> None:
        try:
            self.api.delete(_path("greenjobs", namespace, name), propagationPolicy="Background")
        except NotFound:
            return

    def watch_pods(self, stop: threading.Event, heard: Callable[[], None]) -> None:
        """Watches our pods until `stop`: keeps how they end, and calls `heard` at each event.

        The pod of a paused run is deleted soon after its containers end; only a watch is sure to see how.
        """

        def remember(pods: list[Body]) -> None:
            self._memory.remember(pods)
            heard()

        follow(self.api, self._paths("/api/v1", "pods"), LABEL_UID, stop, remember)

    def _children(self, engine: Engine) -> list[Body]:
        """Objects of an engine's kind with our label; none where the cluster does not know the kind."""
        try:
            return self._all(engine.resource.root, engine.resource.plural, labelSelector=LABEL_UID)
        except NotFound:
            return []

    def _paths(self, group: str, plural: str) -> list[str]:
        if not self.namespaces:
            return [f"{group}/{plural}"]
        return [f"{group}/namespaces/{n}/{plural}" for n in self.namespaces]

    def _all(self, group: str, plural: str, **query: str) -> list[Body]:
        return [item for path in self._paths(group, plural) for item in self.api.items(path, **query)]

    def _status(self, plural: str, namespace: str | None, name: str, status: Any) -> None:
        """Replaces a whole status; there is one writer, so no resourceVersion is needed."""
        value = status.model_dump(by_alias=True, mode="json", exclude_none=True)
        patch = [{"op": "add", "path": "/status", "value": value}]
        self.api.patch(f"{_path(plural, namespace, name)}/status", patch, JSON_PATCH)


def _path(plural: str, namespace: str | None, name: str = "") -> str:
    place = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"{OURS}{place}/{plural}" + (f"/{name}" if name else "")


def read_runs(
    body: Body,
    job: GreenJob,
    children: Mapping[Engine, Sequence[Body]],
    pods: Sequence[Body],
    seen: Ends,
    controllers: Controllers,
    now: datetime,
) -> Observed | BadObject:
    """Returns a job with its runs, or a `BadObject` if its children cannot be parsed: a job without its runs would be
    started again."""
    try:
        engine = engine_of(children, job)
        demand = engine.demand(job.spec) if engine is not None else None
        return Observed(job, runs_of(job, children, pods, seen, now, demand, controllers), demand)
    except Exception as e:  # whatever a child holds harms its own job only
        log.exception("%s/%s: its children cannot be read", job.metadata.namespace, job.metadata.name)
        return bad_object(body, "GreenJob", f"its Jobs and pods cannot be read: {type(e).__name__}: {e}")


def _by_label(children: Sequence[Body]) -> dict[str, list[Body]]:
    """Groups children by the uid in their label; `runs_of` checks their owners."""
    out: dict[str, list[Body]] = {}
    for child in children:
        out.setdefault(str((child["metadata"].get("labels") or {}).get(LABEL_UID, "")), []).append(child)
    return out
