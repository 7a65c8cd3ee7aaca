"""Releases a managed workload: from its suspension, or into its queue. The operator does so at the planned start; a
second process does so at the latest safe start, whatever became of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from windward.cluster import kueue
from windward.cluster.kube_api import Api
from windward.cluster.kube_pods import moment
from windward_api.managed import HELD_AT, LATEST_START, STATUS, ManagedKind, is_paused_by_us

Body = Mapping[str, Any]
UNPLANNED_FOR = timedelta(minutes=5)  # what nobody has planned so long after its creation is not held any longer


def is_overdue(body: Body, now: datetime) -> bool:
    """Returns whether a managed workload that is held should have started: its latest safe start is past, or nobody
    planned it at all."""
    meta = body["metadata"]
    annotations = meta.get("annotations") or {}
    if LATEST_START in annotations:
        latest = moment(annotations[LATEST_START])
        return latest is not None and latest <= now
    held = bool((body.get("spec") or {}).get("suspend")) or kueue.GATE in kueue.gates_of(body)
    created = moment(meta.get("creationTimestamp"))
    return held and STATUS not in annotations and created is not None and created + UNPLANNED_FOR <= now


def release(api: Api, kind: ManagedKind, body: Body, queue: str = "") -> None:
    """Lets a workload start. What another gate holds, or an administrator, stays held.

    Args:
        queue: LocalQueue that leads where it is to run; '': the one that it names. Only what has a queue can change it.

    Raises:
        NotFound: it is gone.
        ClusterError: any other answer that is no success.
    """
    meta = body["metadata"]
    path = path_of(kind, meta["namespace"], meta["name"])
    free = {HELD_AT: None, LATEST_START: None}
    if not kueue.queue_of(body):
        api.patch(path, {"metadata": {"annotations": free}, "spec": {"suspend": False}})
        return
    if queue and queue != kueue.queue_of(body):
        api.patch(path, {"metadata": {"labels": {kueue.LABEL_QUEUE: queue}}})
    # The note that it was us goes last: without it, what is not active waits for somebody else.
    if is_paused_by_us(body):
        set_active(api, meta, True)
    gates = {kueue.GATES: kueue.without_gate(body)} if kueue.GATE in kueue.gates_of(body) else {}
    api.patch(path, {"metadata": {"annotations": {**free, **gates}}})


def set_active(api: Api, meta: Body, active: bool) -> None:
    """Lets the Workload of a queued object into its queue, or takes it out and ends what runs of it."""
    path = f"{kueue.GROUP}/namespaces/{meta['namespace']}/workloads"
    workload = kueue.workloads_by_owner(api.items(path)).get(meta["uid"])
    if workload is not None and bool(workload["spec"].get("active", True)) is not active:
        api.patch(f"{path}/{workload['metadata']['name']}", {"spec": {"active": active}})


def path_of(kind: ManagedKind, namespace: str, name: str) -> str:
    """Returns the path of a managed object."""
    return f"/apis/{kind.api_version}/namespaces/{namespace}/{kind.plural}/{name}"
