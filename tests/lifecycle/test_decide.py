"""`decide` as a table: observed x plan x now -> actions. One row for each branch, and what outweighs what."""

from datetime import timedelta

import pytest
from lifecycle.cases import BROKEN, DONE, HOUR, MINUTE, SLOW, T0, UID, observed, planned, report, run

from windward.domain.observed import CreateRun, DeleteJob, Finish, PauseRun
from windward.domain.plan import Reason
from windward.domain.run import Phase, run_name
from windward.lifecycle.decide import decide, retry_at
from windward.lifecycle.work import progress_of, work_of

NAMES = [run_name("night", UID, n) for n in range(5)]
CHECKPOINT = {"interruption": {"policy": "Checkpoint"}}
NOW = planned((0, 2))
LATER = planned((3, 5), go_on_g=101.0)  # 100 g, and 101 if it went on
ENDED = {"conditions": [DONE], "finishedAt": "2026-03-02T07:00:00Z"}
OPEN = ENDED | {"accounting": {"energyJoules": "5", "settled": False}}
FINAL = ENDED | {"accounting": {"energyJoules": "5", "settled": True}}
P, F, L, S = Phase.PAUSED, Phase.FAILED, Phase.LOST, Phase.SUCCEEDED


def start(attempt, region="north", why="CleanerWindow"):
    return [CreateRun(attempt, region, why)]


def pause(attempt, reason):
    return (PauseRun, NAMES[attempt], reason)


TABLE = {
    # nothing runs: the plan says when
    "planned now": (observed(), NOW, 0, start(1)),
    "planned later": (observed(), LATER, 0, []),
    "later has come": (observed(), LATER, 3, start(1)),
    "a window is half open": (observed(), NOW, 2, []),
    "between two windows": (observed(run(1, P)), planned((0, 1), (3, 4)), 2, []),
    "no plan": (observed(), None, 0, []),
    "a plan without windows": (observed(), planned(reason=Reason.AWAITING_FORECAST), 0, []),
    "second window": (observed(run(1, P)), planned((3, 4)), 3, start(2)),
    "in another region": (observed(run(1, P)), planned((3, 4, "south")), 3, start(2, "south")),
    "user forced": (observed(), planned((0, 2), reason=Reason.USER_FORCED), 0, start(1, why="UserForced")),
    # the number that was claimed and never became a child is used, once
    "claimed, not created": (observed(status={"attempt": 1}), NOW, 0, start(1)),
    "claimed after a pause": (observed(run(1, P), status={"attempt": 2}), NOW, 0, start(2)),
    "an older status never lowers it": (observed(run(3, P), status={"attempt": 1}), NOW, 0, start(4)),
    # something runs
    "it runs as planned": (observed(run()), NOW, 1, []),
    "starting as planned": (observed(run(phase=Phase.STARTING)), NOW, 1, []),
    "runs on past its window's end": (observed(run(), **CHECKPOINT), planned((0, 1)), 1.5, []),
    "runs, cleaner hours follow": (observed(run(), **CHECKPOINT), LATER, 1, [pause(1, "PausedCarbonPeak")]),
    "runs, to move": (
        observed(run(), **CHECKPOINT), planned((0, 2, "south"), go_on_g=101.0), 1, [pause(1, "PausedCarbonPeak")],
    ),
    "a pause that saves nothing": (observed(run(), **CHECKPOINT), planned((3, 5), go_on_g=100.0), 1, []),
    "a pause of unknown worth": (observed(run(), **CHECKPOINT), planned((3, 5)), 1, []),
    "a move that saves nothing": (observed(run(), **CHECKPOINT), planned((0, 2, "south"), go_on_g=99.0), 1, []),
    "Never is not paused": (observed(run()), LATER, 1, []),
    "Never is not moved": (observed(run()), planned((0, 2, "south")), 1, []),
    "without windows it runs on": (observed(run(), **CHECKPOINT), planned(reason=Reason.CAPACITY_FULL), 1, []),
    "told to stop already": (observed(run(phase=Phase.STOPPING), **CHECKPOINT), LATER, 1, []),
    "stopping: nothing is started beside it": (observed(run(phase=Phase.STOPPING), **CHECKPOINT), NOW, 1, []),
    "two live: the older goes": (observed(run(1), run(2)), NOW, 1, [pause(1, "Superseded")]),
    # failures
    "tried again after 10 s": (observed(run(1, F, end_h=1)), planned((0, 4)), 1 + 10 / 3600, start(2)),
    "not before": (observed(run(1, F, end_h=1)), planned((0, 4)), 1 + 9 / 3600, []),
    "a claim waits too": (observed(run(1, F, end_h=1), status={"attempt": 2}), planned((0, 4)), 1, []),
    "third in a row: 20 s": (observed(run(1, F), run(2, F, end_h=1)), planned((0, 4)), 1 + 19 / 3600, []),
    "too many": (
        observed(run(1, F), run(2, F), run(3, F)), NOW, 1, [(Finish, False, "BackoffLimitExceeded")]
    ),
    "too many, one still live": (
        observed(run(1, F), run(2), backoffLimit=0), NOW, 1,
        [pause(2, "Failed"), (Finish, False, "BackoffLimitExceeded")],
    ),
    "lost runs are nobody's failure": (observed(*(run(n, L, end_h=0.1) for n in (1, 2, 3, 4))), NOW, 1, start(5)),
    "a lost run is started again after 10 s": (
        observed(run(1, L, end_h=1)), planned((0, 4)), 1 + 10 / 3600, start(2)
    ),
    "not before: its node may be going": (observed(run(1, L, end_h=1)), planned((0, 4)), 1 + 9 / 3600, []),
    "lost again and again without progress": (
        observed(*(run(n, L, end_h=0.1) for n in range(1, 7))), NOW, 1, [(Finish, False, "BackoffLimitExceeded")]
    ),
    "lost again and again, but further each time": (
        observed(*(run(n, L, end_h=0.1, progress=n / 10) for n in range(1, 7))), NOW, 1, start(7)
    ),
    "exit 75 of its own accord is drained, not done": (
        observed(run(1, P, pause_requested=False, end_h=1), **CHECKPOINT), planned((0, 4)), 1 + 10 / 3600, start(2)
    ),
    "but not at once": (
        observed(run(1, P, pause_requested=False, end_h=1), **CHECKPOINT), planned((0, 4)), 1 + 9 / 3600, [],
    ),
    "exit 75 for ever": (
        observed(*(run(n, P, pause_requested=False, end_h=0.1) for n in range(1, 7)), **CHECKPOINT), NOW, 1,
        [(Finish, False, "BackoffLimitExceeded")],
    ),
    "exit 75 where nothing may pause is a failure": (
        observed(run(1, P, pause_requested=False), backoffLimit=0), NOW, 1, [(Finish, False, "BackoffLimitExceeded")]
    ),
    "pauses are nobody's failure": (observed(*(run(n, P, end_h=0.1) for n in (1, 2, 3, 4))), NOW, 1, start(5)),
    # the user's word
    "suspended before it starts": (observed(suspend=True), NOW, 0, []),
    "suspended while it runs": (observed(run(), suspend=True), NOW, 1, [pause(1, "PausedByUser")]),
    "suspended, stopping": (observed(run(phase=Phase.STOPPING), suspend=True), NOW, 1, []),
    "suspend outweighs run-now": (
        observed(suspend=True, metadata={"annotations": {"windward.dev/run-now": "true"}}), NOW, 0, []
    ),
    "suspend outweighs the latest start": (observed(suspend=True), planned((0, 2), reason=Reason.NO_SLACK), 10, []),
    "done outweighs suspend": (observed(run(1, S), suspend=True), None, 1, [(Finish, True, "Succeeded")]),
    "too many failures outweigh suspend": (
        observed(run(1, F), backoffLimit=0, suspend=True), None, 1, [(Finish, False, "BackoffLimitExceeded")]
    ),
    # the end
    "done": (observed(run(1, S)), NOW, 1, [(Finish, True, "Succeeded")]),
    "done outweighs failures": (
        observed(run(1, F), run(2, S), backoffLimit=0), NOW, 1, [(Finish, True, "Succeeded")]
    ),
    "done, another runs still": (
        observed(run(1, S), run(2)), NOW, 1, [pause(2, "Complete"), (Finish, True, "Succeeded")]
    ),
    "ended": (observed(run(1, S), status=ENDED), NOW, 2, []),
    "ended, something runs still": (observed(run(2), status=ENDED), NOW, 2, [pause(2, "Complete")]),
    "failed for good": (observed(run(1, F), status={"conditions": [BROKEN]}), NOW, 2, []),
    "ended, without its children": (observed(status=ENDED), NOW, 2, []),
    "time to live goes on": (observed(status=ENDED, ttlSecondsAfterFinished=3600), NOW, 1.99, []),
    "time to live waits for the account": (observed(status=OPEN, ttlSecondsAfterFinished=3600), NOW, 100, []),
    "but not for ever": (observed(status=OPEN, ttlSecondsAfterFinished=3600), NOW, 1 + 30 * 24, [(DeleteJob,)]),
    "a final account": (observed(status=FINAL, ttlSecondsAfterFinished=3600), NOW, 2, [(DeleteJob,)]),
    "time to live is over": (observed(status=ENDED, ttlSecondsAfterFinished=3600), NOW, 2, [(DeleteJob,)]),
    "no time to live": (observed(status=ENDED), NOW, 1000, []),
    "deleted": (observed(metadata={"deletionTimestamp": "2026-03-02T06:00:00Z"}), NOW, 0, []),
    "deleted while it runs": (observed(run(), metadata={"deletionTimestamp": "2026-03-02T06:00:00Z"}), NOW, 1, []),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "plan", "at_h", "expected"), TABLE.values(), ids=TABLE)
def test_decide(seen, plan, at_h, expected):
    actions = decide(seen, plan, T0 + at_h * HOUR)
    assert len(actions) == len(expected), actions
    for action, wanted in zip(actions, expected, strict=True):
        if isinstance(wanted, tuple):
            kind, *values = wanted
            assert isinstance(action, kind)
            assert [getattr(action, f) for f in action.__dataclass_fields__][: len(values)] == values
        else:
            assert action == wanted


@pytest.mark.parametrize(("seen", "plan", "at_h", "_"), TABLE.values(), ids=TABLE)
def test_never_a_run_beside_a_live_one_and_never_an_attempt_twice(seen, plan, at_h, _):
    created = [a for a in decide(seen, plan, T0 + at_h * HOUR) if isinstance(a, CreateRun)]
    assert len(created) <= 1
    for action in created:
        assert not seen.live
        assert action.attempt > max((r.attempt for r in seen.runs), default=0)


def test_what_finishes_says_why():
    seen = observed(run(1, F, code=137, message="out of memory"), backoffLimit=0)
    (finish,) = decide(seen, NOW, T0 + HOUR)
    assert finish.message == "1 failed runs, backoffLimit 0; run 1 ended with exit code 137: out of memory"


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(0, 0), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300), (100, 300)]
)
def test_retries_wait_longer_up_to_five_minutes(failures, wait_s):
    failed = [run(n + 1, F, end_h=1) for n in range(failures)]
    since = T0 + HOUR if failures else T0
    assert retry_at(observed(*failed), T0) == since + timedelta(seconds=wait_s)


@pytest.mark.parametrize(
    ("runs", "at_h", "share"),
    [
        ([], 1, 0),
        ([run(1, start_h=0)], 1, 0.5),  # no word: running time counts
        ([run(1, start_h=0, progress=0.2)], 1, 0.2),
        ([run(1, P, end_h=1)], 3, 0.5),
        ([run(1, P, end_h=1, code=143)], 3, 0),  # no checkpoint was promised
        ([run(1, F, end_h=1)], 3, 0),
        ([run(1, L, end_h=1)], 3, 0),
        ([run(1, L, end_h=1, progress=0.3)], 3, 0.3),
        ([run(1, P, end_h=1, report=report(0.4))], 3, 0.4),
        ([run(1, P, end_h=1, report=report(0.4)), run(2, start_h=3)], 3.5, 0.4 + (30 - 1) / 120),  # less its resume
        ([run(1, P, end_h=1, report=report(0.4)), run(2, start_h=3, progress=0.35)], 3.5, 0.35),  # the newest word
        ([run(1, start_h=0)], 9, 0.99),  # longer than it said: done only once it says so
        ([run(1, phase=Phase.STARTING)], 3, 0),
        ([run(1, S)], 3, 1.0),
        ([run(1, start_h=0, level="slow")], 1, 0.25),  # half as fast
        ([run(1, P, end_h=2, level="slow"), run(2, start_h=3)], 3.5, 0.5 + (30 - 1) / 120),
        ([run(1, start_h=0, level="gone")], 1, 0.5),  # taken out of the manifest: as declared
    ],
)
def test_progress(runs, at_h, share):
    assert progress_of(observed(*runs, power=SLOW), T0 + at_h * HOUR) == pytest.approx(share)


@pytest.mark.parametrize(
    ("runs", "running_in", "started", "left_h"),
    [
        ([], None, False, 2),
        ([run(1, phase=Phase.STARTING)], "north", False, 2),
        ([run(1)], "north", True, 1),
        ([run(1, phase=Phase.STOPPING)], None, True, 1),
        ([run(1, P)], None, True, 1),
        ([run(1, L)], None, True, 2),
    ],
)
def test_the_planner_is_told_what_is_left(runs, running_in, started, left_h):
    made = work_of(observed(*runs, interruption={"policy": "Checkpoint", "overhead": "3m"}), T0 + HOUR)
    assert (made.running_in, made.started, made.remaining / HOUR) == (running_in, started, pytest.approx(left_h))
    assert made.finish_by == T0 + 12 * HOUR and made.home == "south" and made.power_w == 360
    resume = 3 * MINUTE if started and running_in is None else timedelta(0)
    assert made.latest_start() == made.finish_by - 6 * MINUTE - made.remaining - resume


@pytest.mark.parametrize(
    ("runs", "running_level", "latest_h"),
    [
        ([], None, 12 - 0.1 - 2),
        ([run(1, level="slow")], 0, 12 - 0.1 - 1.5 * 2),  # an hour in, three of its four hours are left
        ([run(1)], None, 12 - 0.1 - 1),
        ([run(1, level="gone")], None, 12 - 0.1 - 1),
        ([run(1, P, level="slow")], None, 12 - 0.1 - 1.5 - 3 / 60),  # the next run may be at any level
    ],
)
def test_the_planner_is_told_the_levels_and_which_one_runs(runs, running_level, latest_h):
    made = work_of(observed(*runs, power=SLOW, interruption={"policy": "Checkpoint", "overhead": "3m"}), T0 + HOUR)
    assert [(v.name, v.speed, v.power_w) for v in made.levels] == [("slow", 0.5, 120.0)]
    assert made.running_level == running_level
    assert (made.latest_start() - T0) / HOUR == pytest.approx(latest_h)


def test_a_run_is_started_at_the_level_of_its_plan():
    plan = planned((0, 2), level=0, level_name="slow")
    assert decide(observed(power=SLOW), plan, T0) == [CreateRun(1, "north", "CleanerWindow", "slow")]


@pytest.mark.parametrize(
    ("resources", "demand"),
    [
        ({}, {}),
        ({"requests": {"cpu": "500m", "memory": "1Gi"}}, {"cpu": 0.5, "memory": 2**30}),
        ({"limits": {"nvidia.com/gpu": 2}}, {"nvidia.com/gpu": 2}),
        ({"limits": {"cpu": "4"}, "requests": {"cpu": "1"}}, {"cpu": 1}),
        ({"requests": None, "limits": None}, {}),
    ],
)
def test_what_a_run_holds(resources, demand):
    container = {"name": "main", "resources": resources}
    made = work_of(observed(template={"spec": {"containers": [container]}}), T0)
    assert dict(made.demand) == {"pods": 1.0} | demand
