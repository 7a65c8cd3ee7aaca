"""Scalars of the API as people write them: durations, quantities, instants, intervals."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

DURATION_PATTERN = r"^([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?$"
QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"  # names of objects such as Secrets

_UNIT_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta:
    """`4h30m` -> 4.5 hours. Units d, h, m, s, each at most once, in this order, whole numbers.

    Raises:
        ValueError: not such a duration, or zero.
    """
    if not text or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write whole numbers with d, h, m, s in this order, as in 4h30m")
    seconds = sum(int(n) * _UNIT_S[u] for n, u in re.findall(r"([0-9]+)([dhms])", text))
    if seconds == 0:
        raise ValueError(f"{text!r} is no time at all: a duration must be longer than zero")
    return timedelta(seconds=seconds)


def format_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads back, to the second: `4h30m`."""
    seconds = round(span.total_seconds())
    if seconds <= 0:
        return "0s"
    parts = []
    for unit, size in _UNIT_S.items():
        n, seconds = divmod(seconds, size)
        if n:
            parts.append(f"{n}{unit}")
    return "".join(parts)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC to the second, as Kubernetes writes times: `2022-05-11T15:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _duration_in(value: Any) -> Any:
    if isinstance(value, int | float):  # pydantic alone would take it for seconds; the API server takes text only
        raise ValueError(f"{value!r} has no unit: write a duration such as 4h30m")
    return parse_duration(value) if isinstance(value, str) else value


def _duration_positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration must be longer than zero")
    return value


def _instant_in(value: Any) -> Any:
    return _instant_between(value, 1971, 8999)


def _derived_in(value: Any) -> Any:
    return _instant_between(value, 1800, 9199)


def _instant_between(value: Any, first: int, last: int) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as e:
            raise ValueError(f"{value!r} is not a time: write RFC 3339, as in 2026-11-21T18:00:00Z") from e
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone: end it with Z or an offset such as +01:00")
        # Beyond these years sums of times overflow and nothing is ever due.
        if not first <= value.year <= last:
            raise ValueError(f"{value.isoformat()} is no time to work at: give a year from {first} to {last}")
        return value.astimezone(UTC)
    if isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a time: write RFC 3339, as in 2026-11-21T18:00:00Z")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration_in),
    AfterValidator(_duration_positive),
    PlainSerializer(format_duration, return_type=str),
    Field(json_schema_extra={"windward": "duration"}),
]
Instant = Annotated[
    datetime,
    BeforeValidator(_instant_in),
    PlainSerializer(format_time, return_type=str),
    Field(json_schema_extra={"windward": "instant"}),
]
# A time that follows from others: a deadline less or plus a few of the longest durations, each of 27 years.
DerivedInstant = Annotated[
    datetime,
    BeforeValidator(_derived_in),
    PlainSerializer(format_time, return_type=str),
    Field(json_schema_extra={"windward": "instant"}),
]


def _quantity_in(value: Any) -> Any:
    # YAML gives 1.1 as a number; the API server takes strings only, so a laptop is as strict.
    if isinstance(value, int | float):
        raise ValueError(f'write the number in quotes: "{value}"')
    if isinstance(value, str) and not re.fullmatch(QUANTITY_PATTERN, value):
        raise ValueError(f'{value!r} is not a plain decimal number such as "1.10"')
    return value


Quantity = Annotated[
    Decimal,
    BeforeValidator(_quantity_in),
    PlainSerializer(str, return_type=str),
    Field(json_schema_extra={"windward": "quantity"}),
]

PROFILE_PATTERN = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
ProfileName = Annotated[str, Field(min_length=1, max_length=63, pattern=PROFILE_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
