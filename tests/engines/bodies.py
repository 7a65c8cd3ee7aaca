"""GreenJobs of each kind of work, and their objects and pods as the API server would show them."""

import copy
from datetime import UTC, datetime, timedelta

from lifecycle.cases import greenjob

from windward.manifests import RunFacts
from windward.manifests.pod import RuntimeImage, labels_of
from windward_api.greenregion import GreenRegion

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NODES = {"nodeSelector": {"zone": "north"}}
REGION = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE", **NODES}})
SIZED = {"name": "main", "image": "x", "command": ["true"], "resources": {"requests": {"cpu": "2", "amd.com/gpu": 1}}}
POD = {"spec": {"containers": [SIZED]}}
INDEXED = {"parallelism": 2, "completions": 4, "completionMode": "Indexed", "template": POD}
PATCH = {"template": {"spec": {"replicatedJobs": [{"name": "launcher"}]}}}
WORKS = {  # of each kind, by the engine's kind
    "Workload": {"template": POD},
    "Job": {"template": POD},
    "JobTemplate": {"jobTemplate": {"metadata": {"labels": {"team": "a"}}, "spec": INDEXED}},
    "JobSet": {
        "jobSetTemplate": {
            "metadata": {"annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "rack"}},
            "spec": {
                "replicatedJobs": [
                    {"name": "leader", "template": {"spec": {"template": POD}}},
                    {"name": "workers", "replicas": 2, "template": {"spec": {"parallelism": 2, "template": POD}}},
                ]
            },
        }
    },
    "TrainJob": {
        "trainJobTemplate": {
            "spec": {
                "runtimeRef": {"name": "torch"},
                "trainer": {
                    "numNodes": 3, "env": [{"name": "WINDWARD_JOB", "value": "mine"}],
                    "resourcesPerNode": {"requests": {"cpu": "2"}},
                },
                "runtimePatches": [{"manager": "me.example/x", "trainingRuntimeSpec": PATCH}],
            }
        }
    },
}  # fmt: skip
KINDS = {"JobTemplate": "Job"}


def facts(work="Job", attempt=3, level="slow", region=REGION, **more):
    levels = {"watts": 360, "levels": [{"name": "slow", "watts": 120, "duration": "4h"}]}
    spec = {"power": levels, "template": None} | WORKS[work] | more
    return RunFacts(greenjob(**spec), attempt, region, level=level)


def rendered(engine, work, **more):
    return engine.render(facts(work, **more), RuntimeImage("w:1"))


def stamp(minutes):
    return (NOON + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def stored(engine, work, status=None, suspend=None, **meta):
    """An object as the API server would return it."""
    body = copy.deepcopy(rendered(engine, work))
    body["metadata"] |= {"uid": "child-1", "creationTimestamp": stamp(0), **meta}
    body["spec"] |= {} if suspend is None else {"suspend": suspend}
    return body | ({"status": status} if status is not None else {})


def between(engine):
    """Objects that stand between a pod and its engine's object, the nearest to the pod first; with our labels."""
    out, above = [], "child-1"
    for kind, owner in list(zip(engine.pod_owners, engine.pod_owners[1:], strict=False))[::-1]:
        uid = f"{kind}-below"
        owners = [{"kind": owner, "uid": above, "controller": True}]
        out.append((kind, {"metadata": {"uid": uid, "namespace": "ml", "name": uid, "ownerReferences": owners}}))
        above = uid
    return out[::-1]


def pod(engine, name="p", running=None, terminated=None, index=None, message="", **meta):
    """A pod of `stored`; minutes since noon: `running` since, `terminated` (from, to, code)."""
    state = {"waiting": {"reason": "ContainerCreating"}}
    if running is not None:
        state = {"running": {"startedAt": stamp(running)}}
    if terminated is not None:
        begun, ended, code = terminated
        state = {"terminated": {"startedAt": stamp(begun), "finishedAt": stamp(ended), "exitCode": code}}
        state["terminated"]["message"] = message
    below = between(engine)
    kind, uid = (below[0][0], below[0][1]["metadata"]["uid"]) if below else (engine.pod_owners[0], "child-1")
    owner = {"kind": kind, "uid": uid, "controller": True}
    whole = {"name": name, "uid": f"uid-{name}", "namespace": "ml", "ownerReferences": [owner], **meta}
    if index is not None:
        whole["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
    spec, status = {"containers": [{"name": "main"}], "nodeName": "n1"}, {"containerStatuses": [{"name": "main"}]}
    status["containerStatuses"][0]["state"] = state
    return {"metadata": whole, "spec": spec, "status": status}


def labelled(body, work):
    body["metadata"]["labels"] = labels_of(facts(work))
    return body


def condition(kind, minutes, reason="", message=""):
    return {
        "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": stamp(minutes),
    }  # fmt: skip
