"""Durations that past runs say: what the first job of a profile does, what the next ones know, and who runs over."""

from datetime import timedelta

import pytest
from receipts import faults_of
from service.fake_provider import FakeProvider
from service.world import T0, World, job_body

from windward.ledger.port import LedgerUnavailable

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HERE = {"placement": {"regions": ["south"]}}
ETL = {"duration": None, "profile": "etl", **HERE}


@pytest.fixture
def world():
    made = World(FakeProvider(error=0.0))
    yield made
    made.close()


def submit(world, name, takes=None, **spec):
    if takes is not None:
        world.cluster.takes[name] = takes
    return world.cluster.apply(job_body(name, **{**ETL, **spec}))


def history(world, *takes, profile="etl"):
    """Past jobs of a profile, one after another at once, all gone from the cluster but not from the ledger."""
    for i, span in enumerate(takes):
        submit(world, f"past-{i}", span, profile=profile)
        world.cluster.annotate(f"default/past-{i}", **{"windward.dev/run-now": "true"})
        world.advance(span + HOUR)
        assert world.status(f"past-{i}")["summary"]["state"] == "Complete"
        world.cluster.delete_job("default", f"past-{i}")


def reads(world, monkeypatch):
    """Keys of profiles that the ledger was asked for."""
    asked, decisions = [], world.ledger.decisions
    monkeypatch.setattr(
        world.ledger, "decisions", lambda uid, newest=None: (asked.append(uid), decisions(uid, newest))[1]
    )
    return asked


def on_track(world, name):
    return next(c for c in world.status(name)["conditions"] if c["type"] == "OnTrack")


def test_the_first_run_of_a_profile_runs_at_once_and_the_fourth_in_a_cleaner_window(world):
    uid = submit(world, "first", 2 * HOUR)
    world.tick()
    status = world.status("first")
    assert status["plan"]["reason"] == "DurationUnknown" and world.cluster.told[uid].created[0][2] == T0
    assert status["duration"] == {
        "source": "Unknown", "expected": "1h", "profile": "etl", "runs": 0, "differs": "",
    }  # fmt: skip
    assert "as policy.fallback RunNow says" in status["plan"]["explanation"]
    world.advance(3 * HOUR)
    history(world, 3 * HOUR, 150 * MINUTE)
    submitted = world.clock.now()
    fourth = submit(world, "fourth", 2 * HOUR, completeWithin="20h")
    world.tick()
    status = world.status("fourth")
    assert status["duration"] == {
        "source": "Learned", "expected": "2h30m", "p90": "3h30m", "profile": "etl", "runs": 3, "differs": "",
    }  # fmt: skip
    (window,) = world.controller.previous.jobs["default/fourth"].windows
    assert window.length == 150 * MINUTE and window.start > submitted
    plan = world.controller.previous.jobs["default/fourth"]
    assert plan.reason == "CleanerWindow" and plan.emissions_g < plan.run_now_g
    assert plan.latest_start == submitted + 16.5 * HOUR, "it is held for the learned p90"
    assert "It takes 2h30m, 3h30m in nine of ten, learned from 3 past runs of profile etl." in plan.explanation
    world.advance(21 * HOUR)
    assert world.cluster.told[fourth].created[0][2] > submitted
    assert world.status("fourth")["summary"]["state"] == "Complete"


def test_the_restart_of_the_operator_keeps_what_was_learned_and_reads_it_once(world, monkeypatch):
    history(world, 2 * HOUR, 2 * HOUR)
    world.restart()
    asked = reads(world, monkeypatch)
    submit(world, "a", 2 * HOUR)
    submit(world, "b", 2 * HOUR)
    world.tick()
    assert [world.status(n)["duration"]["runs"] for n in ("a", "b")] == [2, 2]
    for _ in range(5):
        world.tick()
    assert len(asked) == 1
    world.advance(14 * HOUR)
    submit(world, "c", 2 * HOUR)
    world.tick()
    assert world.status("c")["duration"]["runs"] == 4 and 2 <= len(asked) <= 3, "once more for each end"


def test_a_run_that_runs_over_is_planned_again_and_is_not_called_late(world):
    history(world, 2 * HOUR, 2 * HOUR, 2 * HOUR, 3 * HOUR)
    uid = submit(world, "long", 190 * MINUTE, completeWithin="6h")
    world.tick()
    assert world.status("long")["duration"]["expected"] == "2h"
    while not world.cluster.runs(uid) or world.cluster.runs(uid)[0].started_at is None:
        world.advance(HOUR)
    began = world.cluster.runs(uid)[0].started_at
    ends = []
    while world.status("long")["summary"]["state"] != "Complete":
        world.advance(5 * MINUTE)
        plan = world.controller.previous.jobs.get("default/long")
        ran = world.clock.now() - began
        if plan is not None and plan.windows and world.status("long")["summary"]["state"] == "Running":
            ends.append((ran, plan.windows[-1].end - began, plan.explanation))
    over = [e for e in ends if e[0] > 130 * MINUTE]
    assert all(end > ran for ran, end, _ in over) and over[0][1] == 3 * HOUR, "as the one that took longer"
    assert "It runs longer than 2h: 3h expected now, by past runs of profile etl" in over[0][2]
    assert over[-1][1] == 3.3 * HOUR and "by what it ran so far" in over[-1][2]
    events = [e.reason for _, e in world.cluster.told[uid].events]
    assert "DeadlineAtRisk" not in events and "DeadlineMissed" not in events
    assert on_track(world, "long")["status"] == "True"


def test_a_declared_run_over_is_replanned_when_it_crosses_and_seldom_after(world):
    uid = world.cluster.apply(job_body("late", completeWithin="2h6m", duration="1h", **HERE))
    world.cluster._job(uid).takes_s = 1.75 * 3600
    fleets, planner = [], world.controller.standing.planner

    def noting(fleet, forecasts, now, previous):
        fleets.extend((now - T0, w.remaining) for w in fleet.work)
        return planner(fleet, forecasts, now, previous)

    world.controller.standing.planner = noting
    world.tick()
    began = world.cluster.runs(uid)[0].started_at if world.cluster.runs(uid) else None
    while began is None or world.status("late")["summary"]["state"] != "Complete":
        world.cluster.pass_time(MINUTE)
        world.controller.cycle()
        began = began or next((r.started_at for r in world.cluster.runs(uid)), None)
    over = [(at - (began - T0), left) for at, left in fleets if at - (began - T0) > 61 * MINUTE]
    assert 5 <= len(over) <= 8, "1.1, 1.21, 1.33, 1.46, 1.61 and 1.77 hours, and the ticks in which it had drifted"
    assert all(left >= 2 * MINUTE for _, left in over)


def test_a_declared_duration_that_history_denies_is_told_once_and_kept(world):
    history(world, 4 * HOUR, 4 * HOUR)
    uid = submit(world, "wrong", 4 * HOUR, duration="1h")
    world.tick()
    world.tick()
    status = world.status("wrong")
    assert (status["duration"]["source"], status["duration"]["expected"]) == ("Declared", "1h")
    assert status["duration"]["differs"].startswith("spec.duration says 1h, the last 2 runs of profile etl took 4h")
    told = [e for _, e in world.cluster.told[uid].events if e.reason == "DurationDiffers"]
    assert len(told) == 1 and told[0].warning and "correct it" in told[0].message
    right = submit(world, "right", 4 * HOUR, duration="4h")
    world.tick()
    assert world.status("right")["duration"]["differs"] == "" and world.status("right")["duration"]["runs"] == 2
    assert "DurationDiffers" not in [e.reason for _, e in world.cluster.told[right].events]


@pytest.mark.parametrize(("within", "reason"), [("90m", "DeadlineTooSoon"), ("130m", "NoSlack")])
def test_a_learned_duration_that_does_not_fit_is_told_as_a_declared_one(world, within, reason):
    history(world, 2 * HOUR)
    submit(world, "tight", 2 * HOUR, completeWithin=within)
    world.tick()
    assert world.status("tight")["plan"]["reason"] == reason


def test_the_end_of_one_job_changes_the_plan_of_the_next_where_it_says_something_new(world):
    history(world, HOUR)
    submit(world, "waiting", HOUR, completeWithin="30h")
    world.tick()
    assert world.status("waiting")["duration"]["expected"] == "1h"
    submit(world, "other", 3 * HOUR, completeWithin="2h")
    world.tick()
    world.advance(3 * HOUR + MINUTE)
    assert world.status("other")["summary"]["state"] == "Complete"
    world.tick()
    if world.status("waiting")["summary"]["state"] == "Waiting":
        assert world.controller.previous.jobs["default/waiting"].windows[0].length == 3 * HOUR
    assert world.status("waiting")["duration"]["runs"] == 2


def test_profiles_of_other_names_and_namespaces_know_nothing_of_each_other(world):
    history(world, 2 * HOUR)
    submit(world, "other", 2 * HOUR, profile="train")
    body = job_body("etl", **ETL)
    body["metadata"]["namespace"] = "ml"
    world.cluster.apply(body)
    world.tick()
    assert world.status("other")["duration"]["source"] == "Unknown"
    assert world.cluster.status("ml/etl")["duration"]["source"] == "Unknown"


def test_while_the_ledger_is_out_nothing_starts_as_unknown_and_known_jobs_are_served(world, monkeypatch):
    history(world, 2 * HOUR)
    submit(world, "known", 2 * HOUR)
    world.tick()
    world.restart()
    asked, out = [], LedgerUnavailable("the ledger cannot be used", "Wait.")

    def fails(uid, newest=None):
        asked.append(uid)
        raise out

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "decisions", fails)
        uids = [submit(world, name, 2 * HOUR) for name in ("new", "newer")]
        world.tick()
        world.tick()
        assert [world.cluster.told[uid].created for uid in uids] == [[], []]
        assert len(asked) == 1, "asked once for all"
        assert world.status("known")["duration"]["source"] == "Learned"
        assert world.status("known")["plan"]["reason"] == "CleanerWindow"
        assert world.status("new")["summary"]["reason"] == "InternalError"
    world.cluster.pass_time(6 * MINUTE)
    world.tick()
    assert world.status("new")["duration"]["source"] == "Learned"


def test_an_end_that_the_ledger_could_not_take_is_recorded_later(world, monkeypatch):
    submit(world, "first", 2 * HOUR)
    world.advance(HOUR)
    record = world.ledger.record_decision

    def fails(uid, *rest):
        if uid.startswith("profile/"):
            raise LedgerUnavailable("the ledger cannot be used", "Wait.")
        record(uid, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "record_decision", fails)
        world.advance(HOUR + MINUTE)
        assert world.status("first")["summary"]["state"] == "Complete"
    world.advance(10 * MINUTE)
    submit(world, "second", 2 * HOUR)
    world.tick()
    assert world.status("second")["duration"]["runs"] == 1


def test_ticks_of_a_greencronjob_learn_under_its_name(world):
    spec = {k: v for k, v in job_body(duration=None, **HERE)["spec"].items() if k != "completeWithin"}
    world.cluster.apply({
        "apiVersion": "windward.dev/v1alpha1", "kind": "GreenCronJob",
        "metadata": {"name": "nightly", "namespace": "default"},
        "spec": {"schedule": "0 7 * * *", "window": "20h", "jobTemplate": {"spec": spec}},
    })  # fmt: skip
    world.advance(50 * HOUR)
    found = [world.cluster.status(key)["duration"] for key in sorted(world.cluster.jobs)]
    assert [(d["profile"], d["source"], d["runs"]) for d in found] == [
        ("nightly", "Unknown", 0),
        ("nightly", "Learned", 1),
        ("nightly", "Learned", 2),
    ]


def test_a_receipt_without_a_declared_duration_verifies_and_names_its_source(world):
    pauses = {"interruption": {"policy": "Checkpoint"}}
    uid = submit(world, "first", 3 * HOUR, **pauses)
    world.advance(HOUR)
    world.cluster.edit("default/first", suspend=True)
    world.advance(HOUR)
    world.cluster.edit("default/first", suspend=False)
    world.advance(3 * HOUR)
    submit(world, "second", 3 * HOUR, **pauses)
    world.advance(16 * HOUR)
    first, second = world.ledger.receipts(include_demo=True)
    assert len(world.cluster.runs(uid)) == 2 and faults_of([first, second]) == []
    assert [r.body["declared"]["durationSource"] for r in (first, second)] == ["Unknown", "Learned"]
    assert first.body["baseline"]["usefulSeconds"] == pytest.approx(3 * 3600, rel=0.02), "no bound of an hour"
    assert world.status("second")["duration"]["runs"] == 1 and world.status("second")["duration"]["expected"] == "3h"
