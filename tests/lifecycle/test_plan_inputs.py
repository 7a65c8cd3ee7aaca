"""When a plan stands: what the inputs of one say of a pause whose price it does not know."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.cases import HOUR, T0, observed, planned, run

from windward.domain.plan import Plan
from windward.domain.run import Phase
from windward.lifecycle.plan_inputs import PlanInputs

TICK = timedelta(minutes=15)
CHECKPOINT = {"interruption": {"policy": "Checkpoint"}}
TWO = planned((0, 1), (2, 3))


def inputs(plan, at_h, **job):
    now = T0 + at_h * HOUR
    o = observed(run(1, Phase.RUNNING), **job)
    standing = Plan(T0, {o.key: plan})
    return PlanInputs.of((), [o], standing, TICK, now), standing, now


@pytest.mark.parametrize(
    ("plan", "at_h", "job", "outdated"),
    [
        (TWO, 1.05, CHECKPOINT, True),
        (TWO, 0.5, CHECKPOINT, False),  # in its window
        (TWO, 3.05, CHECKPOINT, False),  # nothing follows
        (replace(TWO, go_on_g=120.0), 1.05, CHECKPOINT, False),  # it knows
        (TWO, 1.05, {}, False),  # it may not pause
    ],
    ids=["a pause is due", "in a window", "after the last", "priced", "never pauses"],
)
def test_a_plan_from_before_a_run_is_made_anew_when_its_pause_is_due(plan, at_h, job, outdated):
    """Without the price of going on nothing is paused, and the next tick may be a quarter of an hour away."""
    now_inputs, standing, now = inputs(plan, at_h, **job)
    assert now_inputs.outdated is outdated
    before = replace(now_inputs, outdated=False, drifted=False)
    assert replace(now_inputs, drifted=False).still_hold(before, standing, now) is not outdated


@pytest.mark.parametrize(("at_h", "outdated"), [(0.5, False), (1.5, False), (3.5, True)])
def test_work_that_was_held_beyond_its_windows_is_planned_anew_at_once(at_h, outdated):
    now = T0 + at_h * HOUR
    o = observed()
    standing = Plan(T0, {o.key: TWO})
    now_inputs = PlanInputs.of((), [o], standing, TICK, now)
    before = replace(now_inputs, outdated=False, drifted=False)
    assert now_inputs.outdated is outdated
    assert replace(now_inputs, drifted=False).still_hold(before, standing, now) is not outdated
