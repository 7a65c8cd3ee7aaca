"""Observe: plans are made and told, and nothing is delayed. The account of what outlives its region is kept."""

from datetime import timedelta

import pytest
from service.fake_provider import FakeProvider
from service.world import T0, World, job_body

from windward.domain.run import Phase
from windward.lifecycle.plan_from_status import plan_from_status
from windward.service.settings import Settings

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("settings", "observes"),
    [
        ({}, True),
        ({"mode": "Act"}, False),
        ({"provider": "neso"}, False),
        ({"provider": "neso", "mode": "Observe"}, True),
        ({"trace_file": "/trace/trace.csv"}, False),
        ({"provider": "neso,trace"}, False),
    ],
)
def test_nobodys_work_waits_on_demonstration_data_unasked(settings, observes):
    assert Settings(**settings).observes is observes


def test_observing_tells_what_it_would_have_done_and_delays_nothing(world):
    acting = World()
    acting.cluster.apply(job_body(interruption={"policy": "Checkpoint"}))
    acting.tick()
    would = acting.status()["plan"]
    assert would["windows"][0]["start"] > "2026-03-02T07", "a test of waiting has something to wait for"
    acting.close()

    world.controller.standing.observes = True
    uid = world.cluster.apply(job_body(interruption={"policy": "Checkpoint"}))
    world.tick()
    status = world.status()
    assert world.cluster.told[uid].created[0][2] == T0 and world.cluster.runs(uid)[0].region == "south"
    assert status["summary"]["reason"] == "Observing" and status["plan"]["reason"] == "Observing"
    said = status["plan"]["explanation"]
    assert "runs at once at home" in said and f"in {would['windows'][0]['region']} and saved about" in said
    world.advance(3 * HOUR)
    status = world.status()
    assert status["summary"]["state"] == "Complete" and len(world.cluster.told[uid].created) == 1
    assert status["plan"]["explanation"] == said, "what it would have done stays told"
    assert float(status["accounting"]["savedGrams"] or 0) == pytest.approx(0, abs=1e-6)


def test_a_plan_is_read_back_from_its_status_as_it_stood(world):
    world.cluster.apply(job_body(interruption={"policy": "Checkpoint"}))
    world.tick()
    made = world.controller.previous.jobs["default/night"]
    (seen,) = world.cluster.snapshot().jobs
    told = plan_from_status(seen)
    assert told.reason is made.reason and told.latest_start == made.latest_start and told.demo == made.demo
    assert [w.region for w in told.windows] == [w.region for w in made.windows]
    for a, b in zip(told.windows, made.windows, strict=True):
        assert abs(a.start - b.start) < MINUTE and abs(a.end - b.end) < MINUTE
    assert told.emissions_g == pytest.approx(made.emissions_g, rel=0.01)
    world.cluster.edit("default/night", duration="3h")
    (seen,) = world.cluster.snapshot().jobs
    assert plan_from_status(seen) is None, "it was made for another spec"


def test_a_restarted_operator_goes_on_with_the_plan_that_stood():
    """The first plan after a restart is made with the one that stood, not from nothing."""
    world = World(FakeProvider(horizon_h=48))
    world.cluster.apply(job_body(interruption={"policy": "Checkpoint"}))
    world.tick()
    before = world.status()["plan"]["windows"]
    world.restart()
    asked = []
    planner = world.controller.standing.planner

    def noting(fleet, forecasts, now, previous):
        asked.append(previous)
        return planner(fleet, forecasts, now, previous)

    world.controller.standing.planner = noting
    world.tick()
    assert [w.region for w in asked[0].jobs["default/night"].windows] == [w["region"] for w in before]
    assert world.status()["plan"]["windows"] == before
    world.close()


def test_a_run_whose_region_was_deleted_keeps_its_account(world):
    """Also when the operator was restarted since: the ledger keeps zone and PUE of a region as they stood."""
    uid = world.cluster.apply(job_body(completeWithin="2h6m", placement={"regions": ["south"]}))
    world.tick()
    world.cluster.pass_time(HOUR)
    world.cluster.delete_region("south")
    world.restart()
    world.advance(6 * HOUR)
    assert world.cluster.finished_at(uid) is not None
    rows = world.ledger.energy(uid)
    assert sum(r.joules for r in rows) == pytest.approx(200 * 7200)
    assert {(r.region, r.zone, r.pue) for r in rows} == {("south", "DE", 1.25)}
    account = world.status()["accounting"]
    assert float(account["emissionsGrams"]) > 0 and float(account["runNowGrams"]) > 0, "its home was deleted too"


def test_a_receipt_is_not_final_while_a_run_is_not_booked(world, monkeypatch):
    """A run that paused without a word is booked a moment later; its job had ended by then."""
    uid = world.cluster.apply(job_body(completeWithin="2h6m"))
    world.provider.revised_for = timedelta(0)
    world.tick()
    world.cluster.lose(uid)  # nothing was said of an hour and a half
    world.cluster.change(uid, finished_at=T0 + 90 * MINUTE)
    world.cluster.pass_time(90 * MINUTE)
    world.tick()
    world.cluster.pass_time(timedelta(seconds=11))
    world.tick()
    night = world.cluster.jobs["default/night"]
    if night.live is not None:
        night.end(Phase.SUCCEEDED, 0, world.clock.now())
    world.tick()
    world.advance(3 * HOUR)
    assert {r.attempt for r in world.ledger.energy(uid)} >= {1}
    assert sum(r.joules for r in world.ledger.energy(uid) if r.attempt == 1) == pytest.approx(200 * 5400)
    assert world.status()["accounting"]["settled"]
