"""The engine for batch/v1 Jobs: one Job for each attempt, with one pod, or with those of a `jobTemplate`
(`engines.job_template`).

The one pod shows how a run ended: exit code and termination message. The pod of a paused run is deleted soon after;
then the end that a watch saw and the counts in the Job's status tell it, and after these the GreenJob's own status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from windward.cluster.engines.job_template import JOB_TEMPLATE
from windward.cluster.engines.port import Attempt, Body, Requests, Rights
from windward.cluster.kube_pods import PodEnd, controller_of, current_pod, moment, pod_end, trouble_of
from windward.domain.run import Phase, Run, Trouble, TroubleReason, phase_of_exit
from windward.lifecycle.work import demand_of
from windward.manifests import RunFacts, render_job, render_job_template
from windward.manifests.pod import LABEL_UID, LABEL_WORK, PAUSED_AT, RuntimeImage
from windward_api.contract import EXIT_PAUSED, heard, printable
from windward_api.greenjob import GreenJob, GreenJobSpec
from windward_api.greenjob_status import RunStatus
from windward_api.scalars import format_time

JOB_TEMPLATE_FIELD = "jobTemplate"
_PAUSE_EXIT_CODES = (EXIT_PAUSED, 128 + 15, 128 + 9)
NO_POD_AFTER = timedelta(seconds=15)


class JobEngine:
    """See `Engine`. A Job says by a label whether it is a group of pods."""

    resource = JOB_TEMPLATE.resource
    pod_owners = JOB_TEMPLATE.pod_owners
    rights = (
        Rights("batch", "jobs", ("create", "get", "list", "patch")),
        Rights("", "pods", ("delete",)),
    )

    def accepts(self, job: GreenJob) -> bool:
        return job.spec.work_kind.child == self.resource.kind

    def demand(self, spec: GreenJobSpec) -> Mapping[str, float]:
        return demand_of(spec)

    def render(self, facts: RunFacts, runtime: RuntimeImage) -> dict[str, Any]:
        return (render_job_template if facts.job.spec.work_kind.is_group else render_job)(facts, runtime)

    def observe(self, attempt: Attempt) -> Run | None:
        if _is_group(attempt.child or current_pod(attempt.pods)):
            return JOB_TEMPLATE.observe(attempt)
        child, kept, now = attempt.child, attempt.kept, attempt.now
        pause_requested, pod = child is None or _pause_requested(child), current_pod(attempt.pods)
        end = (pod_end(pod) if pod is not None else None) or (attempt.seen[-1] if attempt.seen else None)
        if end is not None:
            return _ended(attempt.run, end, pause_requested, kept, now)
        if pod is not None:
            return _living(attempt.run, pod, now)
        if kept is not None and not Phase(kept.phase).live and not _succeeded(child or {}):
            return None
        return _podless(attempt.run, child or {}, pause_requested, kept, now)

    def pause(self, api: Requests, job: GreenJob, child: Body, now: datetime) -> None:
        """Deletes the one pod with its grace period; the Job counts how it ended (docs/decisions/0014). Suspends a
        group."""
        if _is_group(child):
            JOB_TEMPLATE.pause(api, job, child, now)
            return
        namespace, meta = job.metadata.namespace, child["metadata"]
        path = self.resource.path(namespace, meta["name"])
        if PAUSED_AT not in (meta.get("annotations") or {}):
            api.patch(path, {"metadata": {"annotations": {PAUSED_AT: format_time(now)}}})
        listed = api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"{LABEL_UID}={job.metadata.uid}")
        pods = [p for p in listed if controller_of(p["metadata"]) == (self.resource.kind, meta["uid"])]
        if not pods:  # none yet: then none is to be made
            api.patch(path, {"spec": {"suspend": True}})
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"] and pod_end(pod) is None:
                name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
                api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", uid=uid)


def _is_group(witness: Body | None) -> bool:
    """Whether a Job, or a pod of it, is of a `jobTemplate`."""
    labels = (witness or {}).get("metadata", {}).get("labels") or {}
    return labels.get(LABEL_WORK) == JOB_TEMPLATE_FIELD


def _pause_requested(child: Body) -> bool:
    """Whether a run was asked to pause. Its pod may still run: the operator can end between the two writes."""
    annotated = PAUSED_AT in (child["metadata"].get("annotations") or {})
    return annotated or bool(child["spec"].get("suspend")) or "deletionTimestamp" in child["metadata"]


def _ended(base: Run, end: PodEnd, pause_requested: bool, kept: RunStatus | None, now: datetime) -> Run:
    """A run whose pod ended; without an exit code, a pause that was asked for is taken from the status."""
    if end.code < 0 and pause_requested:
        over = kept.finished_at if kept is not None and kept.finished_at is not None else now
        return replace(_paused(base, kept.started_at if kept is not None else None, over), pod_uid=end.pod_uid)
    words = heard(end.message)
    message = words.report.message if words.report is not None else printable(end.message)
    if words.set_aside:
        message = f"{message}; of its report was set aside: {'; '.join(words.set_aside)}".strip("; ")
    phase = phase_of_exit(end.code)
    if phase is Phase.FAILED and pause_requested and end.code in _PAUSE_EXIT_CODES:
        phase = Phase.PAUSED
        message = f"ended with {end.code} instead of {EXIT_PAUSED}: it does not honour the pause contract"
    elif phase is Phase.FAILED and end.disrupted:
        phase, message = Phase.LOST, message or "its node was lost or drained"
    return replace(
        base,
        phase=phase,
        pod_uid=end.pod_uid,
        started_at=end.started_at,
        finished_at=end.finished_at,
        exit_code=end.code if end.code >= 0 else None,
        report=words.report,
        message=message[:512],
        pause_requested=pause_requested,
    )


def _living(base: Run, pod: Body, now: datetime) -> Run:
    """A run whose pod has not ended. It is running until its pod is being deleted, so a pause is asked for again."""
    status = pod.get("status") or {}
    deleting = "deletionTimestamp" in pod["metadata"]
    states = [(c.get("state") or {}) for c in status.get("containerStatuses") or []]
    running = next((s["running"] for s in states if "running" in s), None)
    phase = Phase.STOPPING if deleting else Phase.RUNNING if running is not None else Phase.STARTING
    trouble = trouble_of(pod, now)
    return replace(
        base,
        phase=phase,
        pod_uid=str(pod["metadata"]["uid"]),
        started_at=moment(running.get("startedAt")) if running is not None else None,
        message=printable(str(trouble))[:512] if trouble is not None else "",
        trouble=trouble,
    )


def _succeeded(child: Body) -> bool:
    """Whether the Job controller counted a pod that ended with 0, which outlives the pod."""
    status = child.get("status") or {}
    complete = any(c.get("type") == "Complete" and c.get("status") == "True" for c in status.get("conditions") or [])
    uncounted = (status.get("uncountedTerminatedPods") or {}).get("succeeded")  # seen, and counted in a moment
    return complete or bool(uncounted) or int(status.get("succeeded") or 0) > 0


def _podless(base: Run, child: Body, pause_requested: bool, kept: RunStatus | None, now: datetime) -> Run:
    """A run whose Job has no pod: not yet, or no longer."""
    status = child.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or [] if c.get("status") == "True"}
    started = kept.started_at if kept is not None else None
    if _succeeded(child):
        last: Body = next((conditions[k] for k in ("Complete", "Failed", "Suspended") if k in conditions), {})
        done = moment(status.get("completionTime")) or moment(last.get("lastTransitionTime"))
        begun = started or moment(status.get("startTime"))
        return replace(base, phase=Phase.SUCCEEDED, started_at=begun, finished_at=done, exit_code=0)
    going = bool(status.get("active") or status.get("terminating") or status.get("uncountedTerminatedPods"))
    over = "Failed" in conditions or bool(child["spec"].get("suspend")) or "deletionTimestamp" in child["metadata"]
    if pause_requested and over and not going:
        return _paused(base, started, _over_at(conditions) or now)
    if pause_requested and (over or going):
        return replace(base, phase=Phase.STOPPING, started_at=started)
    if "Failed" in conditions:
        failed = moment(conditions["Failed"].get("lastTransitionTime"))
        message = "its pod is gone without a word"
        return replace(base, phase=Phase.LOST, started_at=started, finished_at=failed, message=message)
    created = moment(child.get("metadata", {}).get("creationTimestamp"))
    if created is None or now < created + NO_POD_AFTER:
        return base
    trouble = Trouble(
        TroubleReason.POD_MISSING,
        f"Job {base.name} has no pod",
        f"a quota or an admission policy may refuse it: kubectl -n {child['metadata'].get('namespace', '')} "
        f"describe job {base.name}",
        created,
    )
    return replace(base, message=str(trouble), trouble=trouble)


def _paused(base: Run, started: datetime | None, at: datetime) -> Run:
    message = "ended before it could report" if started is not None else "never started"
    return replace(base, phase=Phase.PAUSED, started_at=started, finished_at=at, message=message, pause_requested=True)


def _over_at(conditions: Mapping[Any, Body]) -> datetime | None:
    """When the Job controller observed that no pod of a run is left."""
    last = conditions.get("Failed") or conditions.get("Suspended")
    return moment(last.get("lastTransitionTime")) if last is not None else None
