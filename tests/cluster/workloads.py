"""Workloads of three kinds as a team has them, the queue that they go through, and what their containers do."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cluster.kube.cluster import FAKE_DURATION
from cluster.kube.node import REGION

from windward_api.managed import STATUS

Body = dict[str, Any]
IMAGE = "ghcr.io/windward-dev/windward-worker:0.1.0"
# Counts seconds in a file that outlives its pod, notes when it starts and stops, and keeps the pause contract.
SCRIPT = """
f=/scratch/$NAME-$JOB_OF_SET-${JOB_COMPLETION_INDEX:-0}; n=$(cat $f 2>/dev/null || echo 0)
note() { echo "$1 $(date +%s) $n" >> $f.log; }
trap 'note paused; exit 75' TERM; note start
while [ $n -lt $SECONDS_OF_WORK ]; do sleep 1 & wait $!; n=$((n+1)); echo $n > $f; done
note done
"""


def recording(
    namespace: str, now: datetime, clean: Callable[[datetime], bool], g_per_kwh: tuple[int, int] = (40, 400)
) -> Body:
    """A ConfigMap with a grid by the minute, two hours from half an hour ago on: the first intensity in clean minutes,
    the second in all others."""
    rows, start = ["zone,timestamp_utc,carbon_intensity_gco2_kwh"], now.replace(second=0, microsecond=0)
    for minute in range(-30, 120):
        at = start + timedelta(minutes=minute)
        rows.append(f"GB,{at:%Y-%m-%dT%H:%M:%SZ},{g_per_kwh[0] if clean(at) else g_per_kwh[1]}")
    kind = {"signal": "Average", "scope": "LifeCycle", "basis": "Consumption", "attribution": "not a real grid"}
    data = {"trace.csv": "\n".join(rows) + "\n", "trace.json": json.dumps(kind)}
    meta = {"name": "recording", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def queue(region: str, cpu: str = "64") -> list[Body]:
    """A flavor of real and of fake nodes of a region, and its ClusterQueue."""
    kueue, node_labels = "kueue.x-k8s.io/v1beta2", {REGION: region}
    tolerations = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    flavor = {"nodeLabels": node_labels, "tolerations": tolerations}
    quota = {"name": region, "resources": [{"name": "cpu", "nominalQuota": cpu}]}
    group = {"coveredResources": ["cpu"], "flavors": [quota]}
    return [
        {"apiVersion": kueue, "kind": "ResourceFlavor", "metadata": {"name": region}, "spec": flavor},
        {
            "apiVersion": kueue,
            "kind": "ClusterQueue",
            "metadata": {"name": region},
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
    ]


def pod(name: str, seconds: int, node: str = "north") -> Body:
    of_set = {"fieldRef": {"fieldPath": "metadata.labels['jobset.sigs.k8s.io/job-index']"}}
    env = [
        {"name": "NAME", "value": name},
        {"name": "SECONDS_OF_WORK", "value": str(seconds)},
        {"name": "JOB_OF_SET", "valueFrom": of_set},
    ]
    container = {
        "name": "main", "image": IMAGE, "command": ["sh", "-c", SCRIPT], "env": env,
        "resources": {"requests": {"cpu": "50m"}}, "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }  # fmt: skip
    return {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 10, "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": node},
        "volumes": [{"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}}],
    }  # fmt: skip


def labelled(queued: bool) -> Body:
    return {"windward.dev/managed": "true", **({"kueue.x-k8s.io/queue-name": "team"} if queued else {})}


def job(name: str, spec: Body, *, queued: bool = True, **more: Any) -> Body:
    template = {"spec": spec, "metadata": more.pop("pod_metadata", {})}
    body = {"template": template, "backoffLimit": 4, **more}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labelled(queued)},
        "spec": body,
    }


def job_set(name: str, spec: Body, replicas: int = 2, pod_metadata: Body | None = None) -> Body:
    template = {"spec": {"backoffLimit": 4, "template": {"metadata": pod_metadata or {}, "spec": spec}}}
    replicated = {"name": "workers", "replicas": replicas, "template": template}
    meta = {"name": name, "labels": labelled(True)}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": meta,
        "spec": {"replicatedJobs": [replicated]},
    }  # fmt: skip


def train_job(name: str, runtime: str, nodes: int = 2) -> Body:
    spec = {
        "runtimeRef": {"name": runtime, "kind": "TrainingRuntime"},
        "trainer": {"numNodes": nodes, "resourcesPerNode": {"requests": {"cpu": "50m"}}},
    }
    meta = {"name": name, "labels": labelled(True)}
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": meta, "spec": spec}


def runtime(name: str, spec: Body, pod_metadata: Body | None = None) -> Body:
    spec = {**spec, "containers": [{**spec["containers"][0], "name": "node"}]}
    template = {
        "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
        "spec": {"template": {"metadata": pod_metadata or {}, "spec": spec}},
    }
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime",
        "metadata": {"name": name, "labels": {"trainer.kubeflow.org/framework": "torch"}},
        "spec": {
            "mlPolicy": {"numNodes": 1, "torch": {}},
            "template": {"spec": {"replicatedJobs": [{"name": "node", "template": template}]}},
        },
    }  # fmt: skip


def status(body: Body) -> Body:
    told = (body["metadata"].get("annotations") or {}).get(STATUS, "")
    return dict(json.loads(told)["status"]) if told else {}


def state(body: Body) -> str:
    return str(status(body).get("summary", {}).get("state"))


def fake_pod(seconds: int) -> tuple[Body, Body]:
    """A pod that pretends to work on a fake node of north, and its metadata."""
    container = {"name": "main", "image": "none", "resources": {"requests": {"cpu": "1"}}}
    tolerations = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    spec = {
        "restartPolicy": "Never", "containers": [container], "tolerations": tolerations,
        "nodeSelector": {"type": "kwok", REGION: "north"},
    }  # fmt: skip
    return spec, {"annotations": {FAKE_DURATION: f"{seconds}s"}}
