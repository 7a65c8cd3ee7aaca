"""Reads from a pod, as JSON, how its run ended or why it makes no progress. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from windward.domain.run import Trouble, TroubleReason

Body = Mapping[str, Any]
Controllers = Mapping[str, tuple[str, str]]  # uid of an object -> (kind, uid) of its controller
JOB_NAME = "batch.kubernetes.io/job-name"
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
STUCK_AFTER = timedelta(seconds=30)  # beyond its grace period, a pod that is to go and does not has lost its node
CREATING_FOR = timedelta(seconds=20)  # a sandbox and volumes take seconds

MOST_MESSAGES = 1000  # of one object: 4 MB

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


@dataclass(frozen=True, slots=True)
class PodEnd:
    """How a pod ended.

    Attributes:
        code: exit code of the main container, the first of its spec, or of another one that failed; -1: none is known.
        message: termination message of the main container.
        disrupted: it was evicted, drained or lost.
        slot: its place in a group: its Job and completion index, which a pod that replaces it has too. '': none.
    """

    pod_uid: str
    code: int
    started_at: datetime | None
    finished_at: datetime | None
    message: str
    disrupted: bool
    slot: str = ""


def moment(text: Any) -> datetime | None:
    """Parses a Kubernetes time; None if it is not one."""
    try:
        parsed = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return parsed if parsed is not None and parsed.tzinfo is not None else None


def controller_of(meta: Body) -> tuple[str, str]:
    """Returns (kind, uid) of an object's controller; two empty strings if it has none."""
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner.get("kind", "")), str(owner.get("uid", ""))
    return "", ""


def ancestor_uid(pod: Body, kinds: Sequence[str], controllers: Controllers) -> str:
    """Returns the uid of the object at the end of a chain of controllers, from the pod's own on; '' where the chain is
    another one. It goes by owner references: anybody may copy a label.

    Args:
        kinds: of the objects in the chain.
    """
    kind, uid = controller_of(pod["metadata"])
    for step, expected in enumerate(kinds):
        if step:
            kind, uid = controllers.get(uid, ("", ""))
        if kind != expected:
            return ""
    return uid


def running_since(pod: Body) -> datetime | None:
    """Returns when the first container of a pod that runs now started."""
    states = [(c.get("state") or {}) for c in (pod.get("status") or {}).get("containerStatuses") or []]
    times = [moment((s.get("running") or {}).get("startedAt")) for s in states]
    return min((t for t in times if t is not None), default=None)


def _slot(pod: Body) -> str:
    meta = pod["metadata"]
    index = (meta.get("annotations") or {}).get(COMPLETION_INDEX)
    return f"{(meta.get('labels') or {}).get(JOB_NAME, '')}/{index}" if index is not None else ""


def pod_end(pod: Body) -> PodEnd | None:
    """Returns how a pod ended; None while any of its containers may still run."""
    status = pod.get("status") or {}
    over = status.get("phase") in ("Succeeded", "Failed")
    ended = {c.get("name"): (c.get("state") or {}).get("terminated") for c in status.get("containerStatuses") or []}
    names = [c.get("name") for c in (pod.get("spec") or {}).get("containers") or [] if c.get("name") in ended]
    if not over and (not names or any(ended[n] is None for n in names)):
        return None
    terminated = [t for n in names if (t := ended[n]) is not None]
    uid, disrupted = pod["metadata"]["uid"], _condition(pod, "DisruptionTarget", "True") is not None
    if not terminated:  # evicted or lost before a container could say anything
        return PodEnd(uid, -1, None, None, str(status.get("message") or ""), True, _slot(pod))
    main = terminated[0]
    code = next((c for c in (int(t.get("exitCode", 1)) for t in terminated) if c != 0), 0)
    message = str(main.get("message") or main.get("reason") or "")
    times = moment(main.get("startedAt")), moment(main.get("finishedAt"))
    return PodEnd(uid, code, *times, message, disrupted, _slot(pod))


def keep_end(ends: dict[str, PodEnd], end: PodEnd) -> None:
    """Keeps how a pod of one object ended. Of more than `MOST_MESSAGES` the last words are dropped, as if they had said
    nothing: a Job may have a hundred thousand pods, each with four kilobytes."""
    if len(ends) >= MOST_MESSAGES and end.pod_uid not in ends:
        end = replace(end, message="")
    ends[end.pod_uid] = end


def current_pod(pods: Sequence[Body]) -> Body | None:
    """Returns the pod that has not ended, else the last; None if there is none."""
    return next((p for p in pods if pod_end(p) is None), pods[-1] if pods else None)


def trouble_of(pod: Body, now: datetime) -> Trouble | None:
    """Returns why a pod that has not ended makes no progress; None if nothing is known."""
    return _stuck(pod, now) or _unscheduled(pod) or _waiting(pod, now) or _unreachable(pod)


def _condition(pod: Body, kind: str, status: str) -> Body | None:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind and c.get("status") == status), None)


def _states(pod: Body) -> list[Body]:
    status = pod.get("status") or {}
    both = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return [c.get("state") or {} for c in both]


def _stuck(pod: Body, now: datetime) -> Trouble | None:
    """The grace period of a deleted pod has passed: its node does not answer."""
    due = moment(pod["metadata"].get("deletionTimestamp"))  # the API server adds the grace period
    if due is None or now < due + STUCK_AFTER:
        return None
    node = (pod.get("spec") or {}).get("nodeName", "")
    return Trouble(
        TroubleReason.NODE_LOST,
        f"node {node} does not end pod {pod['metadata']['name']}",
        f"no other run starts before it is gone for sure: kubectl delete node {node}, if it is off",
        due,
    )


def _unscheduled(pod: Body) -> Trouble | None:
    condition = _condition(pod, "PodScheduled", "False")
    if condition is None:
        return None
    cause = str(condition.get("message") or "the pod is not scheduled")
    since = moment(condition.get("lastTransitionTime"))
    if "persistentvolumeclaim" in cause.lower():
        namespace = pod["metadata"].get("namespace", "")
        fix = f"create the claim, or name another: kubectl -n {namespace} get persistentvolumeclaims"
        return Trouble(TroubleReason.CLAIM_MISSING, cause, fix, since)
    fix = "free room, ask for less, or allow more regions"
    return Trouble(TroubleReason.UNSCHEDULABLE, cause, fix, since)


def _waiting(pod: Body, now: datetime) -> Trouble | None:
    """A container that the kubelet cannot start."""
    since = moment((pod.get("status") or {}).get("startTime"))
    for state in _states(pod):
        waiting = state.get("waiting")
        if not waiting:
            continue
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        cause = f"{reason}: {message}".strip(": ")
        if reason in _IMAGE:
            fix = "name an image that this node can pull, or give the pod a pull secret"
            return Trouble(TroubleReason.IMAGE_PULL_FAILED, cause, fix, since)
        if reason in ("", "ContainerCreating", "PodInitializing"):
            if since is None or now < since + CREATING_FOR:
                continue
            cause = cause or "the container is not created"
        name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace", "")
        fix = f"see the pod's events: kubectl -n {namespace} describe pod {name}"
        if reason == "PodInitializing":
            continue  # an init container works
        return Trouble(TroubleReason.CONTAINER_CONFIG_INVALID, cause, fix, since)
    return None


def _unreachable(pod: Body) -> Trouble | None:
    """The pod is not Ready but its containers are: the node controller has marked its node as unreachable."""
    status = pod.get("status") or {}
    condition, containers = _condition(pod, "Ready", "False"), status.get("containerStatuses") or []
    if condition is None or not containers or not all(c.get("ready") for c in containers):
        return None
    node = (pod.get("spec") or {}).get("nodeName", "")
    fix = f"see kubectl describe node {node}; a new run starts when Kubernetes evicts this one"
    since = moment(condition.get("lastTransitionTime"))
    return Trouble(TroubleReason.NODE_LOST, f"node {node} does not answer", fix, since)
