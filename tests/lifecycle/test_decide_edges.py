"""`decide` at its edges: when a run tries another region, when going away becomes failing, what is said of an end."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.cases import HOUR, MINUTE, T0, observed, planned, run

from windward.domain.observed import CreateRun, Finish, PauseRun
from windward.domain.run import Phase, Trouble, TroubleReason
from windward.lifecycle.decide import decide, retry_at
from windward.lifecycle.work import work_of

CHECKPOINT = {"interruption": {"policy": "Checkpoint"}}
NO_ROOM = Trouble(TroubleReason.UNSCHEDULABLE, "0/3 nodes are available", "wait", T0)
NO_IMAGE = Trouble(TroubleReason.IMAGE_PULL_FAILED, "no such image", "name another", T0)
AWAY = run(1, Phase.PAUSED, region="south", end_h=0)  # south had no place for it at 06:00: its run never started


def starting(trouble, attempt=1, phase=Phase.STARTING):
    return run(attempt, phase, trouble=trouble)


@pytest.mark.parametrize(
    ("runs", "job", "after_s", "leaves"),
    [
        ([starting(NO_ROOM)], {}, 119, False),
        ([starting(NO_ROOM)], {}, 120, True),
        ([starting(None)], {}, 3600, False),
        ([starting(NO_IMAGE)], {}, 3600, False),  # no other region has the image either
        ([starting(replace(NO_ROOM, since=None))], {}, 3600, False),  # for how long, nobody knows
        ([starting(NO_ROOM, phase=Phase.RUNNING)], {}, 3600, False),  # it found a place meanwhile
        ([starting(NO_ROOM)], {"placement": {"regions": ["north"]}}, 3600, False),
        ([replace(AWAY, started_at=None), starting(NO_ROOM, 2)], {}, 600, False),  # south had none just now
        ([replace(AWAY, started_at=None), starting(NO_ROOM, 2)], {}, 1800, True),  # but may by now
    ],
)
def test_a_run_that_its_region_has_no_place_for_tries_another_after_two_minutes(runs, job, after_s, leaves):
    actions = decide(observed(*runs, **job), planned((0, 2)), T0 + timedelta(seconds=after_s))
    assert [(a.name, a.reason) for a in actions] == ([(runs[-1].name, "Unplaceable")] if leaves else [])
    if leaves:
        assert "north has no place for it" in actions[0].why and "0/3 nodes are available" in actions[0].why


@pytest.mark.parametrize(
    ("progress", "gives_up"),
    [
        ([None] * 5, False),  # backoffLimit 2, and three more
        ([None] * 6, True),
        ([0.0] * 6, True),
        ([0.3] * 6, False),  # the first got somewhere
        ([0.3] * 7, True),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], False),
        ([0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], True),
        ([0.3, None, None, None, None, None, None], True),  # no word is no progress
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2], False),  # the last got further
    ],
)
def test_runs_that_go_away_six_times_in_a_row_without_getting_further_are_given_up(progress, gives_up):
    runs = [run(n, Phase.LOST, end_h=0.1, progress=share) for n, share in enumerate(progress, 1)]
    (action,) = decide(observed(*runs), planned((0, 2)), T0 + HOUR)
    assert isinstance(action, Finish if gives_up else CreateRun)


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (run(3, Phase.SUCCEEDED), "another run finished the work"),
        (run(3, Phase.FAILED, code=3), "1 failed runs, backoffLimit 0; run 3 ended with exit code 3"),
    ],
)
def test_a_run_that_outlives_its_job_is_told_why_it_stops(last, why):
    pause, _ = decide(observed(run(2), last, backoffLimit=0), planned((0, 2)), T0 + HOUR)
    assert isinstance(pause, PauseRun) and pause.why == why


def test_a_job_that_failed_names_its_last_failure():
    runs = [run(1, Phase.FAILED, code=1, message="first"), run(2, Phase.FAILED, code=137, message="out of memory")]
    (finish,) = decide(observed(*runs, backoffLimit=1), planned((0, 2)), T0 + HOUR)
    assert finish.message == "2 failed runs, backoffLimit 1; run 2 ended with exit code 137: out of memory"


@pytest.mark.parametrize(
    "plan",
    [
        planned((0, 2), go_on_g=101.0),
        planned((0, 2), (3, 4), go_on_g=101.0),
        planned((0, 0.5), go_on_g=101.0),  # past its last window: nothing better follows
    ],
)
def test_a_run_that_may_pause_goes_on_where_its_plan_has_it_run_or_nothing_follows(plan):
    assert decide(observed(run(), **CHECKPOINT), plan, T0 + HOUR) == []


def test_the_wait_counts_from_the_newest_failure_whose_end_is_known():
    one, two = run(1, Phase.FAILED, end_h=0.5), run(2, Phase.LOST, end_h=1)
    unseen = replace(run(3, Phase.LOST), finished_at=None)
    assert retry_at(observed(one, two), T0) == T0 + HOUR + timedelta(seconds=20)
    assert retry_at(observed(one, two, unseen), T0) == T0 + HOUR + timedelta(seconds=40)
    assert retry_at(observed(unseen), T0 + MINUTE) == T0 + MINUTE


@pytest.mark.parametrize(("code", "paused_again"), [(75, True), (None, True), (143, False), (137, False)])
def test_what_did_not_honour_a_pause_is_not_paused_again(code, paused_again):
    """It wrote no checkpoint: each further pause would have it begin anew until its finish-by time has passed."""
    first = replace(run(1, Phase.PAUSED, end_h=1), exit_code=code)
    job = observed(first, run(2, start_h=2), interruption={"policy": "Checkpoint", "overhead": "1m"})
    pauses = decide(job, planned((6, 8), go_on_g=101.0), T0 + 3 * HOUR)
    assert bool(pauses) is paused_again and work_of(job, T0 + 3 * HOUR).interruptible is paused_again
