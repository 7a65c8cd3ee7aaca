"""From Jobs and pods, as JSON, to runs. Pure.

A pod says how a run ended: its exit code and last words. When a run is paused its pod is removed soon after; what a
watch saw of it last is then the only witness (`seen`), and after that what the GreenJob's own status kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from windward.domain.run import Phase, Run, phase_of_exit
from windward.manifests.job import LABEL_ATTEMPT, LABEL_LEVEL, LABEL_REGION, LABEL_UID
from windward_api.contract import EXIT_PAUSED, Report
from windward_api.greenjob import RunStatus

Body = Mapping[str, Any]
_ASKED_ENDS = (EXIT_PAUSED, 128 + 15, 128 + 9)
NO_POD_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class PodEnd:
    """How a pod's main container ended."""

    pod_uid: str
    code: int
    started_at: datetime | None
    finished_at: datetime | None
    message: str
    disrupted: bool


def pod_end(pod: Body) -> PodEnd | None:
    """How a pod ended; None while it has not."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if ended is not None:
            disrupted = any(
                c.get("type") == "DisruptionTarget" and c.get("status") == "True"
                for c in status.get("conditions") or []
            )
            return PodEnd(
                pod["metadata"]["uid"],
                int(ended.get("exitCode", 1)),
                moment(ended.get("startedAt")),
                moment(ended.get("finishedAt")),
                str(ended.get("message") or ended.get("reason") or ""),
                disrupted,
            )
    if status.get("phase") == "Failed":  # evicted or lost before a container could say anything
        return PodEnd(pod["metadata"]["uid"], -1, None, None, str(status.get("message") or ""), True)
    return None


def runs_of(
    jobs: Iterable[Body], pods: Iterable[Body], seen: Mapping[str, PodEnd], kept: Sequence[RunStatus], now: datetime
) -> tuple[Run, ...]:
    """Runs of one GreenJob, by attempt.

    Args:
        jobs, pods: the children that carry its uid.
        seen: run name -> end of its pod, as a watch saw it.
        kept: what the GreenJob's status says of earlier runs.
    """
    by_attempt = {attempt_of(j): j for j in jobs}
    pods_by_attempt = {attempt_of(p): p for p in pods}
    known = {r.attempt: r for r in kept}
    attempts = sorted(({*by_attempt, *pods_by_attempt, *known}) - {0})
    return tuple(_run(n, by_attempt.get(n), pods_by_attempt.get(n), seen, known.get(n), now) for n in attempts)


def attempt_of(child: Body) -> int:
    """The attempt that a child belongs to; 0 for a label that is no number."""
    text = str((child["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, ""))
    return int(text) if text.isdigit() else 0


def uid_of(child: Body) -> str:
    """The GreenJob that a child belongs to."""
    return str((child["metadata"].get("labels") or {}).get(LABEL_UID, ""))


def _run(
    attempt: int,
    job: Body | None,
    pod: Body | None,
    seen: Mapping[str, PodEnd],
    kept: RunStatus | None,
    now: datetime,
) -> Run:
    child = job or pod
    if child is None:
        assert kept is not None
        phase = Phase(kept.phase)
        return _kept(kept, Phase.LOST if phase.live else phase)
    labels = child["metadata"].get("labels") or {}
    name = job["metadata"]["name"] if job is not None else str(labels.get("batch.kubernetes.io/job-name", ""))
    told = job is None or _told(job)
    end = (pod_end(pod) if pod is not None else None) or seen.get(name)
    region, level = str(labels.get(LABEL_REGION, "")), str(labels.get(LABEL_LEVEL, ""))
    base = Run(name, attempt, region, Phase.STARTING, level=level)
    if end is not None:
        return _ended(base, end, told)
    if pod is not None:
        return _living(base, pod, told)
    if kept is not None and not Phase(kept.phase).live:
        return _kept(kept, Phase(kept.phase))
    return _podless(base, job or {}, told, kept, now)


def _told(job: Body) -> bool:
    return bool(job["spec"].get("suspend")) or "deletionTimestamp" in job["metadata"]


def _ended(base: Run, end: PodEnd, told: bool) -> Run:
    report = _report(end.message)
    message = report.message if report is not None else end.message
    phase = phase_of_exit(end.code)
    if phase is Phase.FAILED and told and end.code in _ASKED_ENDS:
        phase = Phase.PAUSED
        message = f"ended with {end.code} instead of {EXIT_PAUSED}: it does not honour the pause contract"
    elif phase is Phase.FAILED and end.disrupted:
        phase, message = Phase.LOST, message or "its node was lost or drained"
    return Run(
        name=base.name,
        attempt=base.attempt,
        region=base.region,
        phase=phase,
        pod_uid=end.pod_uid,
        started_at=end.started_at,
        finished_at=end.finished_at,
        exit_code=end.code if end.code >= 0 else None,
        report=report,
        message=message[:512],
        asked=told,
        level=base.level,
    )


def _living(base: Run, pod: Body, told: bool) -> Run:
    """A pod that has not ended."""
    status = pod.get("status") or {}
    told = told or "deletionTimestamp" in pod["metadata"]
    states = [(c.get("state") or {}) for c in status.get("containerStatuses") or []]
    running = next((s["running"] for s in states if "running" in s), None)
    waiting = next((s["waiting"] for s in states if "waiting" in s), None)
    phase = Phase.STOPPING if told else Phase.RUNNING if running is not None else Phase.STARTING
    message = ""
    if waiting is not None:
        message = f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": ")
    elif running is None:
        unscheduled = [c for c in status.get("conditions") or [] if c.get("type") == "PodScheduled"]
        message = next((str(c.get("message", "")) for c in unscheduled if c.get("status") == "False"), "")
    return Run(
        name=base.name,
        attempt=base.attempt,
        region=base.region,
        phase=phase,
        pod_uid=str(pod["metadata"]["uid"]),
        started_at=moment(running.get("startedAt")) if running is not None else None,
        message=message[:512],
        level=base.level,
    )


def _podless(base: Run, job: Body, told: bool, kept: RunStatus | None, now: datetime) -> Run:
    """A Job whose pod is not there: not yet, or not any more."""
    status = job.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or [] if c.get("status") == "True"}
    started = kept.started_at if kept is not None else None
    if "Complete" in conditions:
        done = moment(status.get("completionTime")) or moment(conditions["Complete"].get("lastTransitionTime"))
        return _with(base, Phase.SUCCEEDED, started or moment(status.get("startTime")), done, 0)
    if told and not status.get("active") and not status.get("terminating"):
        return _with(
            base, Phase.PAUSED, started, _suspended_at(conditions) or now, None, "ended before it could report"
        )
    if told:
        return _with(base, Phase.STOPPING, started, None, None)
    if "Failed" in conditions:
        failed = moment(conditions["Failed"].get("lastTransitionTime"))
        return _with(base, Phase.LOST, started, failed, None, "its pod is gone without a word")
    created = moment(job["metadata"].get("creationTimestamp"))
    message = ""
    if created is not None and now > created + NO_POD_AFTER:
        message = f"the Job has no pod after {NO_POD_AFTER.seconds} s: see kubectl describe job {base.name}"
    return _with(base, Phase.STARTING, None, None, None, message)


def _suspended_at(conditions: Mapping[Any, Body]) -> datetime | None:
    return moment(conditions["Suspended"].get("lastTransitionTime")) if "Suspended" in conditions else None


def _with(
    base: Run, phase: Phase, started: datetime | None, finished: datetime | None, code: int | None, message: str = ""
) -> Run:
    return Run(
        base.name, base.attempt, base.region, phase,
        started_at=started, finished_at=finished, exit_code=code, message=message, asked=phase is Phase.PAUSED,
        level=base.level,
    )  # fmt: skip


def _kept(kept: RunStatus, phase: Phase) -> Run:
    return Run(
        kept.name, kept.attempt, kept.region, phase, started_at=kept.started_at, finished_at=kept.finished_at,
        exit_code=kept.exit_code, message=kept.message, asked=phase is Phase.PAUSED,
        level=kept.power_level,
    )  # fmt: skip


def _report(message: str) -> Report | None:
    """A run's last words; a container that says something else said nothing to us."""
    try:
        return Report.model_validate_json(message)
    except ValidationError:
        return None


def moment(text: Any) -> datetime | None:
    """A Kubernetes time, or None."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
