"""The carbon data port: the interface of a provider of carbon data, and its errors.

    ProviderError(zone, cause, fix)     no usable answer; the last good issue stays in force
    |-- Unreachable                     no answer in time: DNS, TLS, reset, 5xx, slow body; retry later
    |   `-- RateLimited(retry_after)    429: retry no earlier than `retry_after`
    |-- NotEntitled                     401, 403: the key is missing or wrong, or its plan does not include this
    |-- UnknownZone                     the provider has no such zone; a retry is useless
    |-- NoForecast                      the provider has history only; our own forecaster supplies the forecast
    `-- ForecastInvalid(reason)         the answer is refused; `InvalidReason` says why

The text of an error is three short sentences: what happened (the zone), why (`cause`), what to do (`fix`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from windward.domain.series import Kind, Series

# Zones are used in URLs, file names and metric labels, so no other characters are accepted.
ZONE_PATTERN = re.compile(r"[A-Za-z0-9_-]{2,64}")


class InvalidReason(StrEnum):
    """Why an answer was refused; metrics and events show the value."""

    # the envelope
    NOT_JSON = "NotJson"  # HTML, text, half an answer
    TOO_LARGE = "TooLarge"  # more than the body limit
    TOO_DEEP = "TooDeep"  # nested beyond any carbon answer
    REDIRECTED = "Redirected"  # a redirect; never followed
    MALFORMED = "Malformed"  # JSON, but not the provider's schema
    EMPTY = "Empty"  # no values: `200 {}`, `{"data": []}`, only nulls
    # zone and unit
    WRONG_ZONE = "WrongZone"  # the answer is for another zone (chosen by the caller's address)
    WRONG_UNIT = "WrongUnit"  # an unknown unit, or numbers that can only be another unit
    # values
    NOT_A_NUMBER = "NotANumber"  # infinity, text, true
    NEGATIVE = "Negative"
    ZERO = "Zero"  # 0 g all the time
    IMPLAUSIBLE = "Implausible"  # more than any power plant emits
    # times
    BAD_TIME = "BadTime"  # not a time, or one without a zone
    UNSORTED = "Unsorted"
    DOUBLED = "Doubled"  # one period twice: local time given as UTC on the day of 25 hours
    GAP = "Gap"  # more holes than one period in ten
    MIXED_STEPS = "MixedSteps"  # steps change and the ends of periods are not stated
    PAST_ONLY = "PastOnly"  # ends before now
    STARTS_LATE = "StartsLate"  # begins later than the next period


class ProviderError(Exception):
    """No usable answer for `zone`.

    Attributes:
        zone: the requested zone.
        cause: what went wrong, without a trailing full stop; never contains a credential.
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
    """No answer in time; the caller retries with back-off."""


class RateLimited(Unreachable):
    """The provider limits the rate of requests; `retry_after` is its Retry-After, None where it gave none."""

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
    """The answer is refused as invalid; the last good issue is kept."""

    def __init__(self, zone: str, reason: InvalidReason, cause: str, fix: str = "") -> None:
        super().__init__(zone, cause, fix)
        self.reason = reason

    def __str__(self) -> str:
        return f"carbon data for {self.zone} refused ({self.reason}): {self.cause}." + (
            f" {self.fix}" if self.fix else ""
        )


class Provider(Protocol):
    """Carbon intensity of zones: one data set of one kind.

    Requirements on every implementation (one conformance suite runs over all of them):
    - Thread-safe; a call has no effect on later answers.
    - Read-only and idempotent.
    - `issue` returns or raises a `ProviderError` within 10 s; `history` may take 10 s for each request that it needs.
      No other exception is raised.
    - Values are never invented. A missing period is a hole: the series ends there, and what follows is in
      `Series.after_gap`.
    """

    @property
    def name(self) -> str:
        """Provider and data set, as in `Series.source`, for example `neso` or `trace:2022`."""
        ...

    @property
    def kind(self) -> Kind:
        """Signal, scope and basis of every value of this provider."""
        ...

    @property
    def revised_for(self) -> timedelta:
        """How long after a period's end its measured value may still change; zero for a recording."""
        ...

    def zones(self) -> tuple[str, ...] | None:
        """Returns the zones it has data for; None where it cannot list them without a request."""
        ...

    def issue(self, zone: str, now: datetime) -> Series:
        """Returns the newest forecast at `now`.

        It starts with the period that contains `now`, or with the next one where the provider omits that, and ends
        where the provider's data ends: possibly hours before the stated horizon, never before `now`.

        Raises:
            ProviderError: one of the subclasses above.
        """
        ...

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        """Returns past intensities: the whole periods that overlap [start, end); holes as in `issue`.

        The series may start later or end earlier than requested: check `Series.covers`. `quality` says for each period
        whether it is measured or the provider's estimate. A live service returns only periods that are over. A
        recording has no present, so its caller must request only times before its own clock.

        Raises:
            ProviderError: one of the subclasses above; `ForecastInvalid(EMPTY)` where nothing overlaps.
            ValueError: `end` is not after `start`, or a time is naive.
        """
        ...


class Archive(Protocol):
    """Permanent store of issues; the ledger is one."""

    def archive(self, series: Series) -> str:
        """Store `series` and return its vintage (sha256, hex). Idempotent."""
        ...

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        """Returns stored issues that overlap [start, end), oldest issue first."""
        ...


def checked_zone(zone: str) -> str:
    """Returns `zone` if it is safe in a URL, a path and a metric label.

    Raises:
        UnknownZone: it does not match `ZONE_PATTERN`.
    """
    if not ZONE_PATTERN.fullmatch(zone):
        raise UnknownZone(zone[:64], "this is no zone name", "Use a zone such as DE or US-CAL-CISO.")
    return zone


def checked_range(start: datetime, end: datetime) -> tuple[float, float]:
    """Returns [start, end) as epoch seconds.

    Raises:
        ValueError: a time is naive, or the range is empty.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError(f"naive time in {start} to {end}: give a time zone")
    if end <= start:
        raise ValueError(f"empty range {start} to {end}")
    return start.timestamp(), end.timestamp()
