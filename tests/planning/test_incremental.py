"""New work beside a plan that stands: nobody moves while there is good room, and all is planned anew where not."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, T0, hours, known, work
from planning.profiles import thorough
from planning.test_fleet_plan import crowd, overused

from windward.domain.fleet import Fleet, Region
from windward.planning import plan

ONE = {"de": Region("de", "DE", capacity={"gpu": 1.0})}
FORECASTS = known(hours([300, 97, 110, 120, 400, 90, 300, 300] + [300] * 24))


def job(name, **more):
    return work(f"ns/{name}", demand={"gpu": 1.0}, hours_h=1.0, by_h=9.0, **more)


def joined(old, new, at_h=0.0, **more):
    """The plan of `old` at T0, and the one with `new` beside it."""
    first = plan(Fleet((old,), ONE), FORECASTS, T0)
    fleet = Fleet((old, new), ONE, frozenset({old.key}))
    return first, plan(fleet, FORECASTS, T0 + at_h * HOUR, first)


def test_what_stands_is_told_again_and_the_new_one_takes_its_best_room():
    first, both = joined(job("a"), job("b"))
    assert both.jobs["ns/a"] is first.jobs["ns/a"]
    assert both.jobs["ns/a"].windows[0].start == T0 + 5 * HOUR  # 90 g
    assert both.jobs["ns/b"].windows[0].start == T0 + 1 * HOUR  # 97 g: little more than alone


def test_it_is_planned_anew_where_the_new_one_would_pay_for_what_others_hold():
    costly = replace(job("b"), finish_by=T0 + 7 * HOUR, earliest=T0 + 4 * HOUR)  # 90 g, or more than three times that
    first, both = joined(job("a"), costly)
    assert first.jobs["ns/a"].windows[0].start == T0 + 5 * HOUR
    assert both.jobs["ns/b"].windows[0].start == T0 + 5 * HOUR and both.jobs["ns/a"].windows[0].start == T0 + 1 * HOUR


def test_work_that_is_told_to_start_now_gets_the_room_of_what_stands():
    _, both = joined(job("a"), job("b", asap=True), at_h=5.0)
    assert both.jobs["ns/b"].windows[0].start == T0 + 5 * HOUR
    assert both.jobs["ns/a"].windows[0].start > T0 + 5 * HOUR


def test_what_runs_longer_than_planned_keeps_its_room():
    first = plan(Fleet((job("a", asap=True),), ONE), FORECASTS, T0)
    at = T0 + HOUR + timedelta(minutes=1)
    running = job("a", asap=True, running_in="de", left_h=0.1, started=True)
    fleet = Fleet((running, job("b")), ONE, frozenset({"ns/a"}))
    late = plan(fleet, FORECASTS, at, first).jobs["ns/b"].windows[0]
    assert late.start >= at + timedelta(minutes=6) - timedelta(seconds=1)


@thorough(20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3.0, 6.0]))
def test_room_and_proof_hold_whoever_comes(seed, cap):
    fleet, forecasts = crowd(seed, count=8, cap=cap, pausing=0.2, ends_h=60)
    before = plan(replace(fleet, work=fleet.work[:6]), forecasts, T0)
    standing = frozenset(w.key for w in fleet.work[:6])
    after = plan(replace(fleet, unchanged=standing), forecasts, T0, before)
    anew = plan(fleet, forecasts, T0, before)
    assert list(after.jobs) == [w.key for w in fleet.work]
    if not overused(before, replace(fleet, work=fleet.work[:6])):
        assert not overused(after, fleet)
    if after.jobs != anew.jobs and after.certificate is not None:
        assert after.certificate.bound_g <= after.certificate.plan_g * (1 + 1e-9)
        assert after.certificate.bound_g <= anew.certificate.plan_g * (1 + 1e-9), "a bound of all plans"
