"""Durations, quantities and times as people write them, and what is refused because the API server refuses it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from windward_api.scalars import Duration, Instant, Quantity, format_duration, format_time, parse_duration

DURATION, INSTANT, QUANTITY = TypeAdapter(Duration), TypeAdapter(Instant), TypeAdapter(Quantity)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("4h30m", 16200),
        ("1d", 86400),
        ("1d2h3m4s", 93784),
        ("0h5m", 300),
        ("9999d", 863913600),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "h",
        "4H",
        "1.5h",
        "-1h",
        "30m4h",
        "1h1h",
        "1h ",
        " 1h",
        "1h\n",
        "0s",
        "0d0h",
        "1w",
        "PT1H",
        "٣h",
        "99999d",
    ],
)
def test_no_durations(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    "value", [3600, 3600.0, 0, True, None, [], timedelta(0), timedelta(seconds=-1), "PT1H", "01:00:00"]
)
def test_a_duration_is_text_with_units(value):
    """A bare number has no unit; pydantic alone would take it for seconds."""
    with pytest.raises(ValidationError):
        DURATION.validate_python(value)


@given(st.integers(1, 863_999_999))
def test_durations_round_trip(seconds):
    span = timedelta(seconds=seconds)
    assert parse_duration(format_duration(span)) == span
    assert DURATION.validate_python(DURATION.dump_python(span, mode="json")) == span


@pytest.mark.parametrize("value", ["1", "1.10", "0.000001", "123456789012", "0"])
def test_quantities_keep_their_text(value):
    assert QUANTITY.dump_python(QUANTITY.validate_python(value), mode="json") == value


@pytest.mark.parametrize(
    "value", [1.1, 1, True, "1e3", "-1", "", "1.", ".5", "100m", "1Gi", "NaN", "Infinity", " 1", None]
)
def test_no_quantities(value):
    """What the CRD's schema (a string of this pattern) refuses, the model refuses too."""
    with pytest.raises(ValidationError):
        QUANTITY.validate_python(value)


def test_an_unquoted_number_is_told_to_be_quoted():
    with pytest.raises(ValidationError, match=r'write the number in quotes: "1\.1"'):
        QUANTITY.validate_python(1.1)


@given(st.decimals(0, 999999, places=6, allow_nan=False))
def test_quantities_round_trip(value):
    text = f"{value:.6f}"
    assert QUANTITY.validate_python(text) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-21T18:00:00Z", "2026-11-21T18:00:00Z"),
        ("2026-11-21T18:00:00+05:45", "2026-11-21T12:15:00Z"),
        ("2026-11-21T18:00:00.123456Z", "2026-11-21T18:00:00Z"),
        ("2028-02-29T00:00:00-10:00", "2028-02-29T10:00:00Z"),
        ("2026-03-29T02:30:00+01:00", "2026-03-29T01:30:00Z"),
    ],
)
def test_times_are_utc(text, utc):
    value = INSTANT.validate_python(text)
    assert value.tzinfo is UTC and format_time(value) == utc


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T18:00:00", "2026-11-21", datetime(2026, 11, 21), "tomorrow", "", 1_700_000_000, 1.5e9, True, None,
        "2026-02-29T00:00:00Z", "2026-11-21T24:30:00Z",
        # No job is due then, and no arithmetic survives there: latest start = deadline - duration.
        "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
    ],
)  # fmt: skip
def test_no_times(value):
    with pytest.raises(ValidationError):
        INSTANT.validate_python(value)


@pytest.mark.parametrize("text", ["2026-11-21T18:00:00", "2026-11-21"])
def test_a_naive_time_is_refused_by_what_it_lacks(text):
    with pytest.raises(ValidationError, match="has no time zone: end it with Z or an offset"):
        INSTANT.validate_python(text)


@given(st.datetimes(datetime(1971, 1, 3), datetime(2900, 1, 1), timezones=st.timezones()))
def test_times_round_trip(moment):
    moment = moment.replace(microsecond=0)
    assert INSTANT.validate_python(format_time(moment)) == moment.astimezone(UTC)


def test_in_json_they_are_text():
    class Holder(BaseModel):
        d: Duration
        t: Instant
        q: Quantity

    text = '{"d":"4h30m","t":"2026-11-21T18:00:00Z","q":"1.10"}'
    assert Holder.model_validate_json(text).model_dump_json() == text
