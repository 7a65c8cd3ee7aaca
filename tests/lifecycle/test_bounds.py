"""What a container or a kubelet says of a run is held against its life and what hardware can draw."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lifecycle.cases import HOUR, T0, report, run

from windward.domain.run import Phase
from windward.lifecycle.bounds import within_bounds

NOW = T0 + 10 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("started", "finished", "kept"),
    [
        (T0 + HOUR, T0 + 2 * HOUR, (T0 + HOUR, T0 + 2 * HOUR)),
        (T0 - timedelta(seconds=3), T0 + HOUR, (T0 - timedelta(seconds=3), T0 + HOUR)),  # clocks differ by seconds
        (EPOCH, T0 + HOUR, (T0, T0 + HOUR)),
        (EPOCH, EPOCH, (T0, T0)),
        (T0 + HOUR, datetime(9998, 1, 1, tzinfo=UTC), (T0 + HOUR, NOW)),
        (T0 + 2 * HOUR, T0 + HOUR, (T0 + 2 * HOUR, T0 + 2 * HOUR)),
        (None, T0 + HOUR, (None, T0 + HOUR)),
    ],
)
def test_times_lie_within_the_life_of_the_child(started, finished, kept):
    one = replace(run(1, Phase.SUCCEEDED), started_at=started, finished_at=finished)
    made = within_bounds(one, T0, NOW, 3000.0)
    assert (made.started_at, made.finished_at) == kept
    assert ("outside of its life" in made.message) is ((started, finished) != kept)


@pytest.mark.parametrize(
    ("joules", "step_s", "start_h", "why"),
    [
        ((1e6, 1e6), 1800, 1, None),
        ((3000.0 * 3600,), 3600, 1, None),
        ((3000.0 * 3600 * 3,), 3600, 1, "more than its hardware can draw"),
        ((1.0,) * 10, 3600, 1, "of a run of 3600 s"),
        ((1.0,), 31_000_000, 1, None),  # one widened step that was cut short: weighed until the end of the run
        ((1.0,), 60, 24 * 365, "outside of the run"),
        ((1.0,), 60, -24 * 365, "outside of the run"),
    ],
)
def test_an_energy_report_that_cannot_be_true_is_set_aside_and_told(joules, step_s, start_h, why):
    one = run(1, Phase.SUCCEEDED, start_h=1, end_h=2, report=report(1.0, joules, start_h, step_s))
    made = within_bounds(one, T0, NOW, 3000.0)
    assert (made.report.energy is None) is (why is not None) and made.report.progress is not None
    assert why is None or ("its energy report was set aside" in made.message and why in made.message)


def test_under_a_warped_clock_real_seconds_are_held_against_real_seconds():
    told = report(1.0, (100.0, 50.0), start_h=3, step_s=5)
    one = run(1, Phase.SUCCEEDED, start_h=0, end_h=10, report=told, time_scale=3600.0, started_real=T0 + 3 * HOUR)
    assert within_bounds(one, T0, NOW, 3000.0).report.energy is not None
    assert within_bounds(replace(one, finished_at=T0 + 1 * HOUR), T0, NOW, 1.0).report.energy is None
