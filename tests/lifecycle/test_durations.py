"""From what past runs took to what the next one is planned with, and what is left of one that runs over."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifecycle.cases import HOUR, MINUTE, SLOW, T0, greenjob, observed, run

from windward.domain.durations import Durations, DurationSource, described, sentence, stated
from windward.domain.run import Phase
from windward.lifecycle.durations import STEPS, learned, resolved, rounded_up, running_time
from windward.lifecycle.work import ran_of, remaining_of, work_of

SECOND = timedelta(seconds=1)
PROFILE = {"duration": None, "profile": "etl"}
SPANS = st.lists(st.floats(0.001, 1e7).map(lambda s: timedelta(seconds=s)), min_size=1, max_size=60)


def hours(*values):
    return tuple(v * HOUR for v in values)


@pytest.mark.parametrize(
    ("past", "p50", "p90"),
    [
        ([1], 1, 1.5),  # one run: half as much again
        ([1, 2], 2, 2.5),  # of an even number the upper middle; a quarter more than the longest
        ([2, 1, 3], 2, 3.5),
        ([1, 1, 1, 8], 1, 9),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], 5, 9),  # from nine on a value of their own
        ([*range(1, 20)], 10, 18),
        ([*range(1, 51)], 26, 46),
    ],
)
def test_quantiles_are_order_statistics_and_few_runs_are_widened(past, p50, p90):
    assert learned(hours(*past)) == (p50 * HOUR, p90 * HOUR, len(past))
    assert learned(()) is None


@pytest.mark.parametrize(
    ("value", "to"),
    [
        (0.2 * SECOND, SECOND), (61.5 * SECOND, 62 * SECOND), (2 * MINUTE, 2 * MINUTE), (121 * SECOND, 130 * SECOND),
        (20 * MINUTE + SECOND, 21 * MINUTE), (2 * HOUR + SECOND, 125 * MINUTE), (12.1 * HOUR, 12.25 * HOUR),
        (100 * HOUR, 100 * HOUR), (timedelta(days=12000), timedelta(days=9999)),
    ],
)  # fmt: skip
def test_learned_durations_are_rounded_up_to_what_people_write(value, to):
    assert rounded_up(value) == to


@given(SPANS, st.randoms(use_true_random=False))
def test_quantiles_are_ordered_bounded_and_of_a_set(past, dice):
    found = learned(past)
    shuffled = list(past)
    dice.shuffle(shuffled)
    assert learned(shuffled) == found
    assert SECOND <= found.p50 <= found.p90
    coarsest = max(SECOND, max(past) / 12)
    assert min(past) <= found.p50 <= max(past) + coarsest
    assert found.p90 <= 1.5 * max(past) + max(SECOND, 1.5 * max(past) / 12)


@given(st.lists(st.floats(0.001, 1e7).map(lambda s: timedelta(seconds=s)), min_size=2, max_size=2))
def test_rounding_keeps_the_order_and_adds_a_twelfth_at_most(pair):
    a, b = sorted(pair)
    assert a <= rounded_up(a) <= rounded_up(b)
    assert rounded_up(b) <= max(SECOND, b * (1 + 1 / 12)) or b < 12 * SECOND


def test_each_step_is_a_multiple_of_the_ones_before_it_and_divides_its_bound():
    for (bound, step), (_, coarser) in pairwise(STEPS):
        assert coarser % step == timedelta(0) and bound % coarser == timedelta(0)


@given(SPANS, st.floats(0.0, 3e7))
def test_what_runs_over_is_expected_to_take_longer_than_it_ran(past, ran_s):
    ran, found = timedelta(seconds=ran_s), resolved(greenjob(**PROFILE), past)
    assert found.after(ran) > ran or found.after(ran) == found.expected
    assert found.after(ran) >= found.expected
    assert found.after(ran + MINUTE) >= found.after(ran)


@pytest.mark.parametrize(
    ("past", "ran_h", "expected_h"),
    [
        ([1, 2, 3], 0, 2), ([1, 2, 3], 1.99, 2), ([1, 2, 3], 2.001, 2),  # a hundredth is a plan's own least remainder
        ([1, 2, 3], 2.03, 3), ([1, 2, 3], 3, 3.3), ([1, 2, 3], 3.3, 3.63),
        ([1, 2, 4, 6, 9], 4.1, 9), ([1, 2, 4, 6, 8, 9], 4.1, 8), ([1, 2, 4, 6, 8, 9], 8.5, 9), ([2], 2.1, 2.2),
    ],
)  # fmt: skip
def test_a_run_over_is_expected_as_past_runs_that_took_longer(past, ran_h, expected_h):
    found = Durations(2 * HOUR, None, DurationSource.LEARNED, "etl", hours(*past), len(past))
    if 4 in past:
        found = Durations(4 * HOUR, None, DurationSource.LEARNED, "etl", hours(*past), len(past))
    assert found.after(ran_h * HOUR) / HOUR == pytest.approx(expected_h)


def test_a_short_one_grows_by_a_minute_at_least():
    assert Durations(10 * SECOND).after(11 * SECOND) == 70 * SECOND


@pytest.mark.parametrize(
    ("declared", "past", "source", "differs"),
    [
        (None, [], "Unknown", ""),
        (None, [1, 2, 3], "Learned", ""),
        ("2h", [], "Declared", ""),
        ("2h", [3, 3], "Declared", ""),  # by half of it: not told yet
        ("2h", [1.4, 1.4], "Declared", ""),
        (
            "2h",
            [3.1, 3.2, 3.3],
            "Declared",
            "spec.duration says 2h, the last 3 runs of profile etl took 3h15m (median)",
        ),
        ("2h", [1], "Declared", "spec.duration says 2h, the last run of profile etl took 1h (median)"),
    ],
)
def test_what_a_job_is_planned_with_and_a_declaration_is_never_overridden(declared, past, source, differs):
    found = resolved(greenjob(duration=declared, profile="etl"), hours(*past))
    assert found.source == source and found.differs.partition(":")[0] == differs and found.runs == len(past)
    if declared is not None:
        assert (found.expected, found.p90) == (2 * HOUR, None)
    assert found.is_known is (source != "Unknown")


@pytest.mark.parametrize(("within", "assumed"), [("12h", HOUR), ("20m", 20 * MINUTE)])
def test_an_unknown_duration_holds_an_hour_or_what_there_is(within, assumed):
    assert stated(greenjob(completeWithin=within, **PROFILE)) == Durations(assumed, None, DurationSource.UNKNOWN, "etl")


def test_a_status_keeps_what_a_job_was_planned_with():
    kept = {"source": "Learned", "expected": "3h", "p90": "4h", "profile": "etl", "runs": 5}
    assert stated(greenjob(status={"duration": kept}, **PROFILE)) == Durations(
        3 * HOUR, 4 * HOUR, DurationSource.LEARNED, "etl", (), 5
    )
    assert stated(greenjob(status={"duration": kept})) == Durations(2 * HOUR), "what is declared wins"


DONE = Phase.SUCCEEDED
NEVER = {"interruption": {"policy": "Never"}}
PAUSES = {"interruption": {"policy": "Checkpoint", "overhead": "6m"}}


@pytest.mark.parametrize(
    ("runs", "spec", "ran_h"),
    [
        ([run(1, DONE, end_h=2)], NEVER, 2),
        ([run(1, Phase.FAILED, end_h=1), run(2, DONE, start_h=2, end_h=4.5)], NEVER, 2.5),  # it began anew
        ([run(1, Phase.PAUSED, end_h=1), run(2, DONE, start_h=5, end_h=6.6)], PAUSES, 2.5),  # less the resume
        ([run(1, Phase.LOST, end_h=1), run(2, DONE, start_h=5, end_h=6.6)], PAUSES, None),  # nobody knows what it kept
        ([run(1, Phase.FAILED, end_h=1), run(2, DONE, start_h=5, end_h=6)], PAUSES, None),
        ([run(1, Phase.PAUSED, code=137), run(2, DONE, start_h=5, end_h=6)], PAUSES, None),
        ([run(1, DONE, end_h=4, level="slow")], {"power": SLOW}, 2),  # as declared
        ([run(1, DONE, end_h=2, time_scale=60.0)], NEVER, None),
        ([run(1, Phase.FAILED, end_h=2)], NEVER, None),
        ([run(1)], NEVER, None),
        ([], NEVER, None),
    ],
)
def test_the_running_time_of_a_successful_job_is_its_work_as_declared(runs, spec, ran_h):
    ran = running_time(observed(*runs, **spec))
    assert ran == (None if ran_h is None else ran_h * HOUR)


@pytest.mark.parametrize(
    ("runs", "at_h", "left_h"),
    [
        ([run()], 1.0, 1.0),
        ([run()], 2.01, 0.02),  # not over yet: a hundredth is left, as before
        ([run()], 2.05, 0.15),  # a tenth of what was declared is added
        ([run()], 2.3, 0.12),
        ([run(progress=0.5)], 3.0, 1.0),  # what reports its progress is believed
        ([run(progress=1.0)], 3.0, 0.02),
        ([run(1, Phase.PAUSED, end_h=1), run(2, start_h=4)], 5.15, 0.0667),  # over, with the minute of its resume
    ],
)
def test_what_is_left_of_a_run_that_runs_over_does_not_stick_at_nothing(runs, at_h, left_h):
    job = observed(*runs, interruption={"policy": "Checkpoint"})
    assert remaining_of(job, T0 + at_h * HOUR) / HOUR == pytest.approx(left_h, abs=1e-3)


def test_the_work_of_a_run_over_says_so_and_its_p90_is_no_less():
    past = hours(1, 2, 2.5, 4, 8, 9)
    job = observed(run(), **PROFILE)
    job = type(job)(job.job, job.runs, resolved=resolved(job.job, past))
    before, over = work_of(job, T0 + HOUR), work_of(job, T0 + 5 * HOUR)
    assert (before.duration, before.remaining) == (4 * HOUR, 3 * HOUR) and ran_of(job, T0 + HOUR) == HOUR
    assert before.duration_note == "It takes 4h, 9h45m in nine of ten, learned from 6 past runs of profile etl."
    assert (over.duration, over.remaining, over.duration_p90) == (9 * HOUR, 4 * HOUR, 9.75 * HOUR)
    assert over.duration_note.startswith("It runs longer than 4h: 9h expected now, by past runs of profile etl")
    assert over.latest_start() - before.latest_start() == 4 * HOUR, "both are held for the same p90"


def test_each_source_is_told_in_a_few_words():
    texts = [described(resolved(greenjob(duration=d, profile="etl"), hours(*past))) for d, past in (
        ("2h", [2]), (None, [2]), (None, []))]  # fmt: skip
    assert texts == [
        "2h, declared",
        "2h, 3h in nine of ten, learned from 1 past run of profile etl",
        "unknown: no successful run of profile etl yet, 1h assumed",
    ]
    assert sentence(Durations(2 * HOUR), HOUR) == ""
    assert sentence(stated(greenjob(**PROFILE)), 2 * HOUR).startswith("It runs longer than the time assumed: 2h")
    assert (
        sentence(Durations(2 * HOUR), 3 * HOUR)
        == "It runs longer than 2h: 3h13m16s expected now, by what it ran so far."
    )
