"""The controller's promises one by one: what a crash, a stranger, a refusal, an outage or a bad object does."""

import threading
import time
from datetime import datetime, timedelta

import pytest
from service.fake_provider import FakeProvider
from service.served_cluster import Crash
from service.world import T0, World, job_body

from windward.cluster.port import Unavailable
from windward.domain.run import Phase
from windward.ledger.port import LedgerUnavailable
from windward.lifecycle.booking import LAST_REPORT

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
AT_ONCE = {"completeWithin": "2h6m"}  # its latest start is its creation


def joules(world, uid):
    return sum(r.joules for r in world.ledger.energy(uid))


def started(world, uid):
    return [attempt for attempt, _, _ in world.cluster.told[uid].created]


def test_a_job_from_its_submission_to_its_receipt(world):
    uid = world.cluster.apply(job_body())
    world.advance(16 * HOUR)  # 12 h to finish, and 3 h in which the provider still revises
    status = world.status()
    assert status["summary"]["state"] == "Complete" and started(world, uid) == [1]
    (told_g_per_kwh,) = world.cluster.told[uid].intensities
    expected_g = float(status["plan"]["expectedEmissionsGrams"])
    assert told_g_per_kwh * 0.4 == pytest.approx(expected_g, rel=0.1), "0.4 kWh at the meter's intensity, PUE included"
    assert world.cluster.finished_at(uid) <= T0 + 12 * HOUR
    assert float(status["accounting"]["energyJoules"]) == pytest.approx(200 * 7200)
    (receipt,) = world.ledger.receipts(include_demo=True)
    assert receipt.settled and status["accounting"]["receipt"] == receipt.sha256
    assert receipt.body["emissionsGrams"] == pytest.approx(float(status["accounting"]["emissionsGrams"]), abs=1e-3)
    assert [e.reason for _, e in world.cluster.told[uid].events if e.reason in ("Started", "Complete")] == [
        "Started",
        "Complete",
    ]
    written = world.cluster.told[uid].statuses
    world.advance(5 * HOUR)
    assert world.cluster.told[uid].statuses == written, "nothing changes after the end, so nothing is written"


def test_a_job_at_a_power_level_from_its_plan_to_its_receipt(world):
    """Half as fast at a third of the draw: it runs so wherever it has the time, and counts against the declared way."""
    level = {"name": "slow", "watts": 66, "duration": "4h"}
    uid = world.cluster.apply(job_body(power={"watts": 200, "levels": [level]}))
    world.tick()
    assert world.status()["plan"]["powerLevel"] == "slow"
    assert "at slow" in world.status()["plan"]["explanation"]
    world.advance(16 * HOUR)
    status = world.status()
    assert [(r["phase"], r["powerLevel"]) for r in status["runs"]] == [("Succeeded", "slow")]
    ran = world.cluster.runs(uid)[0]
    assert ran.finished_at - ran.started_at == 4 * HOUR and ran.finished_at <= T0 + 12 * HOUR
    account = status["accounting"]
    assert float(account["energyJoules"]) == pytest.approx(66 * 4 * 3600)
    (receipt,) = world.ledger.receipts(include_demo=True)
    base = receipt.body["baseline"]
    assert base["usefulSeconds"] == pytest.approx(7200) and base["meanPowerWatts"] == pytest.approx(200)
    expected_g = float(status["plan"]["expectedEmissionsGrams"])
    assert float(account["emissionsGrams"]) == pytest.approx(expected_g, rel=0.3), "forecasts err, levels do not"


def test_a_recording_settles_when_the_job_ends(world):
    """Nobody revises it; also where the node's clock is ahead, and a meter's last step ends a moment from now."""
    world.provider.revised_for, ahead = timedelta(0), 3 * SECOND
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.tick()
    world.cluster.pass_time(2 * HOUR)
    (run,) = world.cluster.runs(uid)
    energy = run.report.energy.model_copy(update={"start": run.report.energy.start + ahead})
    report = run.report.model_copy(update={"energy": energy})
    world.cluster.change(uid, finished_at=run.finished_at + ahead, report=report)
    world.tick()
    status = world.status()
    assert status["summary"]["state"] == "Complete" and status["accounting"]["settled"]
    (receipt,) = world.ledger.receipts(include_demo=True)
    assert receipt.settled and receipt.revision == 1


def test_a_crash_between_claim_and_create_makes_one_run(world):
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.cluster.crash_after_claim = True
    with pytest.raises(Crash):
        world.controller.cycle()
    assert world.status()["attempt"] == 1 and started(world, uid) == []
    world.restart()
    for _ in range(3):
        world.tick()
    assert started(world, uid) == [1] and world.status()["attempt"] == 1


def test_a_conflict_starts_nothing_and_is_made_up_for_in_the_next_turn(world):
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.cluster.conflict_next = True
    cycle = world.controller.cycle()
    assert started(world, uid) == [] and cycle.errors == {}
    world.controller.cycle()
    assert started(world, uid) == [1]


def test_a_refusal_is_told_and_tried_again_later_under_the_same_number(world):
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.cluster.refuse_next = True
    world.tick()
    world.tick()
    assert started(world, uid) == []
    assert (world.conditions()["Running"]["reason"], world.conditions()["Running"]["message"]) == (
        "ChildRefused", "admission webhook says no",
    )  # fmt: skip
    world.cluster.pass_time(timedelta(seconds=11))
    world.tick()
    assert started(world, uid) == [1]
    world.tick()
    assert world.conditions()["Running"]["reason"] == "PodsReady"


@pytest.mark.parametrize(
    ("fallback", "first"), [("RunNow", T0), ("RunAtLatest", T0 + 12 * HOUR - 2 * HOUR - 6 * MINUTE)]
)
def test_without_any_forecast_the_declared_fallback_and_still_in_time(world, fallback, first):
    world.provider.out = True
    uid = world.cluster.apply(job_body(policy={"fallback": fallback}))
    world.advance(13 * HOUR)
    assert world.cluster.told[uid].created[0][2] == first
    assert world.cluster.finished_at(uid) == first + 2 * HOUR
    assert world.status()["accounting"].get("emissionsGrams", "") == "", "unknown is not 0"
    assert world.status()["summary"]["state"] == "Complete"


def test_an_outage_after_the_first_forecast_changes_nothing_for_hours(world):
    quiet, loud = World(FakeProvider(error=0.0)), World(FakeProvider(error=0.0))
    for one in (quiet, loud):
        one.cluster.apply(job_body())
        one.tick()
    loud.provider.out = True
    for one in (quiet, loud):
        one.advance(5 * HOUR)
    (a,), (b,) = (list(one.cluster.told.values()) for one in (quiet, loud))
    assert a.created == b.created
    quiet.close()
    loud.close()


POISON = {
    "unreadable": {"duration": "soon"},
    "before the first year": {"completeWithin": None, "deadline": "0001-01-02T00:00:00Z"},
    "beyond the last year": {"completeWithin": None, "deadline": "9999-12-31T23:59:59Z"},
    "nearly 300 years long": {"duration": "99999d", "completeWithin": "99999d99999h"},
    "regions that are not there": {"placement": {"regions": ["nowhere"]}},
    "a template of nonsense": {"template": {"spec": {"containers": [{"resources": {"requests": {"cpu": "lots"}}}]}}},
    "a template without containers": {"template": {"spec": None}},
    "long past": {"completeWithin": None, "deadline": "1999-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("spec", POISON.values(), ids=POISON)
def test_a_bad_object_harms_itself_only(world, spec):
    world.cluster.apply(job_body("poison", **spec))
    good = world.cluster.apply(job_body("good", **AT_ONCE))
    world.advance(3 * HOUR)
    assert world.cluster.finished_at(good) is not None
    summary = world.status("poison")["summary"]
    assert summary["state"] and summary["reason"]


def test_what_status_kept_of_a_run_is_not_booked_a_second_time(world):
    """Its pod is collected and the operator starts anew: no report any more, but its energy is in the book."""
    uid = world.cluster.apply(job_body(duration="4h", completeWithin="4h12m", interruption={"policy": "Checkpoint"}))
    world.advance(HOUR)
    world.cluster.edit("default/night", suspend=True)
    world.advance(10 * MINUTE)
    booked = joules(world, uid)
    assert booked == pytest.approx(200 * 3600)
    world.cluster.collect(uid)
    world.restart()
    world.advance(10 * MINUTE)
    assert joules(world, uid) == pytest.approx(booked)


def test_a_run_whose_end_nobody_saw_does_not_grow_with_each_restart(world):
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.advance(HOUR)
    world.cluster.lose(uid)
    world.cluster.change(uid, finished_at=None)
    world.cluster.edit("default/night", suspend=True)
    world.advance(MINUTE)
    booked = joules(world, uid)
    for _ in range(3):
        world.restart()
        world.advance(HOUR)
    assert joules(world, uid) == pytest.approx(booked)


def test_a_lost_run_is_booked_as_estimated_once_its_last_words_are_overdue(world):
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.advance(HOUR)
    world.cluster.lose(uid)
    world.tick()
    assert joules(world, uid) == 0
    world.advance(LAST_REPORT + timedelta(seconds=1))
    assert {r.method for r in world.ledger.energy(uid)} == {"estimated"}
    assert joules(world, uid) == pytest.approx(200 * 3600)


def test_nothing_answers_and_then_it_does(world):
    uid = world.cluster.apply(job_body(**AT_ONCE))
    world.cluster.down = True
    with pytest.raises(Unavailable):
        world.controller.cycle()
    world.cluster.down = False
    world.tick()
    assert started(world, uid) == [1]


def test_a_book_that_cannot_be_written_delays_no_start_and_no_other_job(world, monkeypatch):
    uid = world.cluster.apply(job_body(**AT_ONCE))

    def broken(*_, **__):
        raise LedgerUnavailable("the disk is full")

    for name in ("record_energy", "record_decision", "record_receipt", "energy"):
        monkeypatch.setattr(world.ledger, name, broken)
    for _ in range(3):
        cycle = world.controller.cycle()
    assert started(world, uid) == [1]
    assert "disk is full" in " ".join(cycle.errors.values()) or cycle.errors == {}
    world.cluster.pass_time(3 * HOUR)
    world.controller.cycle()
    assert world.status()["summary"]["state"] != "Complete", "the end goes with its receipt"
    monkeypatch.undo()
    world.cluster.pass_time(10 * SECOND)  # it is tried again a few seconds later
    world.tick()
    assert world.status()["summary"]["state"] == "Complete"


def test_suspend_pauses_holds_and_lets_go(world):
    uid = world.cluster.apply(job_body(duration="4h", completeWithin="4h12m", interruption={"policy": "Checkpoint"}))
    world.advance(10 * MINUTE)
    world.cluster.edit("default/night", suspend=True)
    world.tick()
    assert [r.phase for r in world.cluster.runs(uid)] == [Phase.STOPPING]
    world.advance(HOUR)
    assert (world.status()["summary"]["state"], started(world, uid)) == ("Held", [1])
    world.cluster.edit("default/night", suspend=False)
    world.tick()
    assert started(world, uid) == [1, 2]


def test_who_is_let_go_while_its_run_still_stops_waits_for_its_end(world):
    uid = world.cluster.apply(job_body(duration="4h", completeWithin="4h12m", interruption={"policy": "Checkpoint"}))
    world.advance(10 * MINUTE)
    for suspend in (True, False):
        world.cluster.edit("default/night", suspend=suspend)
        world.tick()
    assert [r.phase for r in world.cluster.runs(uid)] == [Phase.STOPPING]
    world.cluster.pass_time(SECOND)
    world.tick()
    assert [r.phase for r in world.cluster.runs(uid)] == [Phase.PAUSED, Phase.RUNNING]


def test_run_now_starts_at_once(world):
    uid = world.cluster.apply(job_body(completeWithin="30h"))
    world.tick()
    waits = started(world, uid) == []
    world.cluster.annotate("default/night", **{"windward.dev/run-now": "true"})
    world.tick()
    assert waits and started(world, uid) == [1] and world.cluster.told[uid].created[0][2] == T0


def test_failures_are_tried_again_until_the_limit_and_then_it_is_over(world):
    uid = world.cluster.apply(job_body(backoffLimit=1, **AT_ONCE))
    for _ in range(5):
        world.advance(MINUTE)
        world.cluster.fail(uid, 3)
    world.tick()
    assert started(world, uid) == [1, 2]
    assert world.status()["summary"]["state"] == "Failed"
    assert "exit code 3" in world.conditions()["Failed"]["message"]


def test_the_time_to_live_ends_with_the_object(world):
    world.cluster.apply(job_body(ttlSecondsAfterFinished=600, **AT_ONCE))
    world.advance(2 * HOUR + 5 * MINUTE)
    assert "default/night" in world.cluster.jobs
    world.advance(20 * MINUTE)
    assert "default/night" in world.cluster.jobs, "its account is not final: hours may be revised for three more hours"
    world.advance(5 * HOUR)
    assert world.cluster.jobs == {} and world.ledger.receipts(include_demo=True)[0].settled


def test_regions_say_what_is_known_of_them(world):
    world.cluster.apply(job_body(**AT_ONCE))
    world.tick()
    world.tick()
    told = {b["metadata"]["name"]: b["status"] for b in world.cluster.others["GreenRegion"]}
    assert sum(s["running"] for s in told.values()) == 1
    for name, zone in (("north", "SE"), ("south", "DE")):
        assert told[name]["zone"] == zone and told[name]["conditions"][0]["reason"] == "Live"
        assert float(told[name]["intensity"]) >= 0


def test_a_revised_intensity_restates_the_account_and_the_first_word_stays_in_the_book(world):
    uid = world.cluster.apply(job_body(completeWithin="3h"))
    world.advance(3 * HOUR)
    (first,) = world.ledger.receipts(include_demo=True)
    assert not first.settled, "the provider may still revise these hours"
    ran = datetime.fromisoformat(first.body["intervals"][0]["start"]).replace(minute=0, second=0)
    world.provider.revision[ran] = world.provider.truth("DE", ran) + 100.0
    world.advance(4 * HOUR)
    (last,) = world.ledger.receipts(include_demo=True)
    assert last.settled and last.revision > first.revision
    assert last.body["emissionsGrams"] > first.body["emissionsGrams"]
    assert world.ledger.receipt_history(uid)[first.revision - 1].sha256 == first.sha256
    assert world.status()["accounting"]["receipt"] == last.sha256


def ended(world, count):
    """So many jobs that ended an hour ago, half of them at home in each region."""
    for k in range(count):
        here = ("north", "south")[k % 2]
        world.cluster.apply(job_body(f"j{k}", **AT_ONCE, placement={"regions": [here], "home": here}))
    world.advance(4 * HOUR)


def test_forty_ended_jobs_ask_at_most_once_for_each_zone_and_day(world):
    asked, history = [], world.provider.history

    def counted(zone, start, end):
        asked.append((zone, start.date()))
        return history(zone, start, end)

    world.provider.history = counted
    ended(world, 40)
    world.restart()  # a new operator knows no hour
    asked.clear()
    world.cluster.pass_time(HOUR)
    world.grid.refresh(["DE", "SE"], world.clock.now())
    asked.clear()  # the recent past that a first forecast asks for
    world.controller.cycle()
    assert sorted(asked) == [("DE", T0.date()), ("SE", T0.date())]


def test_a_provider_that_never_answers_delays_no_decision():
    world, gate = World(background=True), threading.Event()
    try:
        ended(world, 40)
        world.restart()
        world.cluster.pass_time(2 * HOUR)
        world.grid.refresh(["DE", "SE"], world.clock.now())
        world.provider.history = lambda *_: gate.wait(60) and None
        world.cluster.apply(job_body("new", **AT_ONCE))
        began = time.monotonic()
        cycle = world.controller.cycle()
        assert time.monotonic() - began < 1.0
        assert not cycle.errors and world.cluster.runs(next(reversed(world.cluster.told))), "the new job was started"
    finally:
        gate.set()  # or closing would wait for it
        world.close()


def test_a_job_that_is_deleted_as_soon_as_it_ended_has_its_receipt():
    """Its measured hours were asked for and not there yet: the first receipt says what is known, the last the rest."""
    world, gate = World(background=True), threading.Event()
    try:
        world.cluster.apply(job_body(**AT_ONCE))
        world.advance(1 * HOUR)
        history = world.provider.history
        world.provider.history = lambda *asked: gate.wait(60) and history(*asked)
        world.advance(2 * HOUR)
        assert world.status()["summary"]["state"] == "Complete"
        world.cluster.delete_job("default", "night")
        world.advance(1 * HOUR)
        (first,) = world.ledger.receipts(include_demo=True)
        assert first.body["energyJoules"] == pytest.approx(200 * 7200) and not first.settled
        gate.set()
        for _ in range(200):
            world.advance(timedelta(minutes=10))
            if world.ledger.receipts(include_demo=True)[0].settled:
                break
            time.sleep(0.01)
        (last,) = world.ledger.receipts(include_demo=True)
        assert last.settled and last.revision > 1 and last.body["emissionsGrams"] > 0
        assert len(world.controller.deleted) == 0
    finally:
        gate.set()
        world.close()


def test_hours_that_were_pending_are_in_the_receipt_a_moment_later():
    world = World(background=True)
    try:
        world.cluster.apply(job_body(**AT_ONCE))
        world.advance(3 * HOUR)
        for _ in range(200):
            world.cluster.pass_time(timedelta(seconds=20))
            world.tick()
            if any(receipt.settled for receipt in world.ledger.receipts(include_demo=True)):
                break
            time.sleep(0.01)
        (receipt,) = world.ledger.receipts(include_demo=True)
        assert receipt.body["emissionsGrams"] > 0
        assert {row["quality"] for row in receipt.body["intervals"]} == {"measured"}
    finally:
        world.close()
