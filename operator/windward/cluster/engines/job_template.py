"""The engine for batch/v1 Jobs of several pods, from a GreenJob's `jobTemplate`."""

from __future__ import annotations

from windward.cluster.engines.group import GroupEngine
from windward.cluster.engines.port import Body, Resource
from windward.manifests import render_job_template


def _expected_pods(job: Body) -> int:
    spec = job.get("spec") or {}
    completions = spec.get("completions")
    return int(spec.get("parallelism") or 1) if completions is None else int(completions)


def _done(job: Body) -> bool:
    """Whether all completions were counted; without completions, only its condition says so."""
    status, completions = job.get("status") or {}, (job.get("spec") or {}).get("completions")
    uncounted = (status.get("uncountedTerminatedPods") or {}).get("succeeded") or ()  # seen, and counted in a moment
    return completions is not None and int(status.get("succeeded") or 0) + len(uncounted) >= int(completions)


def _active(job: Body) -> bool:
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    return bool(status.get("active") or status.get("terminating") or any(uncounted.values()))


JOB_TEMPLATE = GroupEngine(
    Resource("batch", "v1", "jobs", "Job"),
    pod_owners=("Job",),
    complete="Complete",
    manifest=render_job_template,
    expected_pods=_expected_pods,
    done=_done,
    active=_active,
)
