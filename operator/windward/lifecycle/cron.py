"""GreenCronJob: the tick opens a window, the planner picks inside it.

The scheduled time is in the child's name, so that a tick that is handled twice still makes one job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from windward_api.greencronjob import ConcurrencyPolicy, GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.meta import API_VERSION
from windward_api.scalars import format_time

CRON_LABEL = "windward.dev/cron-job"
SCHEDULED_ANNOTATION = "windward.dev/scheduled-at"


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create this GreenJob."""

    body: dict[str, Any]
    scheduled_at: datetime


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """Delete this GreenJob: replaced, or beyond the history limits."""

    name: str
    why: str


CronAction = CreateJob | RemoveJob


def decide_cron(
    cron: GreenCronJob, jobs: Sequence[GreenJob], ticks: Sequence[datetime], now: datetime
) -> list[CronAction]:
    """What is due.

    Args:
        cron: the schedule.
        jobs: the GreenJobs that it made, in any state.
        ticks: scheduled times after the last one handled, up to now, in order.
        now: the time.

    Only the newest tick that is still worth opening counts: after a long outage one window is opened, not many.
    """
    if cron.metadata.deletion_timestamp is not None:
        return []
    out: list[CronAction] = []
    active = [j for j in jobs if not _ended(j)]
    due = [t for t in ticks if _worth(cron, t, now)]
    if due and not cron.spec.suspend:
        tick = due[-1]
        policy = cron.spec.concurrency_policy
        fresh = [j for j in active if j.metadata.name != job_name(cron, tick)]
        if policy is ConcurrencyPolicy.REPLACE:
            out += [RemoveJob(j.metadata.name, f"replaced by the window of {format_time(tick)}") for j in fresh]
        if policy is not ConcurrencyPolicy.FORBID or not fresh:
            out.append(CreateJob(job_body(cron, tick), tick))
    return out + _history(cron, jobs)


def _worth(cron: GreenCronJob, tick: datetime, now: datetime) -> bool:
    """Whether a tick can still be opened: within its starting deadline, or while the job fits its window."""
    late = cron.spec.starting_deadline_seconds
    if late is not None:
        return tick <= now <= tick + timedelta(seconds=late)
    slack = cron.spec.window - cron.spec.job_template.spec.duration
    return tick <= now <= tick + max(slack, timedelta(seconds=60))  # a window without slack is opened by a sweep too


def job_name(cron: GreenCronJob, tick: datetime) -> str:
    """`<name>-<minutes since the epoch>`, as CronJob names its Jobs: the same for the same tick."""
    suffix = str(int(tick.timestamp()) // 60)
    return f"{cron.metadata.name[: 62 - len(suffix)].rstrip('-')}-{suffix}"


def job_body(cron: GreenCronJob, tick: datetime) -> dict[str, Any]:
    """The GreenJob of one tick; the window's end is its finish-by time."""
    template = cron.spec.job_template
    spec = template.spec.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    spec["deadline"] = format_time(tick + cron.spec.window)
    owner = {
        "apiVersion": API_VERSION, "kind": "GreenCronJob", "name": cron.metadata.name, "uid": cron.metadata.uid,
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    return {
        "apiVersion": API_VERSION,
        "kind": "GreenJob",
        "metadata": {
            "name": job_name(cron, tick),
            "namespace": cron.metadata.namespace,
            "labels": {**template.metadata.labels, CRON_LABEL: cron.metadata.name},
            "annotations": {**template.metadata.annotations, SCHEDULED_ANNOTATION: format_time(tick)},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _ended(job: GreenJob) -> bool:
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions)


def _history(cron: GreenCronJob, jobs: Sequence[GreenJob]) -> list[CronAction]:
    """The oldest ended jobs beyond each limit."""
    out: list[CronAction] = []
    for kind, limit in (
        ("Complete", cron.spec.successful_jobs_history_limit),
        ("Failed", cron.spec.failed_jobs_history_limit),
    ):
        ended = [j for j in jobs if any(c.type == kind and c.status == "True" for c in j.status.conditions)]
        ended.sort(key=lambda j: (j.status.finished_at is not None, j.status.finished_at, j.metadata.name))
        surplus = ended[: max(0, len(ended) - limit)]
        out += [RemoveJob(j.metadata.name, f"beyond the history limit of {limit} {kind} jobs") for j in surplus]
    return out
