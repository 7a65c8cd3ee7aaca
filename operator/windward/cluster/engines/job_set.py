"""The engine for JobSets (jobset.x-k8s.io/v1alpha2), from a GreenJob's `jobSetTemplate`.

A pod belongs to a Job, and that one to the JobSet. Both Jobs and pods have the labels of the run, so that all three are
listed and joined by their owner references.
"""

from __future__ import annotations

from windward.cluster.engines.group import GroupEngine
from windward.cluster.engines.port import Body, Resource
from windward.manifests import render_job_set


def _expected_pods(job_set: Body) -> int:
    total = 0
    for job in (job_set.get("spec") or {}).get("replicatedJobs") or []:
        spec = job["template"]["spec"]
        completions = spec.get("completions")
        pods = spec.get("parallelism", 1) if completions is None else completions
        total += int(job.get("replicas", 1)) * int(pods)
    return total


def _done(job_set: Body) -> bool:
    """Whether all Jobs that its success policy names were counted, or one where it asks for any."""
    spec = job_set.get("spec") or {}
    policy, replicas = (
        spec.get("successPolicy") or {},
        {j["name"]: j.get("replicas", 1) for j in spec["replicatedJobs"]},
    )
    targets = set(policy.get("targetReplicatedJobs") or replicas)
    counts = (job_set.get("status") or {}).get("replicatedJobsStatus") or []
    succeeded = {c.get("name"): int(c.get("succeeded") or 0) for c in counts}
    if policy.get("operator") == "Any":
        return any(succeeded.get(name, 0) > 0 for name in targets)
    return all(succeeded.get(name, 0) >= int(replicas.get(name, 1)) for name in targets)


def _active(job_set: Body) -> bool:
    return any(c.get("active") for c in (job_set.get("status") or {}).get("replicatedJobsStatus") or [])


JOB_SET = GroupEngine(
    Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet"),
    pod_owners=("Job", "JobSet"),
    complete="Completed",
    manifest=render_job_set,
    expected_pods=_expected_pods,
    done=_done,
    active=_active,
)
