"""The carbon data port: what every provider promises, and how it fails.

    ProviderError(zone, cause, fix)     no usable answer; the last good issue stays in force
    |-- Unreachable                     no answer in time: DNS, TLS, reset, 5xx, slow drip; try again later
    |   `-- RateLimited(retry_after)    429: later, and not before `retry_after`
    |-- NotEntitled                     401, 403: a key is missing, wrong or its plan does not include this
    |-- UnknownZone                     the provider has no such zone, so asking again is no use
    |-- NoForecast                      the provider knows the past only; our own forecaster goes on from there
    `-- ForecastInvalid(reason)         an answer came and is refused; `InvalidReason` says for what

Each error reads as three short sentences: what happened (the zone), why (`cause`), what to do (`fix`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from windward.domain.series import Kind, Series

# Zones reach URLs, file names and metric labels, so anything else never gets past the port.
ZONE_PATTERN = re.compile(r"[A-Za-z0-9_-]{2,64}")


class InvalidReason(StrEnum):
    """Why an answer was refused; the value is what metrics and events show."""

    # the envelope
    NOT_JSON = "NotJson"  # HTML, text, half an answer
    TOO_LARGE = "TooLarge"  # more than the body limit
    TOO_DEEP = "TooDeep"  # nested beyond any carbon answer
    REDIRECTED = "Redirected"  # a redirect; never followed
    MALFORMED = "Malformed"  # parsed, but not the provider's shape
    EMPTY = "Empty"  # nothing in it: `200 {}`, `{"data": []}`, only nulls
    # what it says it is
    WRONG_ZONE = "WrongZone"  # answered for another zone (fallback to the caller's address)
    WRONG_UNIT = "WrongUnit"  # an unknown unit, or numbers that can only be another unit
    # values
    NOT_A_NUMBER = "NotANumber"  # infinity, text, true
    NEGATIVE = "Negative"
    ZERO = "Zero"  # 0 g all the time
    IMPLAUSIBLE = "Implausible"  # more than any power plant emits
    # times
    BAD_TIME = "BadTime"  # not a time, or one without a zone
    UNSORTED = "Unsorted"
    DOUBLED = "Doubled"  # one period twice: local time sold as UTC on the day of 25 hours
    GAP = "Gap"  # more holes than one period in ten
    MIXED_STEPS = "MixedSteps"  # steps change and the ends of periods are not stated
    PAST_ONLY = "PastOnly"  # ends before now
    STARTS_LATE = "StartsLate"  # begins later than the next period


class ProviderError(Exception):
    """No usable answer for `zone`.

    Attributes:
        zone: the zone that was asked for.
        cause: what went wrong, without a trailing full stop; never holds a credential.
        fix: what a person can do, one sentence; empty where only waiting helps.
    """

    def __init__(self, zone: str, cause: str, fix: str = "") -> None:
        super().__init__(zone, cause, fix)
        self.zone = zone
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"no carbon data for {self.zone}: {self.cause}." + (f" {self.fix}" if self.fix else "")


class Unreachable(ProviderError):
    """No answer in time; the caller tries again later with growing pauses."""


class RateLimited(Unreachable):
    """The provider asks for fewer requests; `retry_after` is its own wish, None where it stated none."""

    def __init__(self, zone: str, cause: str, fix: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(zone, cause, fix)
        self.retry_after = retry_after


class NotEntitled(ProviderError):
    """A key is missing or wrong, or the plan does not include this zone or forecast."""


class UnknownZone(ProviderError):
    """The provider does not know the zone."""


class NoForecast(ProviderError):
    """The provider publishes history and no forecast."""


class ForecastInvalid(ProviderError):
    """An answer came and is refused as garbage; the last good issue is kept."""

    def __init__(self, zone: str, reason: InvalidReason, cause: str, fix: str = "") -> None:
        super().__init__(zone, cause, fix)
        self.reason = reason

    def __str__(self) -> str:
        return f"carbon data for {self.zone} refused ({self.reason}): {self.cause}." + (
            f" {self.fix}" if self.fix else ""
        )


class Provider(Protocol):
    """Carbon intensity of zones, as one data set of one kind.

    Promise of every implementation (one conformance suite runs over all of them):
    - Safe to call from several threads at once; nothing is remembered that changes a later answer.
    - Reads only; asking twice does no harm.
    - An issue comes within 10 s or raises a `ProviderError`; history takes as long for each request it needs. No other
      exception leaves it.
    - Never repairs: a value is never invented. A missing period is a hole: the series ends there, and what follows
      stands in `Series.after_gap`.
    """

    @property
    def name(self) -> str:
        """Provider and data set, as it stands in `Series.source`, for example `neso` or `trace:2022`."""
        ...

    @property
    def kind(self) -> Kind:
        """What every value of this provider counts."""
        ...

    @property
    def revised_for(self) -> timedelta:
        """How long after a period's end its measured value may still change; zero for a recording."""
        ...

    def zones(self) -> tuple[str, ...] | None:
        """The zones it answers for, or None where it cannot list them without asking."""
        ...

    def issue(self, zone: str, now: datetime) -> Series:
        """The newest forecast at `now`.

        It begins with the period that contains `now` (with the next one where the provider gives no more) and ends
        where the provider ends: maybe hours before its stated horizon, never before `now`.

        Raises:
            ProviderError: one of the tree above.
        """
        ...

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """What is known afterwards: the whole periods that overlap [start, end); holes as in `issue`.

        It may begin later or end earlier than asked: check `Series.covers`. `quality` says per period whether it is
        an actual or the provider's own estimate. A live service returns nothing that is not over yet; a recording has
        no present, so whoever replays one asks for no more than the past of his own clock.

        Raises:
            ProviderError: one of the tree above; `ForecastInvalid(EMPTY)` where nothing overlaps.
            ValueError: `end` is not after `start`, or a time is naive.
        """
        ...


class Archive(Protocol):
    """Where issues are kept for ever; the ledger is one."""

    def archive(self, series: Series) -> str:
        """Keep `series` and return its vintage (sha256, hex). Idempotent: an issue already kept is not kept twice."""
        ...

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        """Kept issues that overlap [start, end), oldest issue first."""
        ...


def checked_zone(zone: str) -> str:
    """`zone`, once it is certain that it can stand in a URL, a path and a metric label.

    Raises:
        UnknownZone: it is no zone name.
    """
    if not ZONE_PATTERN.fullmatch(zone):
        raise UnknownZone(zone[:64], "this is no zone name", "Use a zone such as DE or US-CAL-CISO.")
    return zone


def checked_range(start: datetime, end: datetime) -> tuple[float, float]:
    """[start, end) as epoch seconds.

    Raises:
        ValueError: a time is naive, or the range is empty.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError(f"naive time in {start} to {end}: give a time zone")
    if end <= start:
        raise ValueError(f"empty range {start} to {end}")
    return start.timestamp(), end.timestamp()
