"""Objects as the API server shows them, of managed workloads."""

from datetime import UTC, datetime, timedelta

from windward.cluster.kube_pods import moment
from windward.cluster.kueue import admission_of
from windward.cluster.managed_runs import Workload
from windward_api.greenjob_status import GreenJobStatus
from windward_api.managed import JOB, STATUS, read_managed, status_annotation

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WORDS = {"duration": "2h", "complete-within": "8h", "regions": "north", "watts": "100"}
POD = {"spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "500m"}}}]}}


def stamp(minutes):
    return (NOON + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(annotations=(), labels=(), status=None, kept=None, **spec):
    """A labelled Job, made at noon and suspended; `kept` is its GreenJobStatus."""
    meta = {
        "name": "mnist", "namespace": "team", "uid": "u-1", "generation": 1, "resourceVersion": "7",
        "creationTimestamp": stamp(0), "labels": {"windward.dev/managed": "true", **dict(labels)},
        "annotations": {**{f"windward.dev/{k}": v for k, v in WORDS.items()}, **dict(annotations)},
    }  # fmt: skip
    if kept is not None:
        meta["annotations"][STATUS] = status_annotation("u-1", GreenJobStatus.model_validate(kept))
    return {"metadata": meta, "spec": {"suspend": True, "template": POD, **spec}, "status": status or {}}


def run(attempt, phase, started=None, finished=None, code=None):
    body = {"name": f"mnist-u1-{attempt}", "attempt": attempt, "region": "north", "phase": phase, "uid": "u-1"}
    times = {"startedAt": started, "finishedAt": finished}
    return {**body, **{k: stamp(v) for k, v in times.items() if v is not None}, **({"exitCode": code} if code else {})}


def pod(name="p", running=None, terminated=None, pending=False):
    """A pod of the Job; minutes since noon: `running` since, `terminated` (from, to, code)."""
    state = {}
    if running is not None:
        state = {"running": {"startedAt": stamp(running)}}
    if terminated is not None:
        begun, ended, code = terminated
        state = {"terminated": {"startedAt": stamp(begun), "finishedAt": stamp(ended), "exitCode": code}}
    owner = {"kind": "Job", "uid": "u-1", "controller": True}
    statuses = [] if pending else [{"name": "c", "state": state}]
    meta = {"name": name, "namespace": "team", "uid": f"uid-{name}", "ownerReferences": [owner]}
    return {"metadata": meta, "spec": {"containers": [{"name": "c"}]}, "status": {"containerStatuses": statuses}}


def condition(kind, minutes, reason="", message="", status="True"):
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp(minutes)}


def kueue_workload(active=True, **conditions):
    """A Workload of Kueue; `Admitted=(minutes, reason, message, status)`."""
    told = [condition(k, m, reason, message, status) for k, (m, reason, message, status) in conditions.items()]
    return {"metadata": {"name": "job-mnist-1"}, "spec": {"active": active}, "status": {"conditions": told}}


def seen(body, pods=(), ends=(), workload=None, queued=False, at=60):
    """What the adapter makes of it, so many minutes after noon."""
    admission = admission_of(body, workload) if queued else None
    now = moment(stamp(at))
    return Workload(read_managed(body, JOB, {}), body, admission, tuple(pods), tuple(ends), now)
