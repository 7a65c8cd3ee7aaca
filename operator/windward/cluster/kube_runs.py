"""From Jobs and pods, as JSON, to the runs of one GreenJob. Pure.

A child is ours by namespace, controller ownerReference and deterministic name; a pod by the uid of its Job. Labels only
select what is listed: anybody may copy them.

A pod says how a run ended: its exit code and last words. When a run is paused its pod is removed soon after; what a
watch saw of it last (`seen`) and what the Job itself counted are then the witnesses, and after that what the GreenJob's
own status kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from windward.cluster.kube_pods import PodEnd, controller_of, moment, pod_end, trouble_of
from windward.domain.run import Phase, Run, Trouble, TroubleReason, phase_of_exit, run_name
from windward.lifecycle.bounds import within_bounds
from windward.lifecycle.work import most_power_w
from windward.manifests.job import LABEL_ATTEMPT, LABEL_LEVEL, LABEL_REGION, PAUSED_AT
from windward_api.contract import EXIT_PAUSED, heard, printable
from windward_api.greenjob import GreenJob, RunStatus

Body = Mapping[str, Any]
_ASKED_ENDS = (EXIT_PAUSED, 128 + 15, 128 + 9)
NO_POD_AFTER = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class _Context:
    """What all runs of one job are read with.

    Attributes:
        seen: uid of a Job -> end of its pod, as a watch saw it.
    """

    job: GreenJob
    seen: Mapping[str, PodEnd]
    now: datetime
    most_power_w: float


def runs_of(
    job: GreenJob, jobs: Iterable[Body], pods: Iterable[Body], seen: Mapping[str, PodEnd], now: datetime
) -> tuple[Run, ...]:
    """Returns the runs of a GreenJob, by attempt.

    Args:
        jobs, pods: what carries its label; strangers among them are left out.
        seen: uid of a Job -> end of its pod, as a watch saw it.
    """
    context = _Context(job, seen, now, most_power_w(job.spec))
    children = {attempt_of(j): j for j in jobs if is_child(job, j)}
    kept = {r.attempt: r for r in job.status.runs}
    attempt_by_uid = {r.uid: r.attempt for r in kept.values() if r.uid}
    attempt_by_uid |= {str(j["metadata"]["uid"]): n for n, j in children.items()}
    by_attempt: dict[int, Body] = {}
    for pod in pods:
        kind, uid = controller_of(pod["metadata"])
        n = attempt_by_uid.get(uid) if kind == "Job" and _namespace(pod) == job.metadata.namespace else None
        if n is not None and (n not in by_attempt or pod_end(by_attempt[n]) is not None):
            by_attempt[n] = pod  # of two pods of one Job the one that goes on counts
    attempts = sorted(({*children, *by_attempt, *kept}) - {0})
    return tuple(_run(context, n, children.get(n), by_attempt.get(n), kept.get(n)) for n in attempts)


def is_child(job: GreenJob, child: Body) -> bool:
    """Whether a Job is a run of `job`: by namespace, controller (kind and uid) and deterministic name."""
    meta = child["metadata"]
    name = run_name(job.metadata.name, job.metadata.uid, attempt_of(child))
    mine = controller_of(meta) == ("GreenJob", job.metadata.uid)
    return mine and _namespace(child) == job.metadata.namespace and meta.get("name") == name


def _namespace(body: Body) -> str:
    return str(body["metadata"].get("namespace", ""))


def attempt_of(child: Body) -> int:
    """Returns the attempt that a child belongs to; 0 for a label that is no number."""
    text = str((child["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, ""))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _run(context: _Context, attempt: int, job: Body | None, pod: Body | None, kept: RunStatus | None) -> Run:
    child = job or pod
    if child is None:
        assert kept is not None
        phase = Phase(kept.phase)
        return _kept(kept, Phase.LOST if phase.live else phase)
    labels = child["metadata"].get("labels") or {}
    meta = context.job.metadata
    told = job is None or _told(job)
    uid = str(job["metadata"]["uid"]) if job is not None else controller_of(child["metadata"])[1]
    end = (pod_end(pod) if pod is not None else None) or context.seen.get(uid)
    base = Run(
        run_name(meta.name, meta.uid, attempt), attempt, str(labels.get(LABEL_REGION, "")), Phase.STARTING,
        level=str(labels.get(LABEL_LEVEL, "")), uid=uid,
    )  # fmt: skip
    created = moment(child["metadata"].get("creationTimestamp")) or meta.creation_timestamp or context.now
    if end is not None:
        run = _ended(base, end, told, kept, context.now)
    elif pod is not None:
        run = _living(base, pod, context.now)
    elif kept is not None and not Phase(kept.phase).live and not _succeeded(job or {}):
        return _kept(kept, Phase(kept.phase))
    else:
        run = _podless(base, job or {}, told, kept, context.now)
    return within_bounds(run, created, context.now, context.most_power_w)


def _told(job: Body) -> bool:
    """Whether a run was told to pause. That its pod goes is another matter: whoever told it may have died before."""
    annotated = PAUSED_AT in (job["metadata"].get("annotations") or {})
    return annotated or bool(job["spec"].get("suspend")) or "deletionTimestamp" in job["metadata"]


def _ended(base: Run, end: PodEnd, told: bool, kept: RunStatus | None, now: datetime) -> Run:
    """A run whose pod ended; of one that no container told the end of, what the status kept."""
    if end.code < 0 and told:
        over = kept.finished_at if kept is not None and kept.finished_at is not None else now
        return replace(_paused(base, kept.started_at if kept is not None else None, over), pod_uid=end.pod_uid)
    words = heard(end.message)
    message = words.report.message if words.report is not None else printable(end.message)
    if words.set_aside:
        message = f"{message}; of its report was set aside: {'; '.join(words.set_aside)}".strip("; ")
    phase = phase_of_exit(end.code)
    if phase is Phase.FAILED and told and end.code in _ASKED_ENDS:
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
        asked=told,
    )


def _living(base: Run, pod: Body, now: datetime) -> Run:
    """A pod that has not ended. One that was to go and is not being deleted is told again: it runs."""
    status = pod.get("status") or {}
    told = "deletionTimestamp" in pod["metadata"]
    states = [(c.get("state") or {}) for c in status.get("containerStatuses") or []]
    running = next((s["running"] for s in states if "running" in s), None)
    phase = Phase.STOPPING if told else Phase.RUNNING if running is not None else Phase.STARTING
    trouble = trouble_of(pod, now)
    return replace(
        base,
        phase=phase,
        pod_uid=str(pod["metadata"]["uid"]),
        started_at=moment(running.get("startedAt")) if running is not None else None,
        message=printable(str(trouble))[:512] if trouble is not None else "",
        trouble=trouble,
    )


def _succeeded(job: Body) -> bool:
    """Whether the Job controller counted a pod that ended with 0: a witness that outlives the pod and us."""
    status = job.get("status") or {}
    complete = any(c.get("type") == "Complete" and c.get("status") == "True" for c in status.get("conditions") or [])
    uncounted = (status.get("uncountedTerminatedPods") or {}).get("succeeded")  # seen, and counted in a moment
    return complete or bool(uncounted) or int(status.get("succeeded") or 0) > 0


def _podless(base: Run, job: Body, told: bool, kept: RunStatus | None, now: datetime) -> Run:
    """A Job whose pod is not there: not yet, or not any more."""
    status = job.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or [] if c.get("status") == "True"}
    started = kept.started_at if kept is not None else None
    if _succeeded(job):
        last: Body = next((conditions[k] for k in ("Complete", "Failed", "Suspended") if k in conditions), {})
        done = moment(status.get("completionTime")) or moment(last.get("lastTransitionTime"))
        begun = started or moment(status.get("startTime"))
        return replace(base, phase=Phase.SUCCEEDED, started_at=begun, finished_at=done, exit_code=0)
    going = bool(status.get("active") or status.get("terminating") or status.get("uncountedTerminatedPods"))
    over = "Failed" in conditions or bool(job["spec"].get("suspend")) or "deletionTimestamp" in job["metadata"]
    if told and over and not going:
        return _paused(base, started, _over_at(conditions) or now)
    if told and (over or going):
        return replace(base, phase=Phase.STOPPING, started_at=started)
    if "Failed" in conditions:
        failed = moment(conditions["Failed"].get("lastTransitionTime"))
        message = "its pod is gone without a word"
        return replace(base, phase=Phase.LOST, started_at=started, finished_at=failed, message=message)
    created = moment(job.get("metadata", {}).get("creationTimestamp"))
    if created is None or now < created + NO_POD_AFTER:
        return base
    trouble = Trouble(
        TroubleReason.POD_MISSING,
        f"Job {base.name} has no pod",
        f"a quota or an admission policy may refuse it: kubectl -n {job['metadata'].get('namespace', '')} "
        f"describe job {base.name}",
        created,
    )
    return replace(base, message=str(trouble), trouble=trouble)


def _paused(base: Run, started: datetime | None, at: datetime) -> Run:
    message = "ended before it could report" if started is not None else "never started"
    return replace(base, phase=Phase.PAUSED, started_at=started, finished_at=at, message=message, asked=True)


def _over_at(conditions: Mapping[Any, Body]) -> datetime | None:
    """When the Job controller saw that nothing of a run goes on."""
    last = conditions.get("Failed") or conditions.get("Suspended")
    return moment(last.get("lastTransitionTime")) if last is not None else None


def _kept(kept: RunStatus, phase: Phase) -> Run:
    return Run(
        kept.name, kept.attempt, kept.region, phase, started_at=kept.started_at, finished_at=kept.finished_at,
        exit_code=kept.exit_code, message=kept.message, asked=phase is Phase.PAUSED,
        level=kept.power_level, uid=kept.uid,
    )  # fmt: skip
