"""Ticks of a GreenCronJob, for the commands that plan one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from windward.cli.errors import CliError, Exit
from windward.service.crons import next_tick, ticks_between
from windward_api.greencronjob import GreenCronJob

T = TypeVar("T")


def next_of(cron: GreenCronJob, now: datetime) -> datetime:
    """Its next tick after `now`.

    Raises:
        CliError: the schedule is none, or has no tick any more.
    """
    tick = _asked(cron, lambda: next_tick(cron.spec.schedule, cron.spec.time_zone, now))
    if tick is None:
        said = f"GreenCronJob {cron.metadata.name} has no next tick"
        raise CliError(said, fix="correct spec.schedule", code=Exit.USAGE)
    return tick


def ticks_of(cron: GreenCronJob, after: datetime, until: datetime) -> list[datetime]:
    """Its ticks in (after, until].

    Raises:
        CliError: the schedule is none.
    """
    return _asked(cron, lambda: ticks_between(cron.spec.schedule, cron.spec.time_zone, after, until))


def _asked(cron: GreenCronJob, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Exception as e:  # schedules and time zones are foreign text, and their readers raise what they like
        fix = "five fields, as in 0 19 * * 1-5, and an IANA time zone, as in Europe/Berlin"
        cause = f"{cron.spec.schedule!r} in {cron.spec.time_zone!r}: {e}"
        raise CliError(f"GreenCronJob {cron.metadata.name}: no schedule", cause=cause, fix=fix, code=Exit.USAGE) from e
