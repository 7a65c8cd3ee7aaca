"""The engine for TrainJobs of Kubeflow Trainer (trainer.kubeflow.org/v1alpha1), from a GreenJob's `trainJobTemplate`.

A TrainJob becomes a JobSet of the same name. What its runtime runs beside the replicated jobs that the TrainJob names
has no labels of the run: it is counted by the TrainJob alone (docs/groups-of-pods.md).
"""

from __future__ import annotations

from windward.cluster.engines.group import GroupEngine
from windward.cluster.engines.port import Body, Resource
from windward.manifests import render_train_job
from windward_api.group_templates import PATCH_MANAGER


def _expected_pods(train_job: Body) -> int:
    """The trainer's nodes, and one pod of each other replicated job that our patch names."""
    spec = train_job.get("spec") or {}
    patches = {p.get("manager"): p.get("trainingRuntimeSpec") or {} for p in spec.get("runtimePatches") or []}
    jobs = ((patches.get(PATCH_MANAGER) or {}).get("template") or {}).get("spec", {}).get("replicatedJobs") or [{}]
    return int((spec.get("trainer") or {}).get("numNodes") or 1) + len(jobs) - 1


def _done(train_job: Body) -> bool:
    """Whether each of its Jobs was counted; in a runtime there is one of each."""
    counts = (train_job.get("status") or {}).get("jobsStatus") or []
    return bool(counts) and all(int(c.get("succeeded") or 0) > 0 for c in counts)


def _active(train_job: Body) -> bool:
    return any(c.get("active") for c in (train_job.get("status") or {}).get("jobsStatus") or [])


TRAIN_JOB = GroupEngine(
    Resource("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob"),
    pod_owners=("Job", "JobSet", "TrainJob"),
    complete="Complete",
    manifest=render_train_job,
    expected_pods=_expected_pods,
    done=_done,
    active=_active,
)
