"""GreenCronJobs: the tick opens a window once, whatever the clock on the wall does."""

from datetime import UTC, datetime, timedelta

import pytest
from lifecycle.cases import greenjob
from service.world import World, region_body

from windward.lifecycle.cron import CRON_LABEL, CreateJob, RemoveJob, decide_cron, job_body, job_name
from windward.service.crons import next_tick, ticks_between
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob

T = datetime(2026, 3, 2, 20, tzinfo=UTC)
CONTAINER = {"spec": {"containers": [{"name": "main", "image": "x"}]}}
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def cron(name="nightly", metadata=None, **spec):
    whole = {
        "schedule": "0 20 * * *",
        "window": "10h",
        "jobTemplate": {
            "metadata": {"labels": {"team": "ml"}},
            "spec": {"duration": "4h", "placement": {"regions": ["north"]}, "template": CONTAINER},
        },
    } | spec
    meta = {"name": name, "namespace": "ml", "uid": "c-1"} | (metadata or {})
    return GreenCronJob.model_validate({"metadata": meta, "spec": whole})


def job(name, end=None, at=None):
    status = {"conditions": [{"type": end, "status": "True", "reason": "Succeeded"}]} if end else {}
    if at is not None:
        status["finishedAt"] = f"2026-03-{at:02d}T03:00:00Z"
    return greenjob(metadata={"name": name}, status=status)


OLD = job("nightly-1")
OWN = job_name(cron(), T)


@pytest.mark.parametrize(
    ("spec", "jobs", "ticks", "late", "created", "removed"),
    [
        ({}, [], [T], 0 * MINUTE, [T], []),
        ({}, [], [], 0 * MINUTE, [], []),
        ({}, [], [T - 24 * HOUR, T], 5 * MINUTE, [T], []),  # after an outage one window, the newest
        ({"suspend": True}, [], [T], 0 * MINUTE, [], []),
        ({"metadata": {"deletionTimestamp": "2026-03-02T00:00:00Z"}}, [], [T], 0 * MINUTE, [], []),
        # while the job still fits its window: 10 h less 4 h
        ({}, [], [T], 6 * HOUR, [T], []),
        ({}, [], [T], 6 * HOUR + MINUTE, [], []),
        ({"startingDeadlineSeconds": 600}, [], [T], 10 * MINUTE, [T], []),
        ({"startingDeadlineSeconds": 600}, [], [T], 11 * MINUTE, [], []),
        # an earlier job still runs
        ({"concurrencyPolicy": "Forbid"}, [OLD], [T], 0 * MINUTE, [], []),
        ({"concurrencyPolicy": "Allow"}, [OLD], [T], 0 * MINUTE, [T], []),
        ({"concurrencyPolicy": "Replace"}, [OLD], [T], 0 * MINUTE, [T], ["nightly-1"]),
        ({"concurrencyPolicy": "Forbid"}, [job("nightly-1", "Failed")], [T], 0 * MINUTE, [T], []),
        # its own job stands already: created again (which does nothing), and never replaced by itself
        ({"concurrencyPolicy": "Forbid"}, [job(OWN)], [T], MINUTE, [T], []),
        ({"concurrencyPolicy": "Replace"}, [job(OWN)], [T], MINUTE, [T], []),
    ],
)
def test_decide_cron(spec, jobs, ticks, late, created, removed):
    actions = decide_cron(cron(**spec), jobs, ticks, T + late)
    assert [a.scheduled_at for a in actions if isinstance(a, CreateJob)] == created
    assert [a.name for a in actions if isinstance(a, RemoveJob)] == removed


@pytest.mark.parametrize(
    ("limits", "removed"),
    [
        ({}, ["d1", "f1"]),
        ({"successfulJobsHistoryLimit": 0}, ["d1", "d2", "d3", "d4", "f1"]),
        ({"failedJobsHistoryLimit": 0}, ["d1", "f1", "f2"]),
        ({"successfulJobsHistoryLimit": 9, "failedJobsHistoryLimit": 9}, []),
    ],
)
def test_the_oldest_ended_jobs_go(limits, removed):
    done = [job(f"d{n}", "Complete", n) for n in (3, 1, 4, 2)]
    failed = [job(f"f{n}", "Failed", n) for n in (2, 1)]
    actions = decide_cron(cron(**limits), [*done, *failed, OLD], [], T)
    assert sorted(a.name for a in actions) == removed


def test_a_tick_makes_one_good_job_whose_deadline_is_the_windows_end():
    body = job_body(cron(), T)
    made = GreenJob.model_validate(body)
    assert made.finish_by() == T + 10 * HOUR and made.metadata.labels == {"team": "ml", CRON_LABEL: "nightly"}
    assert made.metadata.owner_references[0]["uid"] == "c-1"
    assert made.metadata.name == job_name(cron(), T) == f"nightly-{int(T.timestamp()) // 60}"


@pytest.mark.parametrize("name", ["a", "n" * 63, "n" * 53 + "-x", "a-" * 26 + "b"])
def test_job_names_fit_a_label(name):
    made = job_name(cron(name), T)
    assert len(made) <= 63 and made == made.strip("-") and made != job_name(cron(name), T + MINUTE)


def at(*texts):
    return [datetime.fromisoformat(t) for t in texts]


def fired(schedule, zone, day, hours=24):
    start = datetime.fromisoformat(day)
    return [f"{t:%d %H:%M}" for t in ticks_between(schedule, zone, start - MINUTE, start + hours * HOUR - MINUTE)]


@pytest.mark.parametrize(
    ("schedule", "zone", "day", "expected"),
    [
        ("0 20 * * *", "UTC", "2026-03-02T00:00Z", ["02 20:00"]),
        ("*/30 1-2 * * *", "UTC", "2026-03-02T00:00Z", ["02 01:00", "02 01:30", "02 02:00", "02 02:30"]),
        ("@daily", "UTC", "2026-03-02T00:00Z", ["02 00:00"]),
        ("@hourly", "UTC", "2026-03-02T00:00Z", [f"02 {h:02d}:00" for h in range(24)]),
        ("0 6 * * *", "Asia/Kathmandu", "2026-03-02T00:00Z", ["02 00:15"]),
        # Clocks go forward at 01:00Z: 02:30 local does not exist that day, and no other hour is hurt.
        ("30 1 * * *", "Europe/Berlin", "2026-03-29T00:00Z", ["29 00:30", "29 23:30"]),
        ("30 3 * * *", "Europe/Berlin", "2026-03-29T00:00Z", ["29 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:00Z", [f"29 {h:02d}:00" for h in range(24)]),
        # Clocks go back at 01:00Z: 02:30 local comes twice and fires once; every hour fires in both.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["25 00:30"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["25 00:00", "25 00:30"]),
        ("*/20 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["25 00:00", "25 00:20", "25 00:40"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", [f"25 {h:02d}:00" for h in range(24)]),
        ("0 1 * * *", "Europe/Berlin", "2026-10-25T00:00Z", []),  # 23:00Z of the day before
        # Half an hour: 2:00 becomes 1:30 at 15:00Z on 4 April.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", ["04 14:45"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", ["04 15:45"]),
    ],
)
def test_ticks(schedule, zone, day, expected):
    assert fired(schedule, zone, day) == expected


def test_an_hour_that_does_not_exist_fires_at_most_once():
    assert len(fired("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00Z")) <= 1
    assert len(fired("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00Z", 72)) in (2, 3)


@pytest.mark.parametrize(
    ("schedule", "days"),
    [  # 2026-03-01 is a Sunday
        ("0 0 * * 0", [1, 8]), ("0 0 * * 7", [1, 8]), ("0 0 * * sun", [1, 8]), ("0 0 * * 1-5", [2, 3, 4, 5, 6, 9, 10]),
        ("0 0 * * mon-fri", [2, 3, 4, 5, 6, 9, 10]), ("0 0 * * 6-7", [1, 7, 8]), ("0 0 * * 5-7", [1, 6, 7, 8]),
        ("0 0 * * 0-7", list(range(1, 11))), ("0 0 * * */2", [1, 3, 5, 7, 8, 10]), ("0 0 * * 0,3", [1, 4, 8]),
        ("0 0 * * 1-5/2", [2, 4, 6, 9]), ("0 0 * * Tue,THU", [3, 5, 10]),
        ("0 0 4 * 1", [2, 4, 9]),  # day or weekday, as cron has it
        ("0 0 4 * *", [4]), ("@weekly", [1, 8]), ("@monthly", [1]),
    ],
)  # fmt: skip
def test_weekdays(schedule, days):
    found = ticks_between(schedule, "UTC", *at("2026-02-28T23:59Z", "2026-03-10T23:59Z"))
    assert [t.day for t in found] == days


@pytest.mark.parametrize(
    ("schedule", "zone", "told"),
    [
        ("60 * * * *", "UTC", "minute"),
        ("0 24 * * *", "UTC", "hour"),
        ("0 0 32 * *", "UTC", "day"),
        ("0 0 * 13 *", "UTC", "month"),
        ("0 0 * * 8", "UTC", "week"),
        ("0 0 * * 5-1", "UTC", "5-1"),
        ("0 0 * * 7/2", "UTC", "7/2"),
        ("0 0 * *", "UTC", "has 4 fields, not 5"),
        ("0 0 0 * * *", "UTC", "has 6 fields, not 5"),
        ("@reboot..", "UTC", "has 1 fields"),
        ("0 0 * * *", "Mars/Olympus", "spec.timeZone"),
        ("0 0 * * *", "../etc/passwd", "spec.timeZone"),
    ],
)
def test_what_is_no_schedule_is_refused_by_field(schedule, zone, told):
    with pytest.raises(ValueError, match=r"spec\.(schedule|timeZone)") as caught:
        next_tick(schedule, zone, T)
    assert told in str(caught.value)


@pytest.mark.parametrize("schedule", ["@daily", "@hourly", "@weekly", "* * * * *"])
def test_the_words_admit_what_the_service_reads(schedule):
    assert cron(schedule=schedule).spec.schedule == schedule


def test_the_next_tick_is_after_now_and_in_utc():
    assert next_tick("0 20 * * *", "UTC", T) == T + 24 * HOUR
    assert next_tick("0 20 * * *", "Europe/Berlin", T) == T + 23 * HOUR
    assert next_tick("0 0 30 2 *", "UTC", T) is None


@pytest.fixture
def world():
    made = World(regions=[region_body("north", "SE")])
    yield made
    made.close()


def test_a_window_is_opened_once_by_the_conductor_and_says_when_the_next_opens(world):
    body = cron().model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    world.cluster.add({**body, "kind": "GreenCronJob"})
    world.advance(13 * HOUR)  # from 06:00
    assert world.cluster.jobs == {}
    for _ in range(3):
        world.advance(70 * MINUTE)
        world.restart()
    assert list(world.cluster.jobs) == [f"ml/{job_name(cron(), T)}"]
    status = world.cluster.others["GreenCronJob"][0]["status"]
    assert (status["nextScheduleTime"], status["lastScheduleTime"]) == ("03-03 20:00Z", "2026-03-02T20:00:00Z")
    world.advance(48 * HOUR)
    assert len(world.cluster.jobs) == 3


def test_a_bad_schedule_harms_only_itself(world):
    for name, schedule in (("bad", "60 * * * *"), ("good", "* * * * *")):
        body = cron(name, schedule=schedule).model_dump(
            by_alias=True, mode="json", exclude_none=True, exclude_unset=True
        )
        world.cluster.add({**body, "kind": "GreenCronJob"})
    world.advance(2 * MINUTE)
    bad = world.cluster.others["GreenCronJob"][0]["status"]["conditions"][0]
    assert (bad["status"], bad["reason"]) == ("False", "InvalidSpec")
    assert any("good-" in key for key in world.cluster.jobs)
