"""Time as a parameter: whoever needs the time takes a `Clock`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time of the world that is planned in: the real one, or a warped or simulated one."""

    def now(self) -> datetime:
        """The time, aware, UTC."""
        ...


class FixedClock:
    """A clock that stands until it is moved; for tests and simulations."""

    def __init__(self, start: datetime) -> None:
        self._now = utc(start)

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards: advance by {by}")
        self._now += by


def utc(moment: datetime) -> datetime:
    """`moment` in UTC.

    Raises:
        ValueError: the moment is naive; a time without a zone is refused, never guessed.
    """
    if moment.tzinfo is None:
        raise ValueError(f"naive time {moment.isoformat()}: give a time zone, for example a trailing Z")
    return moment.astimezone(UTC)
