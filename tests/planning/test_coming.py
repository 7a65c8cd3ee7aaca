"""Who may come: room is kept for work like yesterday's, where room is short, and nowhere else."""

from dataclasses import replace

from planning.fleets import HOUR, T0, hours, known, work

from windward.domain.fleet import Fleet, Region
from windward.planning import expected, plan

DAY = 24 * HOUR
TIGHT = {"de": Region("de", "DE", 1.0, {"gpu": 1.0})}


def gpu(key, **more):
    return work(key, demand={"gpu": 1.0}, **more)


def yesterday(count=50):
    return [work(f"ns/{i}", at_h=i * 24 / count - 23.9) for i in range(count)]


def test_four_in_five_of_a_day_come_again_a_day_later_with_their_own_slack():
    came = yesterday()
    by_key = {f"expected:{w.key}": w for w in came}
    again = expected(came, T0)
    assert 32 <= len(again) <= 47
    for w in again:
        was = by_key[w.key]
        assert w == replace(was, key=w.key, earliest=w.earliest, submitted=w.submitted, finish_by=w.finish_by)
        assert (w.earliest, w.submitted, w.finish_by) == (was.earliest + DAY, was.submitted + DAY, was.finish_by + DAY)
        assert w.submitted > T0


def test_who_is_expected_rests_on_no_order_and_changes_with_no_new_plan():
    came = yesterday()
    assert expected(reversed(came), T0) == expected(came, T0)
    later = {w.key for w in expected(came, T0 + HOUR)}
    gone = {f"expected:{w.key}" for w in came if w.submitted <= T0 + HOUR - DAY}
    assert later == {w.key for w in expected(came, T0)} - gone


def test_half_a_day_is_needed_before_arrivals_say_anything():
    assert not expected([w for w in yesterday() if w.submitted > T0 - 11 * HOUR], T0)
    assert not expected([], T0)


def test_where_room_is_short_it_is_kept_for_who_may_come():
    """Two jobs want the one clean stretch; a third, that may come, can only run in it and would emit most elsewhere."""
    shape = [500.0] * 8 + [50.0] * 2 + [100.0] * 4 + [500.0] * 16
    some = (gpu("ns/a"), gpu("ns/b"))
    comes = gpu("expected:ns/c", at_h=7.5, by_h=11.0, power_w=5000.0)
    alone = plan(Fleet(some, TIGHT), known(hours(shape)), T0)
    kept = plan(Fleet(some, TIGHT, (comes,)), known(hours(shape)), T0)
    clean = T0 + 8 * HOUR
    assert min(p.windows[0].start for p in alone.jobs.values()) == clean
    assert kept.coming["expected:ns/c"].windows[0].start == clean
    assert set(kept.jobs) == {"ns/a", "ns/b"}, "what may come is no job"
    assert all(p.windows[0].start >= clean + 2 * HOUR for p in kept.jobs.values())


def test_where_room_is_not_short_nothing_changes():
    some, comes = (gpu("ns/a"),), gpu("expected:ns/c", at_h=3.0)
    series = known(hours([300.0] * 5 + [100.0] * 2 + [300.0] * 20))
    assert plan(Fleet(some, TIGHT, (comes,)), series, T0) == plan(Fleet(some, TIGHT), series, T0)
