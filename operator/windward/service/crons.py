"""GreenCronJobs: which windows opened since the last look, by APScheduler's triggers used as calculators."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from windward.cluster import Cluster, ClusterError, Snapshot
from windward.lifecycle.cron import CRON_LABEL, CreateJob, decide_cron
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.meta import Condition, transition

log = logging.getLogger(__name__)

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LOOK_BACK = timedelta(days=8)  # ticks before are of windows long closed
MOST_TICKS = 10_000


def trigger(schedule: str, time_zone: str) -> Any:
    """The APScheduler trigger of a five-field cron expression, with cron's own meaning.

    APScheduler counts weekdays from Monday = 0 and asks for day AND weekday; cron counts from Sunday = 0 (7 too) and,
    where both are restricted, asks for day OR weekday.

    Raises:
        ValueError: no such expression or time zone; the sentence names the field.
    """
    fields = _ALIASES.get(schedule.strip(), schedule).split()
    if len(fields) != 5:
        raise ValueError(f"spec.schedule: {schedule!r} has {len(fields)} fields, not 5: minute hour day month weekday")
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as e:
        raise ValueError(f"spec.timeZone: {time_zone!r} is no IANA time zone, such as Europe/Berlin") from e
    minute, hour, day, month, weekday = fields
    weekday = _named(weekday)
    named = {"minute": minute, "hour": hour, "day": day, "month": month, "day_of_week": weekday}
    for name, text in named.items():
        try:
            CronTrigger(**{name: text})
        except ValueError as e:
            raise ValueError(f"spec.schedule: {schedule!r}: {name.replace('day_of_', '')}: {e}") from e
    common = {"minute": minute, "hour": hour, "month": month, "timezone": zone}
    try:
        if day != "*" and weekday != "*":
            return OrTrigger([CronTrigger(**common, day=day), CronTrigger(**common, day_of_week=weekday)])
        return CronTrigger(**common, day=day, day_of_week=weekday)
    except ValueError as e:
        raise ValueError(f"spec.schedule: {schedule!r}: {e}") from e


def _named(weekday: str) -> str:
    """Weekday numbers as names, ranges and steps unrolled: `1-5` -> `mon,tue,wed,thu,fri`."""
    out: list[str] = []
    for part in weekday.lower().split(","):
        match = re.fullmatch(r"(\*|[0-7])(?:-([0-7]))?(?:/([1-9]))?", part)
        if match is None or part == "*":
            out.append(part)
            continue
        first, last, step = match.groups()
        a = 0 if first == "*" else int(first)
        b = int(last) if last is not None else 6 if first == "*" or step else a
        out += [_DAYS[d] for d in range(a, b + 1, int(step or 1))]
    return ",".join(dict.fromkeys(out))


@lru_cache(maxsize=256)
def _trigger(schedule: str, time_zone: str) -> Any:
    return trigger(schedule, time_zone)


def ticks_between(schedule: str, time_zone: str, after: datetime, until: datetime) -> list[datetime]:
    """Scheduled times in (after, until], UTC, in order.

    On the night when clocks go back, a schedule at a fixed hour fires once, at the first of the two equal local
    times; one that runs every hour fires in both. (Vixie cron's rule.)
    """
    fixed_hour = "*" not in _ALIASES.get(schedule.strip(), schedule).split()[1]
    found = [t.astimezone(UTC) for t in _fire_times(schedule, time_zone, after - timedelta(hours=2), until)]
    if fixed_hour:
        zone = ZoneInfo(time_zone)
        local = [t.astimezone(zone).replace(tzinfo=None) for t in found]
        found = [t for i, t in enumerate(found) if local[i] not in local[:i]]
    return [t for t in found if after < t <= until]


def _fire_times(schedule: str, time_zone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    # Without the previous time, and from a time in UTC: with either, APScheduler stands still in a repeated hour.
    made, at = _trigger(schedule, time_zone), after.astimezone(UTC)
    for _ in range(MOST_TICKS):
        fires = made.get_next_fire_time(None, at)
        if fires is None or fires > until:
            return
        yield fires
        at = fires.astimezone(UTC) + timedelta(microseconds=1)


def next_tick(schedule: str, time_zone: str, now: datetime) -> datetime | None:
    """The next scheduled time after `now`."""
    fires: datetime | None = _trigger(schedule, time_zone).get_next_fire_time(None, now + timedelta(microseconds=1))
    return fires.astimezone(UTC) if fires is not None else None


def tend_crons(cluster: Cluster, snapshot: Snapshot, now: datetime) -> None:
    """Open the windows that are due; a cron's trouble is its own."""
    for cron in snapshot.crons:
        try:
            _tend(cluster, snapshot, cron, now)
        except ClusterError as e:
            log.warning("GreenCronJob %s/%s: %s", cron.metadata.namespace, cron.metadata.name, e)


def _tend(cluster: Cluster, snapshot: Snapshot, cron: GreenCronJob, now: datetime) -> None:
    meta, spec = cron.metadata, cron.spec
    jobs = [
        o.job
        for o in snapshot.jobs
        if o.job.metadata.namespace == meta.namespace and o.job.metadata.labels.get(CRON_LABEL) == meta.name
    ]
    since = max(cron.status.last_schedule_time or meta.creation_timestamp or now, now - LOOK_BACK)
    try:
        ticks = ticks_between(spec.schedule, spec.time_zone, since, now)
        following = next_tick(spec.schedule, spec.time_zone, now)
    except ValueError as e:
        _write(
            cluster,
            cron,
            cron.status,
            Condition(type="Accepted", status="False", reason="InvalidSpec", message=str(e)),
            now,
        )
        return
    made = None
    for action in decide_cron(cron, jobs, ticks, now):
        if isinstance(action, CreateJob):
            cluster.create_job(action.body)
            made = action.scheduled_at
        else:
            cluster.delete_job(meta.namespace, action.name)
    ended = {"Complete", "Failed"}
    active = [j for j in jobs if not any(c.type in ended and c.status == "True" for c in j.status.conditions)]
    status = cron.status.model_copy(
        update={
            "last_schedule_time": made or cron.status.last_schedule_time,
            "next_schedule_time": None if following is None or spec.suspend else f"{following:%m-%d %H:%MZ}",
            "active": tuple(sorted(j.metadata.name for j in active)),
        }
    )
    _write(cluster, cron, status, Condition(type="Accepted", status="True", reason="Valid"), now)


def _write(
    cluster: Cluster, cron: GreenCronJob, status: GreenCronJobStatus, accepted: Condition, now: datetime
) -> None:
    generation = cron.metadata.generation
    accepted = accepted.model_copy(update={"observed_generation": generation})
    conditions = transition(cron.status.conditions, (accepted,), now)
    status = status.model_copy(update={"observed_generation": generation, "conditions": conditions})
    if status != cron.status:
        cluster.write_cron_status(cron, status)
