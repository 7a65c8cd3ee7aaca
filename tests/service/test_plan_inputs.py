"""When a plan stands and when it is made anew: neither too often (work moves, time is lost) nor too seldom."""

from dataclasses import replace
from datetime import timedelta

import pytest
from service.world import World, job_body, region_body

from windward.domain.run import Phase

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def asked(world):
    """Fleets that the planner was asked about."""
    seen, planner = [], world.controller.standing.planner

    def noting(fleet, forecasts, now, previous):
        if fleet.work:
            seen.append(fleet)
        return planner(fleet, forecasts, now, previous)

    world.controller.standing.planner = noting
    return seen


def test_a_job_is_planned_once_from_its_submission_to_its_end(world, asked):
    world.cluster.apply(job_body(completeWithin="3h"))
    world.tick()
    for _ in range(40):
        world.cluster.pass_time(5 * MINUTE)
        world.controller.cycle()  # no refresh: the same issue all the time
    assert world.status()["summary"]["state"] == "Complete"
    assert len(asked) == 1, "nothing but time and what was planned happened"


def test_a_finished_job_tells_its_last_plan_and_leaves_the_fleet_at_once(world, asked):
    """What has succeeded has nothing left to place: it was once given a second somewhere, and told so for ever."""
    world.cluster.apply(job_body())
    world.advance(13 * HOUR)
    status = world.status()
    (window,), (run,) = status["plan"]["windows"], status["runs"]
    assert status["summary"]["state"] == "Complete" and window["region"] == run["region"]
    lengths = [w.remaining for f in asked for w in f.work]
    assert min(lengths) > timedelta(minutes=1)
    assert "Planned" in {c["type"] for c in status["conditions"]}


def test_new_work_finds_the_plan_of_the_rest_standing(world, asked):
    world.cluster.apply(job_body("one"))
    world.tick()
    world.cluster.apply(job_body("two"))
    world.tick()
    assert asked[-1].unchanged == {"default/one"} and len(asked[-1].work) == 2


def test_work_without_a_place_is_planned_anew_each_tick_and_no_oftener(world, asked):
    world.cluster.apply(job_body(placement={"regions": ["nowhere"], "home": "nowhere"}))
    for _ in range(31):
        world.controller.cycle()
        world.cluster.pass_time(MINUTE)
    assert 2 <= len(asked) <= 4


def test_work_that_finds_no_room_in_time_is_told_when_and_waits_for_news(asked, world):
    world.cluster.delete_region("north")
    world.cluster.apply(region_body("south", "DE", capacity=[{"resource": "pods", "count": 1}]))
    here = {"placement": {"regions": ["south"], "home": "south"}}
    world.cluster.apply(job_body("long", duration="10h", completeWithin="10h31m", **here))
    world.tick()
    world.cluster.apply(job_body("two", completeWithin="6h", **here))
    for _ in range(31):
        world.controller.cycle()
        world.cluster.pass_time(MINUTE)
    plan = world.status("two")["plan"]
    assert plan["reason"] == "CapacityFull" and "from 03-02 16:00Z in south" in plan["explanation"]
    assert len(asked) == 2, "once for each: nothing else is news"
    world.advance(13 * HOUR)
    (run,) = world.status("two")["runs"]
    assert run["startedAt"] == "2026-03-02T16:00:00Z", "as soon as the first has ended"


def test_a_job_that_ended_early_makes_room_that_the_plan_did_not_know_of(world):
    world.cluster.apply(job_body("one", completeWithin="2h6m"))
    world.cluster.apply(job_body("two"))
    world.tick()
    controller = world.controller
    now = world.clock.now()
    inputs = controller.standing._planned_for
    without = replace(inputs, jobs={k: v for k, v in inputs.jobs.items() if k != "default/one"})
    assert not without.still_hold(inputs, controller.previous, now + HOUR)
    assert without.still_hold(inputs, controller.previous, now + timedelta(hours=1, minutes=50))


def test_while_due_work_waits_for_room_any_early_end_is_news():
    narrow = [region_body("south", "DE", capacity=[{"resource": "pods", "count": 1}])]
    world = World(regions=narrow)
    here = {"placement": {"regions": ["south"], "home": "south"}}
    world.cluster.apply(job_body("one", completeWithin="2h6m", **here))
    world.tick()
    world.cluster.apply(job_body("two", completeWithin="2h6m", **here))
    world.tick()
    summary, plan = world.status("two")["summary"], world.status("two")["plan"]
    assert summary["state"] == "Waiting" and "runs as soon as there is room, from 03-02 08:00Z" in plan["explanation"]
    assert not world.cluster.jobs["default/two"].runs
    inputs, made = world.controller.standing._planned_for, world.controller.previous
    without = replace(inputs, jobs={k: v for k, v in inputs.jobs.items() if k != "default/one"})
    assert inputs.still_hold(inputs, made, world.clock.now() + HOUR)
    assert not without.still_hold(inputs, made, world.clock.now() + timedelta(hours=1, minutes=55))
    world.advance(5 * HOUR)
    assert [world.status(n)["summary"]["state"] for n in ("one", "two")] == ["Complete", "Complete"]
    world.close()


def test_a_region_that_had_no_place_for_a_job_is_news(world, asked):
    """Else the plan that stood sends it there again."""
    uid = world.cluster.apply(job_body(completeWithin="3h", placement={"regions": ["north", "south"], "home": "south"}))
    world.tick()
    world.cluster.pass_time(HOUR)
    world.tick()
    (run,) = world.cluster.runs(uid)
    never = {"pause_requested": True, "started_at": None, "finished_at": world.clock.now(), "progress": None}
    world.cluster.change(uid, phase=Phase.PAUSED, **never)
    world.tick()
    assert asked[-1].work[0].regions == tuple({"north", "south"} - {run.region})
