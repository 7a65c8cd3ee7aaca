"""GreenCronJobs: the tick opens a window once, whatever the clock on the wall does."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from lifecycle.cases import greenjob
from pydantic import ValidationError
from service.world import World, region_body

from windward.cluster import Refused
from windward.lifecycle.cron import (
    CRON_LABEL,
    CreateJob,
    RemoveJob,
    cut,
    decide_cron,
    due_tick,
    is_child,
    job_body,
    job_name,
    next_tick,
)
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.schedule import parse_schedule
from windward_api.sentences import sentences

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
    actions = decide_cron(cron(**spec), jobs, ticks[-1] if ticks else None, T + late)
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
    actions = decide_cron(cron(**limits), [*done, *failed, OLD], None, T)
    assert sorted(a.name for a in actions) == removed


def test_a_tick_makes_one_good_job_whose_deadline_is_the_windows_end():
    body = job_body(cron(), T)
    made = GreenJob.model_validate(body)
    assert made.finish_by() == T + 10 * HOUR and made.metadata.labels == {"team": "ml", CRON_LABEL: "nightly"}
    assert made.metadata.owner_references[0]["uid"] == "c-1"
    assert made.metadata.name == job_name(cron(), T) == f"nightly-{int(T.timestamp()) // 60}"


@pytest.mark.parametrize(
    "name", ["a", "n" * 52, "n" * 53, "n" * 63, "n" * 253, "a-" * 26 + "b", "n" * 41 + ".x" + "y" * 30, "a.b"]
)
def test_job_names_and_labels_are_legal_whatever_the_crons_name(name):
    legal = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
    meta = job_body(cron(name), T)["metadata"]
    assert len(meta["name"]) <= 63 and legal.fullmatch(meta["name"]) and ".-" not in meta["name"]
    assert len(meta["labels"][CRON_LABEL]) <= 63 and legal.fullmatch(meta["labels"][CRON_LABEL])
    assert meta["name"] != job_name(cron(name), T + MINUTE)


@pytest.mark.parametrize("name", ["nightly", "n" * 253, "a.b", "n" * 62 + ".b"])
def test_a_tick_without_a_duration_has_the_crons_name_as_its_profile(name):
    spec = {"placement": {"regions": ["north"]}, "template": CONTAINER}
    made = GreenJob.model_validate(job_body(cron(name, jobTemplate={"spec": spec}), T))
    declared = GreenJob.model_validate(job_body(cron(name), T))
    assert made.spec.profile == made.profile == declared.profile and name.startswith(made.profile)
    assert declared.spec.profile is None, "its owner says it"
    named = cron(name, jobTemplate={"spec": spec | {"profile": "etl"}})
    assert GreenJob.model_validate(job_body(named, T)).profile == "etl"


def test_a_tick_of_unknown_length_is_made_up_for_until_its_window_ends():
    open_end = cron(jobTemplate={"spec": {"placement": {"regions": ["north"]}, "template": CONTAINER}})
    with_status = open_end.model_copy(update={"status": open_end.status.model_copy(update={"last_schedule_time": T})})
    day = T + 24 * HOUR
    assert due_tick(with_status, day + 9 * HOUR) == day and due_tick(with_status, day + 11 * HOUR) is None


def test_names_of_one_beginning_stay_apart():
    names = [*("n" * 60 + end for end in ("-a", "-b", ".a", "")), "n" * 52, "n" * 53]
    assert len({job_name(cron(n), T) for n in names}) == len(names)
    assert len({cut("n" * 63 + end, 63) for end in ("", "a", "b")}) == 3


def test_ticks_within_a_minute_have_names_of_their_own():
    names = {job_name(cron(), T + timedelta(seconds=30 * k)) for k in range(4)}
    assert len(names) == 4 and job_name(cron(), T) in names


def at(*texts):
    return [datetime.fromisoformat(t) for t in texts]


def ticks_between(schedule, zone, after, until):
    made, found = parse_schedule(schedule, zone), []
    while (after := made.following(after)) is not None and after <= until:
        found.append(after)
    return found


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
        # Clocks go back at 01:00Z: 02:30 local comes twice and fires twice, as with a CronJob.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["25 00:30", "25 01:30"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", ["25 00:00", "25 00:30", "25 01:00", "25 01:30"]),
        ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", [f"25 {h:02d}:00" for h in range(24)]),
        ("0 1 * * *", "Europe/Berlin", "2026-10-25T00:00Z", []),  # 23:00Z of the day before
        # Half an hour: 2:00 becomes 1:30 at 15:00Z on 4 April. Kubernetes' parser, which goes on by whole hours, misses
        # 2:15 that day, and so do we.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", ["04 14:45", "04 15:15"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", []),
        ("45 2 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", ["04 16:15"]),
    ],
)
def test_ticks(schedule, zone, day, expected):
    assert fired(schedule, zone, day) == expected


def test_an_hour_that_does_not_exist_does_not_fire():
    assert fired("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00Z") == []
    assert fired("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00Z", 72) == ["28 01:30", "30 00:30"]


@pytest.mark.parametrize(
    ("schedule", "days"),
    [  # 2026-03-01 is a Sunday
        ("0 0 * * 0", [1, 8]), ("0 0 * * sun", [1, 8]), ("0 0 * * 1-5", [2, 3, 4, 5, 6, 9, 10]),
        ("0 0 * * mon-fri", [2, 3, 4, 5, 6, 9, 10]), ("0 0 * * 5-6", [6, 7]),
        ("0 0 * * 0-6", list(range(1, 11))), ("0 0 * * */2", [1, 3, 5, 7, 8, 10]), ("0 0 * * 0,3", [1, 4, 8]),
        ("0 0 * * 1-5/2", [2, 4, 6, 9]), ("0 0 * * Tue,THU", [3, 5, 10]),
        ("0 0 4 * 1", [2, 4, 9]),  # day or weekday, as cron has it
        ("0 0 4 * *", [4]), ("@weekly", [1, 8]), ("@monthly", [1]),
    ],
)  # fmt: skip
def test_weekdays(schedule, days):
    found = ticks_between(schedule, "UTC", *at("2026-02-28T23:59Z", "2026-03-10T23:59Z"))
    assert [t.day for t in found] == days


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schedule": "@reboot"}, "'@reboot' is none of them"),
        ({"schedule": "0 9 * * MON#2"}, "spec.schedule: weekday: 'MON#2' is none"),
        ({"schedule": "0 9 * * 7"}, "Sunday is 0"),
        ({"schedule": "0 0 0 * * *"}, "has 6 fields, not 5"),
        ({"schedule": "0 0 31 2 *"}, "spec.schedule: never fires"),
        ({"schedule": "TZ=UTC 0 0 * * *"}, "name the time zone in spec.timeZone"),
        ({"timeZone": "Europe"}, "spec.timeZone: must be an IANA time zone"),
        ({"timeZone": "../UTC"}, "spec.timeZone: must be an IANA time zone"),
        ({"timeZone": "/etc/localtime"}, "spec.timeZone: must be an IANA time zone"),
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone: must be an IANA time zone"),
    ],
)
def test_a_schedule_that_would_never_fire_or_fail_later_is_refused_by_the_model(change, told):
    with pytest.raises(ValidationError) as caught:
        cron(**change)
    (sentence,) = sentences(caught.value)
    assert told in sentence


@pytest.mark.parametrize("schedule", ["@daily", "@hourly", "@weekly", "* * * * *"])
def test_the_words_admit_what_the_service_reads(schedule):
    assert cron(schedule=schedule).spec.schedule == schedule


def test_the_next_tick_is_after_now_and_in_utc():
    assert next_tick(cron(), T) == T + 24 * HOUR
    assert next_tick(cron(timeZone="Europe/Berlin"), T) == T + 23 * HOUR
    created = cron(schedule="@every 90m", metadata={"creationTimestamp": "2026-03-01T00:00:10Z"})
    assert next_tick(created, T) == datetime(2026, 3, 2, 21, 0, 10, tzinfo=UTC)


def since(moment, last=None, **spec):
    made = cron(metadata={"creationTimestamp": moment.isoformat()}, **spec)
    status = made.status.model_copy(update={"last_schedule_time": last})
    return made.model_copy(update={"status": status})


@pytest.mark.parametrize(
    ("spec", "last", "expected"),
    [
        # down or suspended for a month: the newest tick that is still worth it, and nothing of the month before
        ({}, T - 720 * HOUR, T),
        ({"schedule": "* * * * *"}, T - 720 * HOUR, T),
        ({"schedule": "3/7 * * * *"}, None, T - MINUTE),
        ({"schedule": "0 9 * * *"}, T - 720 * HOUR, None),  # 11 h late, and 6 h of slack
        # a window longer than a week is opened late, too
        ({"schedule": "0 0 20 * *", "window": "20d"}, None, datetime(2026, 2, 20, tzinfo=UTC)),
        ({"schedule": "* * * * *", "startingDeadlineSeconds": 31_536_000}, T - 8000 * HOUR, T),
        ({"schedule": "@every 7h"}, T - 720 * HOUR, T - 6 * HOUR),
        ({"schedule": "@every 7h", "window": "9h"}, T - 720 * HOUR, None),
        ({}, T, None),  # handled
        ({}, T + 9000 * HOUR, T),  # a clock that was set back
    ],
)
def test_the_newest_tick_that_is_still_worth_opening_is_due_however_long_nothing_was_opened(spec, last, expected):
    made = since(T - 2000 * HOUR, last, **spec)
    assert due_tick(made, T) == expected
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        due_tick(made, T), next_tick(made, T)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.005, spent


@pytest.fixture
def world():
    made = World(regions=[region_body("north", "SE")])
    yield made
    made.close()


def test_a_window_is_opened_once_by_the_controller_and_says_when_the_next_opens(world):
    body = cron().model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    world.cluster.apply({**body, "kind": "GreenCronJob"})
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


def body_of(name, **spec):
    made = cron(name, **spec).model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True)
    return {**made, "kind": "GreenCronJob"}


def conditions(world, name):
    body = next(b for b in world.cluster.others["GreenCronJob"] if b["metadata"]["name"] == name)
    return {c["type"]: (c["status"], c["reason"], c.get("message", "")) for c in body["status"]["conditions"]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schedule": "@reboot"}, "'@reboot' is none of them"),
        ({"schedule": "60 * * * *"}, "spec.schedule: minute: '60'"),
        ({"schedule": "0 0 31 2 *"}, "spec.schedule: never fires"),
        ({"timeZone": "Europe"}, "spec.timeZone: must be an IANA time zone"),
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone: must be an IANA time zone"),
    ],
)
def test_a_cron_that_cannot_be_read_harms_only_itself_and_says_why(world, change, told):
    bad = body_of("a-bad")
    world.cluster.apply({**bad, "spec": {**bad["spec"], **change}})
    world.cluster.apply(body_of("good", schedule="* * * * *"))
    world.advance(2 * MINUTE)
    status, reason, message = conditions(world, "a-bad")["Accepted"]
    assert (status, reason) == ("False", "InvalidSpec") and told in message
    assert conditions(world, "good") == {"Accepted": ("True", "Valid", ""), "Scheduled": ("True", "Scheduled", "")}
    assert any("good-" in key for key in world.cluster.jobs)


@pytest.mark.parametrize(
    ("error", "reason", "told"),
    [
        (Refused("admission says no"), "ClusterError", "admission says no"),
        (KeyError("a bug"), "UnexpectedError", "KeyError: 'a bug'"),
    ],
)
def test_what_goes_wrong_with_a_cron_stays_with_it_and_stands_in_its_status(world, monkeypatch, error, reason, told):
    create = world.cluster.create_job

    def refusing(body):
        if body["metadata"]["name"].startswith("a-bad"):
            raise error
        create(body)

    monkeypatch.setattr(world.cluster, "create_job", refusing)
    for name in ("a-bad", "good"):
        world.cluster.apply(body_of(name, schedule="* * * * *"))
    world.advance(2 * MINUTE)
    assert any("good-" in key for key in world.cluster.jobs)
    status, said, message = conditions(world, "a-bad")["Scheduled"]
    assert (status, said) == ("False", reason) and told in message
    monkeypatch.undo()
    world.advance(2 * MINUTE)
    assert conditions(world, "a-bad")["Scheduled"][0] == "True"


def test_a_cron_resumed_after_a_month_opens_its_newest_window_and_goes_on(world):
    world.cluster.apply(body_of("nightly", suspend=True))
    world.tick()
    world.cluster.pass_time(30 * 24 * HOUR)
    world.tick()
    assert world.cluster.jobs == {}
    world.cluster.others["GreenCronJob"][0]["spec"]["suspend"] = False
    world.cluster.pass_time(16 * HOUR)  # from 06:00 to 22:00: the window of 20:00 is open
    world.advance(MINUTE)
    newest = datetime(2026, 4, 1, 20, tzinfo=UTC)
    assert list(world.cluster.jobs) == [f"ml/{job_name(cron(), newest)}"]
    world.advance(24 * HOUR)
    assert f"ml/{job_name(cron(), newest + 24 * HOUR)}" in world.cluster.jobs


def test_a_foreign_job_with_a_copied_label_is_no_child(world):
    mine = job_body(cron(metadata={"uid": "uid-nightly"}), T)
    owner = mine["metadata"]["ownerReferences"][0]
    foreign = [
        [],
        [{**owner, "uid": "another"}],
        [{**owner, "kind": "GreenJob"}],
        [{**owner, "controller": False}],
    ]
    world.cluster.apply(body_of("nightly", successfulJobsHistoryLimit=0, concurrencyPolicy="Replace"))
    for i, owners in enumerate(foreign):
        meta = {**mine["metadata"], "name": f"foreign-{i}", "ownerReferences": owners}
        world.cluster.apply({**mine, "metadata": meta})
    child = GreenJob.model_validate(mine)
    known = cron(metadata={"uid": "uid-nightly"})
    assert is_child(known, child) and not is_child(cron(metadata={"uid": "uid-nightly", "namespace": "b"}), child)
    world.advance(15 * HOUR)
    assert {f"ml/foreign-{i}" for i in range(len(foreign))} < set(world.cluster.jobs)
    status = world.cluster.others["GreenCronJob"][0]["status"]
    assert status["active"] == [job_name(cron(), T)]


def test_a_window_whose_name_somebody_else_took_is_told_and_not_counted_as_opened(world):
    world.cluster.apply(body_of("nightly"))
    meta = {"name": job_name(cron(), T), "namespace": "ml"}
    world.cluster.apply({**job_body(cron(), T), "metadata": meta})
    world.advance(15 * HOUR)
    status, reason, message = conditions(world, "nightly")["Scheduled"]
    assert (status, reason) == ("False", "NameTaken") and meta["name"] in message
    assert "lastScheduleTime" not in world.cluster.others["GreenCronJob"][0]["status"]
