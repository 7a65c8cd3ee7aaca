"""Work that is to start at once and finds no room has its turn: nobody whose turn is later puts it off.

The order of turns is that of latest starts. Who is small may go first where that puts nobody off (Lifka, The ANL/IBM SP
scheduling system, 1995, doi:10.1007/3-540-60153-8_35, calls it backfilling).
"""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, REGIONS, T0, hours, known, work
from planning.profiles import thorough

from windward.domain.fleet import Fleet
from windward.domain.plan import Reason
from windward.planning import plan

FORECASTS = known(hours([300.0] * 60), hours([200.0] * 60, "FR"))


def room(units, *names):
    return {n: replace(REGIONS[n], capacity={"gpu": float(units)}) for n in names or ("de",)}


def job(name, units, hours_h, **more):
    return work(f"ns/{name}", demand={"gpu": float(units)}, hours_h=hours_h, **({"by_h": hours_h} | more))


RUNS = job("runs", 1, 2, running_in="de", started=True, by_h=9)
WAITS = job("waits", 3, 4, running_in="de", pending=True, by_h=4)  # as large as its region


def starts(*jobs, units=3, **more):
    made = plan(Fleet(jobs, room(units)), FORECASTS, T0, **more).jobs
    return {j.key[3:]: (made[j.key].windows[0].start - T0) / HOUR for j in jobs}


def test_room_is_held_for_a_run_whose_pod_waits_and_due_work_queues_behind_it():
    late = job("late", 1, 3, by_h=3)
    assert starts(RUNS, WAITS, late) == {"runs": 0, "waits": 2, "late": 6}


def test_due_work_that_ends_before_that_room_is_needed_goes_first():
    assert starts(RUNS, WAITS, job("short", 1, 2), job("more", 1, 1), job("third", 1, 1)) == {
        "runs": 0, "waits": 2, "short": 0, "more": 0, "third": 1
    }  # fmt: skip


def test_who_is_due_longest_has_the_first_turn_however_large_it_is():
    large = replace(job("large", 3, 4), finish_by=T0 + 1 * HOUR)
    small = [replace(job(f"small{i}", 1, 3), finish_by=T0 + 2 * HOUR) for i in range(3)]
    assert starts(RUNS, *small, large) == {"runs": 0, "large": 2, "small0": 6, "small1": 6, "small2": 6}


def test_a_due_job_goes_where_there_is_room_first_and_says_when():
    regions = room(1, "de", "fr")
    long = job("long", 1, 5, running_in="fr", started=True, regions=("fr",), by_h=9)
    due = job("due", 1, 2, regions=("de", "fr"), by_h=2.1)
    made = plan(Fleet((replace(RUNS, running_in="de"), long, due), regions), FORECASTS, T0).jobs["ns/due"]
    (window,) = made.windows
    assert (made.reason, window.region, window.start) == (Reason.NO_SLACK, "de", T0 + 2 * HOUR)
    assert "runs as soon as there is room, from 03-02 02:00Z in de, whatever the carbon" in made.explanation
    assert not made.feasible


def test_a_pod_that_waits_says_so_and_one_that_merely_starts_does_not():
    waits = replace(WAITS, finish_by=T0 + 30 * HOUR)
    made = plan(Fleet((RUNS, waits), room(3)), FORECASTS, T0).jobs["ns/waits"]
    assert made.explanation.startswith("Its pod waits for room in de, expected from 03-02 02:00Z.")
    alone = plan(Fleet((waits,), room(3)), FORECASTS, T0).jobs["ns/waits"]
    assert alone.windows[0].start == T0 and alone.explanation.startswith("Runs in de.")


def test_the_users_word_waits_for_room_too():
    made = plan(Fleet((RUNS, job("now", 3, 2, asap=True, by_h=30)), room(3)), FORECASTS, T0).jobs["ns/now"]
    assert made.reason is Reason.USER_FORCED and made.windows[0].start == T0 + 2 * HOUR
    assert "At the user's word: runs as soon as there is room, from 03-02 02:00Z in de." in made.explanation


@pytest.mark.parametrize("by_h", [1, 20])
def test_what_no_region_ever_has_is_named(by_h):
    made = plan(Fleet((job("huge", 4, 2, by_h=by_h),), room(3)), FORECASTS, T0).jobs["ns/huge"]
    assert made.reason is Reason.CAPACITY_FULL and not made.windows and not made.feasible
    assert [(a.region, a.excluded_by) for a in made.alternatives] == [
        ("de", "it asks for 4 gpu, and all there is are 3")
    ]


@pytest.mark.parametrize("pausing", [False, True])
def test_a_pending_run_that_may_pause_is_planned_as_what_has_not_begun(pausing):
    """It holds no room yet, and its start still draws its energy."""
    waits = replace(WAITS, interruptible=pausing, finish_by=T0 + 30 * HOUR, start_energy_wh=1000.0)
    made = plan(Fleet((RUNS, waits), room(3)), FORECASTS, T0).jobs["ns/waits"]
    assert made.windows[0].start >= T0 + 2 * HOUR
    assert made.emissions_g == pytest.approx(1.25 * 300 * (4 + 1))


@thorough(25)
@given(st.integers(0, 2**32 - 1))
def test_nobody_is_put_off_by_who_is_due_later(seed):
    """Each due job starts when it would if those behind it were not there: so everyone's turn comes."""
    dice = Random(seed)
    regions = room(dice.randint(2, 5), "de", "fr")
    most = int(regions["de"].capacity["gpu"])
    running = [
        job(f"run{i}", 1, dice.uniform(0.5, 6), running_in=dice.choice(["de", "fr"]), started=True, by_h=9)
        for i in range(dice.randint(0, most))
    ]
    running += [
        job(f"pod{i}", dice.randint(1, most), dice.uniform(0.5, 6), running_in=dice.choice(["de", "fr"]), pending=True)
        for i in range(dice.randint(0, 2))
    ]
    due = [
        replace(
            job(
                f"due{i}",
                dice.randint(1, most),
                dice.uniform(0.2, 6),
                regions=dice.sample(["de", "fr"], dice.randint(1, 2)),
            ),
            finish_by=T0 + timedelta(hours=dice.uniform(0.1, 0.2)),
        )
        for i in range(dice.randint(1, 8))
    ]
    due.sort(key=lambda j: (j.latest_start(), j.key))
    whole = plan(Fleet((*running, *due), regions), FORECASTS, T0).jobs
    for n in range(1, len(due)):
        part = plan(Fleet((*running, *due[:n]), regions), FORECASTS, T0).jobs
        assert {j.key: part[j.key].windows for j in due[:n]} == {j.key: whole[j.key].windows for j in due[:n]}
    held = [(w, j.demand["gpu"]) for j in due + [r for r in running if r.pending] for w in whole[j.key].windows]
    for name in regions:
        base = [(w, 1.0) for j in running if not j.pending for w in whole[j.key].windows]
        spans = [(w, u) for w, u in held + base if w.region == name]
        begins = {w.start for w, _ in held}
        assert all(sum(u for w, u in spans if at in w) <= most + 1e-9 for at in begins)
