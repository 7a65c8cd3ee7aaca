"""What a cluster shows of managed workloads: objects, their namespaces, Kueue's Workloads, pods. It only reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from windward.cluster import kueue
from windward.cluster.kube_api import Api
from windward.cluster.kube_pods import PodEnd, controller_of, keep_end, pod_end
from windward.cluster.kube_watch import follow
from windward.cluster.managed_runs import Workload, is_held, is_released, runs_of
from windward.cluster.parse import bad_object
from windward.cluster.port import BadObject, ClusterError, NotFound, Snapshot
from windward.cluster.queue_regions import QueueRegions
from windward.cluster.quota import quotas
from windward.domain.clock import Clock
from windward.domain.observed import Observed
from windward.domain.run import Phase
from windward_api.greenregion import GreenRegion
from windward_api.managed import (
    JOB,
    LABEL_MANAGED,
    MANAGED_KINDS,
    ManagedKind,
    ManagedWorkload,
    layered,
    read_managed,
    status_in,
    words_of,
)

log = logging.getLogger(__name__)
Body = dict[str, Any]
PodsOf = Callable[[ManagedKind, Body], list[Body]]
Watch = Callable[[threading.Event, Callable[[], None]], None]
SPACES = "/api/v1/namespaces"
FEW_SPACES = FEW_GOING_ON = 20
PODS_OF_JOBS = "batch.kubernetes.io/job-name,!windward.dev/job-uid"  # of all Jobs but our own children
_OWNERS = {"GreenJob", *(k.kind for k in MANAGED_KINDS)}  # what has one of these as its controller is part of it
_JOB_UID, _JOBSET_NAME = "batch.kubernetes.io/controller-uid", "jobset.sigs.k8s.io/jobset-name"


@dataclass
class ManagedReader:
    """See the module.

    Attributes:
        namespaces: where they are looked for; empty: everywhere.
        defaults: words that hold where neither the object nor its namespace says them.
    """

    api: Api
    clock: Clock
    namespaces: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    _ends: dict[tuple[str, str], dict[str, PodEnd]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def snapshot(self, regions: Sequence[GreenRegion] = ()) -> Snapshot:
        """Returns all managed workloads with their runs, those whose annotations or spec cannot be read, and what the
        queues of `regions` leave to our work."""
        objects = self.objects()
        spaces = self._spaces({body["metadata"]["namespace"] for _, body in objects})
        self._keep({_group(kind, body) for kind, body in objects})
        queues = QueueRegions({r.metadata.name: r.spec.queue for r in regions if r.spec.queue})
        queued = any(kueue.queue_of(body) for _, body in objects)
        workloads = self._of_kueue("workloads") if queued else []
        by_owner = kueue.workloads_by_owner(workloads)
        pods_of = self._pods_of(objects)
        now, out, bad = self.clock.now(), [], []
        for kind, body in objects:
            try:
                words = layered((self.defaults, queues.words_of(body), _words_in(spaces, body)))
                job = queues.checked(read_managed(body, kind, words, queue=kueue.queue_of(body)))
                out.append(self._observed(job, body, by_owner.get(job.metadata.uid), pods_of, now))
            except ClusterError:
                raise  # it is the cluster that does not answer
            except Exception as e:  # whatever a foreign object holds harms itself only
                message = str(e) if isinstance(e, ValueError) else f"it cannot be read: {type(e).__name__}: {e}"
                bad.append(_bad(kind, body, message))
        left = self._quotas(queues, workloads, {o.uid for o in out}) if queued and queues.of_region else {}
        return Snapshot(tuple(out), bad=tuple(bad), quotas=left)

    def _observed(
        self, job: ManagedWorkload, body: Body, workload: kueue.Body | None, pods_of: PodsOf, now: datetime
    ) -> Observed:
        admission = kueue.admission_of(body, workload) if job.queue else None
        seen = Workload(job, body, admission, (), (), now)
        newest, ended = seen.newest, job.status.finished_at is not None
        if not ended and (is_released(seen) or (newest is not None and Phase(newest.phase).live)):
            group = _group(job.managed, body)
            with self._lock:
                ends = tuple(self._ends.get(group, {}).values())
            seen = Workload(job, body, admission, tuple(pods_of(job.managed, body)), ends, now)
        if is_held(seen):
            job = job.model_copy(update={"spec": job.spec.model_copy(update={"suspend": True})})
        runs = runs_of(seen)
        free = is_released(seen) and not any(r.phase.live for r in runs)
        return Observed(job, runs, released=free)

    def _quotas(
        self, queues: QueueRegions, workloads: Sequence[kueue.Body], ours: set[str]
    ) -> dict[str, dict[str, float]]:
        local, cluster = self._of_kueue("localqueues"), self._listed_if_known(f"{kueue.GROUP}/clusterqueues")
        try:
            return quotas(queues.of_region, local, cluster, workloads, ours)
        except Exception:  # one queue that cannot be read bounds nothing, and stops nobody
            log.exception("quotas of Kueue cannot be read: regions with a queue are planned without them")
            return {}

    def _of_kueue(self, plural: str) -> list[Body]:
        """All objects of one kind of Kueue's; none where the cluster has no Kueue: anybody may write its label."""
        return [item for path in self._paths(kueue.GROUP, plural) for item in self._listed_if_known(path)]

    def _listed_if_known(self, path: str) -> list[Body]:
        try:
            return self.api.items(path)
        except NotFound:
            return []

    def watches(self) -> list[Watch]:
        """Returns what is to be followed, each in a thread of its own: `watch(stop, heard)` calls `heard` where a
        managed workload or a pod of one changed."""
        kinds = [partial(self._watch_kind, kind) for kind in MANAGED_KINDS]
        return [self._watch_pods, *kinds]

    def _watch_kind(self, kind: ManagedKind, stop: threading.Event, heard: Callable[[], None]) -> None:
        paths = self._paths(f"/apis/{kind.api_version}", kind.plural)
        follow(self.api, paths, f"{LABEL_MANAGED}=true", stop, lambda _: heard())

    def _watch_pods(self, stop: threading.Event, heard: Callable[[], None]) -> None:
        def remember(pods: list[Body]) -> None:
            if self.remember(pods):
                heard()

        follow(self.api, self._paths("/api/v1", "pods"), PODS_OF_JOBS, stop, remember)

    def remember(self, pods: Iterable[Body]) -> bool:
        """Keeps how pods of managed workloads ended, since what is suspended loses its pods soon after; returns whether
        any of `pods` is such a one."""
        ours = False
        for pod in pods:
            end, of_job = pod_end(pod), controller_of(pod["metadata"])[0] == "Job"
            with self._lock:
                for group in _groups_of(pod) & self._ends.keys() if of_job else ():
                    ours = True
                    if end is not None:
                        keep_end(self._ends[group], end)
        return ours

    def _keep(self, groups: set[tuple[str, str]]) -> None:
        """Ends are kept of these groups of pods alone."""
        with self._lock:
            self._ends = {group: self._ends.get(group, {}) for group in groups}

    def objects(self) -> list[tuple[ManagedKind, Body]]:
        """Returns all managed objects with their kinds."""
        managing = [name for name in self.namespaces if _is_labelled(self._space(name))]
        if not self.namespaces:
            managing = [s["metadata"]["name"] for s in self.api.items(SPACES, labelSelector=f"{LABEL_MANAGED}=true")]
        return [(kind, body) for kind in MANAGED_KINDS for body in self._of_kind(kind, managing)]

    def _spaces(self, names: set[str]) -> dict[str, Body]:
        """Namespaces by name, whose annotations hold defaults: one by one, or all at once where they are many."""
        if self.namespaces or len(names) <= FEW_SPACES:
            return {name: self._space(name) for name in sorted(names)}
        return {space["metadata"]["name"]: space for space in self.api.items(SPACES)}

    def _space(self, name: str) -> Body:
        """A namespace; without a word where it is being deleted, or was never made."""
        try:
            return self.api.get(f"{SPACES}/{name}")
        except NotFound:
            return {"metadata": {"name": name}}

    def _of_kind(self, kind: ManagedKind, managing: Iterable[str]) -> list[Body]:
        """Managed objects of one kind; none where the cluster does not know the kind."""
        root = f"/apis/{kind.api_version}"
        try:
            bodies = self._all(root, kind.plural, labelSelector=f"{LABEL_MANAGED}=true")
            for name in managing:
                path = f"{root}/namespaces/{name}/{kind.plural}"
                bodies += self.api.items(path, labelSelector=f"!{LABEL_MANAGED}")
        except NotFound:
            return []
        return [b for b in bodies if controller_of(b["metadata"])[0] not in _OWNERS]

    def _pods_of(self, objects: Sequence[tuple[ManagedKind, Body]]) -> PodsOf:
        """Returns what gives the pods of one object: by a request of its own, or, where many objects go on, from one
        list of all, so that the requests of a cycle do not grow with the workloads of a tenant."""
        if sum(1 for _, body in objects if not (body.get("spec") or {}).get("suspend")) <= FEW_GOING_ON:
            return self._pods
        by_group: dict[tuple[str, str], list[Body]] = {}
        for pod in self._of_jobs(self._all("/api/v1", "pods", labelSelector=PODS_OF_JOBS)):
            for group in _groups_of(pod):
                by_group.setdefault(group, []).append(pod)
        return lambda kind, body: by_group.get(_group(kind, body), [])

    def _pods(self, kind: ManagedKind, body: Body) -> list[Body]:
        namespace, owner = _group(kind, body)
        label = _JOB_UID if kind is JOB else _JOBSET_NAME
        return self._of_jobs(self.api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"{label}={owner}"))

    def _of_jobs(self, pods: list[Body]) -> list[Body]:
        """Those that a Job controls; how they ended is kept."""
        self.remember(pods)
        return [p for p in pods if controller_of(p["metadata"])[0] == "Job"]

    def _all(self, root: str, plural: str, **query: str) -> list[Body]:
        return [item for path in self._paths(root, plural) for item in self.api.items(path, **query)]

    def _paths(self, root: str, plural: str) -> list[str]:
        places = [f"/namespaces/{n}" for n in self.namespaces] or [""]
        return [f"{root}{place}/{plural}" for place in places]


def _bad(kind: ManagedKind, body: Body, message: str) -> BadObject:
    status = status_in(body).model_dump(by_alias=True, mode="json", exclude_none=True)
    return replace(bad_object(body, kind.kind, message), status=status)


def _is_labelled(body: Body) -> bool:
    return (body["metadata"].get("labels") or {}).get(LABEL_MANAGED) == "true"


def _words_in(spaces: Mapping[str, Body], body: Body) -> dict[str, str]:
    """Words that the namespace of an object says for all in it."""
    space = spaces.get(body["metadata"]["namespace"]) or {}
    return words_of((space.get("metadata") or {}).get("annotations") or {})


def _groups_of(pod: Body) -> set[tuple[str, str]]:
    """What an object that a pod belongs to may be known by; see `_group`."""
    namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels") or {}
    return {(namespace, str(labels[name])) for name in (_JOB_UID, _JOBSET_NAME) if name in labels}


def _group(kind: ManagedKind, body: Body) -> tuple[str, str]:
    """What the pods of an object are known by: a Job's uid; the name of a JobSet, which a TrainJob's has too."""
    meta = body["metadata"]
    return meta["namespace"], meta["uid"] if kind is JOB else meta["name"]
