"""GreenCronJobs: creates the jobs that are due and writes each schedule's status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from windward.cluster import Cluster, ClusterError
from windward.domain.observed import Observed
from windward.lifecycle.cron import CreateJob, decide_cron, due_tick, is_child, next_tick
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.meta import Condition, transition

log = logging.getLogger(__name__)

_LONGEST_MESSAGE = 1024


def sync_cron(cluster: Cluster, cron: GreenCronJob, jobs: Sequence[Observed], now: datetime) -> None:
    """Creates the due job of one GreenCronJob, deletes jobs beyond its history limits and writes its status.

    Args:
        jobs: all observed GreenJobs; the cron's own are selected by owner.

    Raises:
        ClusterError: the cluster refused something or does not answer.
    """
    children = [o for o in jobs if is_child(cron, o.job)]
    tick = None if cron.spec.suspend else due_tick(cron, now)
    opened, taken = None, ""
    for action in decide_cron(cron, [o.job for o in children], tick, now):
        if not isinstance(action, CreateJob):
            cluster.delete_job(cron.metadata.namespace, action.name)
        elif taken := _taken(cron, action.body["metadata"]["name"], jobs):
            log.warning("GreenCronJob %s: %s", _key(cron), taken)
        else:
            cluster.create_job(action.body)
            opened = action.scheduled_at
    following = None if cron.spec.suspend else next_tick(cron, now)
    status = cron.status.model_copy(
        update={
            "last_schedule_time": opened or cron.status.last_schedule_time,
            "next_schedule_time": None if following is None else f"{following:%m-%d %H:%MZ}",
            "active": tuple(sorted(o.job.metadata.name for o in children if not o.ended)),
        }
    )
    trouble = Condition(type="Scheduled", status="False", reason="NameTaken", message=taken) if taken else _SCHEDULED
    _write(cluster, cron, status, (_ACCEPTED, trouble), now)


def report_cron_trouble(cluster: Cluster, cron: GreenCronJob, reason: str, cause: str, now: datetime) -> None:
    """Writes an error into the cron's status; never raises."""
    trouble = Condition(type="Scheduled", status="False", reason=reason, message=cause[:_LONGEST_MESSAGE])
    try:
        _write(cluster, cron, cron.status, (_ACCEPTED, trouble), now)
    except ClusterError as e:
        log.warning("GreenCronJob %s: its status could not be written: %s", _key(cron), e)
    except Exception:  # the status came from outside, too
        log.exception("GreenCronJob %s: its status could not be written", _key(cron))


_ACCEPTED = Condition(type="Accepted", status="True", reason="Valid")
_SCHEDULED = Condition(type="Scheduled", status="True", reason="Scheduled")


def _taken(cron: GreenCronJob, name: str, jobs: Sequence[Observed]) -> str:
    """Why a tick's job cannot be created: another owner has a job of this name; empty if none has."""
    namespace = cron.metadata.namespace
    for o in jobs:
        if (o.job.metadata.namespace, o.job.metadata.name) == (namespace, name) and not is_child(cron, o.job):
            return f"the window is not opened: GreenJob {name} is not of this GreenCronJob; delete it or rename one"
    return ""


def _key(cron: GreenCronJob) -> str:
    return f"{cron.metadata.namespace}/{cron.metadata.name}"


def _write(
    cluster: Cluster,
    cron: GreenCronJob,
    status: GreenCronJobStatus,
    conditions: tuple[Condition, ...],
    now: datetime,
) -> None:
    generation = cron.metadata.generation
    known = transition(cron.status.conditions, conditions, now, generation)
    status = status.model_copy(update={"observed_generation": generation, "conditions": known})
    if status != cron.status:
        cluster.write_cron_status(cron, status)
