"""Schedules: the grammar and the ticks of Kubernetes CronJobs, against what Kubernetes' own parser answers.

`schedules.json` is written by `tests/api/robfig`, a program over github.com/robfig/cron v3.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from windward_api.schedule import DESCRIPTORS, NEVER_FIRES, latest, parse_schedule, parse_zone

TABLE = json.loads(Path(__file__).with_name("schedules.json").read_text())
# The parser takes these for a tick each second; a window a second is nobody's wish.
TOO_OFTEN = {"@every -1h"}
GOOD = [row for row in TABLE["accepted"] if row["schedule"] not in TOO_OFTEN]
T = datetime(2026, 3, 2, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def times(row):
    return [datetime.fromisoformat(t) for t in row["ticks"]]


@pytest.mark.parametrize("schedule", sorted({row["schedule"] for row in GOOD}))
def test_ticks_are_those_of_kubernetes(schedule):
    for row in (r for r in GOOD if r["schedule"] == schedule):
        if not row["ticks"]:
            with pytest.raises(ValueError, match="never fires"):
                parse_schedule(schedule, row["zone"])
            continue
        found, after = [], datetime.fromisoformat(row["after"])
        for _ in row["ticks"]:
            found.append(after := parse_schedule(schedule, row["zone"]).following(after))
        assert found == times(row), row


@pytest.mark.parametrize("schedule", GOOD and sorted({row["schedule"] for row in GOOD if row["ticks"]}))
def test_the_newest_tick_is_the_last_of_those_that_come_one_by_one(schedule):
    for row in (r for r in GOOD if r["schedule"] == schedule):
        made, after = parse_schedule(schedule, row["zone"]), datetime.fromisoformat(row["after"])
        for i, tick in enumerate(times(row)):
            assert latest(made, after, tick) == tick, row
            assert latest(made, after, tick - timedelta(seconds=1)) == (times(row)[i - 1] if i else None), row


@pytest.mark.parametrize("schedule", [*TABLE["refused"], *sorted(TOO_OFTEN), "@every 0s", "@every 300ms", ", * * * *"])
def test_what_kubernetes_refuses_is_refused_in_a_sentence_that_names_the_field(schedule):
    with pytest.raises(ValueError, match=r"^spec\.schedule: "):
        parse_schedule(schedule)


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ("60 * * * *", "minute: '60' is none: write *, a number from 0 to 59"),
        ("0 24 * * *", "hour: '24'"),
        ("0 0 32 * *", "day: '32'"),
        ("0 0 * 13 *", "month: '13'"),
        ("0 9 * * MON#2", "weekday: 'MON#2'"),
        ("0 0 * * 7", "Sunday is 0"),
        ("0 0 L * *", "day: 'L'"),
        ("@reboot", "or one of @yearly"),
        ("0 0 * *", "has 4 fields, not 5"),
        ("0 0 0 * * *", "has 6 fields, not 5"),
        ("TZ=UTC 0 0 * * *", "name the time zone in spec.timeZone"),
        ("CRON_TZ=Europe/Berlin @daily", "name the time zone in spec.timeZone"),
        ("0 0 31 2 *", NEVER_FIRES),
        ("0 0 30,31 FEB ?", NEVER_FIRES),
        ("0 0 31 4,6,9,11 *", NEVER_FIRES),
        ("@every soon", "write the distance with h, m and s"),
    ],
)
def test_a_refusal_names_the_field_and_the_fix(schedule, told):
    with pytest.raises(ValueError, match=r"^spec\.schedule: ") as caught:
        parse_schedule(schedule)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "zone",
    ["", "Europe", "America/Argentina", "Mars/Olympus", "../UTC", "/etc/localtime", "/usr/share/zoneinfo/UTC", "Local",
     "localtime", "UTC/", "Europe//Berlin", "Europe/Berlin\0", "zone.tab", "tzdata.zi", "Europe/../UTC", "leapseconds"],
)  # fmt: skip
def test_what_is_no_time_zone_is_refused_and_never_anything_else(zone):
    with pytest.raises(ValueError, match=r"^spec\.timeZone: must be an IANA time zone"):
        parse_schedule("0 9 * * *", zone)


@pytest.mark.parametrize("zone", ["UTC", "Etc/GMT+5", "America/Argentina/Buenos_Aires", "Asia/Ho_Chi_Minh", "EST5EDT"])
def test_time_zones_of_every_form_are_known(zone):
    assert parse_zone(zone).key == zone


def test_every_counts_from_where_it_is_asked_in_whole_seconds():
    start = datetime(2026, 3, 2, 20, 0, 17, 500_000, tzinfo=UTC)
    every = parse_schedule("@every 1h30m")
    assert every.following(start) == start.replace(microsecond=0) + timedelta(minutes=90)
    assert latest(every, start, start + timedelta(hours=10)) == start.replace(microsecond=0) + timedelta(hours=9)
    assert latest(every, start, start + timedelta(minutes=89)) is None


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", T),
        ("0 0 29 2 *", datetime(2024, 2, 29, tzinfo=UTC)),
        ("*/7 9-17 * * 1-5", datetime(2026, 3, 2, 17, 56, tzinfo=UTC)),
        ("* * 1-15 1 *", datetime(2026, 1, 15, 23, 59, tzinfo=UTC)),
        ("0 0 1 1 *", datetime(2026, 1, 1, tzinfo=UTC)),
        ("@every 1s", T),
    ],
)
def test_the_newest_tick_of_years_takes_under_five_milliseconds(schedule, expected):
    made, spent = parse_schedule(schedule), []
    for _ in range(5):
        began = time.perf_counter()
        assert latest(made, T - timedelta(days=800), T) == expected
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.005, spent  # the quickest: others use this machine too


@pytest.mark.parametrize("schedule", ["0 0 29 2 *", "0 0 31 12 *", "59 23 31 12 *", "@yearly"])
def test_the_next_tick_takes_under_five_milliseconds(schedule):
    made = parse_schedule(schedule, "Europe/Berlin")
    assert made.following(T) is not None
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        made.following(T)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.005, spent


def test_descriptors_are_all_of_the_parsers():
    assert set(DESCRIPTORS) <= {row["schedule"] for row in GOOD}
