"""Ticks of a GreenCronJob, for the commands that plan one."""

from __future__ import annotations

from datetime import datetime

from windward.cli.errors import usage_error
from windward_api.greencronjob import GreenCronJob
from windward_api.schedule import parse_schedule


def next_of(cron: GreenCronJob, now: datetime) -> datetime:
    """Its next tick after `now`.

    Raises:
        CliError: the schedule has no tick any more.
    """
    tick = parse_schedule(cron.spec.schedule, cron.spec.time_zone).following(now)
    if tick is None:
        what = f"GreenCronJob {cron.metadata.name} has no next tick"
        raise usage_error(what, fix="correct spec.schedule")
    return tick


def ticks_of(cron: GreenCronJob, after: datetime, until: datetime) -> list[datetime]:
    """Its ticks in (after, until]; the model has read the schedule, so there is one."""
    schedule = parse_schedule(cron.spec.schedule, cron.spec.time_zone)
    out, tick = [], schedule.following(after)
    while tick is not None and tick <= until:
        out.append(tick)
        tick = schedule.following(tick)
    return out
