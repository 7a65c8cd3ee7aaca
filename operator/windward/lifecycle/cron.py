"""GreenCronJob: each tick creates a GreenJob with a window; the planner picks the time within it.

The child's name contains the scheduled time, so handling a tick twice creates one job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from windward.domain.observed import Observed
from windward_api.greencronjob import ConcurrencyPolicy, GreenCronJob
from windward_api.greenjob import GreenJob, profile_named
from windward_api.meta import API_VERSION
from windward_api.scalars import format_time
from windward_api.schedule import Every, latest, parse_schedule

CRON_LABEL = "windward.dev/cron-job"
SCHEDULED_ANNOTATION = "windward.dev/scheduled-at"
LONGEST_PREFIX = 52  # as of a CronJob's name: the children's names stay within 63
LONGEST_LABEL = 63
_SECOND = timedelta(seconds=1)


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


def is_child(cron: GreenCronJob, job: GreenJob) -> bool:
    """Returns whether this GreenCronJob owns the job, by namespace and controller reference; labels can be copied."""
    return job.metadata.namespace == cron.metadata.namespace and any(
        ref.get("controller") is True
        and ref.get("kind") == "GreenCronJob"
        and str(ref.get("apiVersion", "")).startswith("windward.dev/")
        and ref.get("uid") == cron.metadata.uid != ""
        for ref in job.metadata.owner_references
    )


def due_tick(cron: GreenCronJob, now: datetime) -> datetime | None:
    """Returns the newest scheduled time that is not handled yet and can still be met, or None.

    After a long outage or a suspension only this one is handled; earlier missed ticks are skipped.
    """
    schedule = parse_schedule(cron.spec.schedule, cron.spec.time_zone)
    handled, oldest = _handled(cron, now), _worth_from(cron, now)
    # `@every` counts from the last tick, so that one must be its beginning.
    after = handled if isinstance(schedule, Every) else max(handled, oldest - _SECOND)
    tick = latest(schedule, after, now)
    return tick if tick is not None and tick >= oldest else None


def next_tick(cron: GreenCronJob, now: datetime) -> datetime | None:
    """Returns the first scheduled time after `now`; None if there is none within five years."""
    schedule = parse_schedule(cron.spec.schedule, cron.spec.time_zone)
    if isinstance(schedule, Every):
        handled = _handled(cron, now)
        return schedule.following(latest(schedule, handled, now) or handled)
    return schedule.following(now)


def decide_cron(cron: GreenCronJob, jobs: Sequence[GreenJob], tick: datetime | None, now: datetime) -> list[CronAction]:
    """Returns the GreenJobs to create and to delete now.

    Args:
        cron: the schedule.
        jobs: the GreenJobs that it made, in any state.
        tick: the newest scheduled time after the last one handled, or None.
        now: the time.
    """
    if cron.metadata.deletion_timestamp is not None:
        return []
    out: list[CronAction] = []
    active = [j for j in jobs if not Observed(j).ended]
    if tick is not None and _worth_from(cron, now) <= tick <= now and not cron.spec.suspend:
        policy = cron.spec.concurrency_policy
        fresh = [j for j in active if j.metadata.name != job_name(cron, tick)]
        if policy is ConcurrencyPolicy.REPLACE:
            out += [RemoveJob(j.metadata.name, f"replaced by the window of {format_time(tick)}") for j in fresh]
        if policy is not ConcurrencyPolicy.FORBID or not fresh:
            out.append(CreateJob(job_body(cron, tick), tick))
    return out + _history(cron, jobs)


def _handled(cron: GreenCronJob, now: datetime) -> datetime:
    """The last tick that was handled. One in the future is ignored: the clock was set back."""
    last, created = cron.status.last_schedule_time, cron.metadata.creation_timestamp
    return last if last is not None and last <= now else created or now


def _worth_from(cron: GreenCronJob, now: datetime) -> datetime:
    """The oldest tick that can still be handled: within the starting deadline, or while the job fits its window."""
    late = cron.spec.starting_deadline_seconds
    if late is not None:
        return now - timedelta(seconds=late)
    slack = cron.spec.window - (cron.spec.job_template.spec.duration or timedelta(0))
    return now - max(slack, timedelta(seconds=60))  # a window without slack is opened by a resync too


def job_name(cron: GreenCronJob, tick: datetime) -> str:
    """`<name>-<minutes since the epoch>`, as CronJob names its Jobs: the same for the same tick.

    A tick within a minute (`@every 90s`) is named by its seconds. Both counts differ in length for the next century.
    """
    seconds = int(tick.timestamp())
    return f"{cut(cron.metadata.name, LONGEST_PREFIX)}-{seconds // 60 if seconds % 60 == 0 else seconds}"


def cut(name: str, length: int) -> str:
    """Returns `name`, cut to `length` with a hash of the whole if it is longer, so different names stay different."""
    if len(name) <= length:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: length - 11].rstrip('-.')}-{digest}"


def job_body(cron: GreenCronJob, tick: datetime) -> dict[str, Any]:
    """Returns the GreenJob of one tick; its deadline is the end of the window. Without a duration, its profile is the
    cron's name where the template names none."""
    template = cron.spec.job_template
    spec = template.spec.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    spec["deadline"] = format_time(tick + cron.spec.window)
    if template.spec.duration is None:
        spec.setdefault("profile", profile_named(cron.metadata.name))
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
            "labels": {**template.metadata.labels, CRON_LABEL: cut(cron.metadata.name, LONGEST_LABEL)},
            "annotations": {**template.metadata.annotations, SCHEDULED_ANNOTATION: format_time(tick)},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


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
