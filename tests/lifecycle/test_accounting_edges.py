"""Edges of the accounts: what no meter saw, where a meter begins and ends beside its run, when figures are final."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.cases import HOUR, T0, observed, report, run
from lifecycle.test_accounting import BOTH, DE, KWH, NORTH, REGIONS, SE, SOUTH, row, series

from windward.domain.run import Phase
from windward.domain.series import Quality
from windward.ledger import open_ledger
from windward.lifecycle.accounting import account, energy_of_run
from windward_api.contract import EnergyComponent

SECOND = timedelta(seconds=1)


def ended(end_s, *, told=None, here=False, scale=1.0):
    """A run of so many seconds from 06:00; `here`: on this machine, where there is one clock."""
    return run(1, Phase.SUCCEEDED, end_h=end_s / 3600, report=told, time_scale=scale, started_real=T0 if here else None)


def metered(joules, step_s, after_s=0.0, components=1):
    """A report whose meter began so many seconds after 06:00."""
    told = report(joules=joules, start_h=after_s / 3600, step_s=step_s)
    (part,) = told.energy.components
    more = tuple(
        EnergyComponent(name=f"gpu{i}", method="measured", source="nvml", joules=part.joules)
        for i in range(1, components)
    )
    return told.model_copy(update={"energy": told.energy.model_copy(update={"components": (part, *more)})})


def seconds_of(rows):
    return [((r.start - T0) / SECOND, (r.end - T0) / SECOND, r.joules) for r in rows]


def rows_of(one, now=T0):
    return energy_of_run(observed(one), one, NORTH, now)


@pytest.mark.parametrize(
    ("late_s", "scale", "estimated_s"),
    [(59, 1.0, 0), (60, 1.0, 60), (90, 1.0, 90), (59, 2.0, 0), (60, 2.0, 120)],
)
def test_a_minute_that_no_meter_saw_is_estimated_and_less_is_not(late_s, scale, estimated_s):
    """Under a warped clock it is a real minute that counts."""
    one = ended((late_s + 100) * scale, told=metered((5.0,), 100, late_s), scale=scale)
    estimated = [r for r in rows_of(one) if r.method == "estimated"]
    assert sum(r.joules for r in estimated) == pytest.approx(360 * estimated_s)
    assert [(r.start, r.end) for r in estimated] == ([(T0, T0 + estimated_s * SECOND)] if estimated_s else [])


def test_a_short_run_without_a_meter_is_estimated_however_short():
    assert seconds_of(rows_of(ended(5))) == [(0, 5, 360 * 5)]


def test_a_run_that_goes_on_is_counted_up_to_now():
    assert seconds_of(rows_of(run(1), T0 + 1800 * SECOND)) == [(0, 1800, 360 * 1800)]


def test_no_estimate_reaches_beyond_the_end_of_a_run_whose_meter_has_a_late_clock():
    one = ended(1800, told=metered((5.0,), 60, 3600))
    told, guessed = rows_of(one)
    assert (told.joules, told.method) == (5.0, "measured")
    assert seconds_of([guessed]) == [(0, 1800, 360 * 1800)]


@pytest.mark.parametrize(
    ("after_s", "first"),
    [(0, (0, 10)), (1, (0, 11)), (10, (0, 20)), (11, (11, 21))],  # by more than a step, it was not there before
)
def test_here_the_first_step_begins_with_its_run(after_s, first):
    rows = rows_of(ended(60, told=metered((5.0, 6.0), 10, after_s), here=True))
    assert seconds_of(rows)[0] == (*first, 5.0)
    assert seconds_of(rows)[1] == (first[1], first[1] + 10, 6.0)


def test_on_a_cluster_the_first_step_begins_where_its_meter_did():
    rows = rows_of(ended(60, told=metered((5.0, 6.0), 10, 1)))
    assert seconds_of(rows) == [(1, 11, 5.0), (11, 21, 6.0)]


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_what_a_meter_reads_a_moment_after_the_end_is_of_the_last_step(scale):
    """Each component's own: none is lost, and none moves to another."""
    told = metered((1.0, 2.0, 3.0, 4.0), 10, components=2)
    rows = rows_of(ended(20 * scale, told=told, here=True, scale=scale))
    assert [r.component for r in rows] == ["gpu", "gpu", "gpu1", "gpu1"]
    for part in (rows[:2], rows[2:]):
        assert seconds_of(part) == [
            (0, 10 * scale, 1.0 * scale), (10 * scale, 20 * scale, (2.0 + 3.0 + 4.0) * scale),
        ]  # fmt: skip


@pytest.mark.parametrize(("end_s", "after_s"), [(1, 2), (0, 0), (0, 2)])
def test_a_run_that_was_over_before_its_meter_began_keeps_every_joule(end_s, after_s):
    rows = rows_of(ended(end_s, told=metered((5.0, 6.0, 7.0), 1, after_s, components=2), here=True))
    book = open_ledger("sqlite://")
    book.record_energy(rows)
    assert sum(r.joules for r in book.energy(rows[0].uid)) == 2 * 18.0
    assert [(r.component, r.start, r.joules) for r in rows] == [("gpu", T0, 18.0), ("gpu1", T0, 18.0)]
    if end_s:
        assert {r.end for r in rows} == {T0 + end_s * SECOND}
    book.close()


def test_a_run_that_goes_on_here_has_its_steps_as_they_were_metered():
    one = replace(ended(0, told=metered((5.0, 6.0), 10), here=True), phase=Phase.RUNNING, finished_at=None)
    assert seconds_of(rows_of(one, T0 + 20 * SECOND)) == [(0, 10, 5.0), (10, 20, 6.0)]


@pytest.mark.parametrize(
    ("until_h", "settled"), [(None, True), (4, True), (5, True), (3.9, False), (0.5, False)]
)  # of a run in the fourth hour, whose baseline is the first
def test_measured_hours_are_final_once_they_are_no_longer_revised(until_h, settled):
    until = None if until_h is None else T0 + until_h * HOUR
    assert account(observed(), [row(3, 4)], BOTH, REGIONS, until).settled is settled


@pytest.mark.parametrize(
    ("north", "home", "settled"),
    [
        (Quality.RECORDED, Quality.RECORDED, True),
        (Quality.RECORDED, Quality.MEASURED, False),  # which may still be revised
        (Quality.MEASURED, Quality.RECORDED, False),
    ],
)
def test_recorded_hours_are_final_at_once_on_both_sides(north, home, settled):
    known = {"SE": series("SE", [20] * 6, north), "DE": series("DE", [400] * 6, home)}
    assert account(observed(), [row(3, 4)], known, REGIONS, T0).settled is settled


@pytest.mark.parametrize("quality", [Quality.FORECAST, Quality.ESTIMATED])
def test_a_baseline_on_what_is_not_measured_is_not_final(quality):
    known = {"SE": SE, "DE": series("DE", [400] * 6, quality)}
    made = account(observed(), [row(3, 4)], known, REGIONS)
    assert not made.settled and made.saved_g is not None


FAILED = [run(n, Phase.FAILED) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("runs", "known", "settled"),
    [
        ([run(1, Phase.SUCCEEDED)], {"SE": SE}, False),  # home's hours may become known
        (FAILED, {"SE": SE}, True),  # failed for good: there is no other side
        ([replace(r, progress=0.3 * r.attempt) for r in FAILED], {"SE": SE}, True),  # whatever it got done
        (FAILED, {"DE": DE}, False),  # but its own side is not known
        ([run(1, Phase.LOST)], {"SE": SE}, True),  # nothing was kept: nothing to run at home
        ([run(1, Phase.LOST), run(2)], {"SE": SE}, False),
    ],
)
def test_an_account_is_final_only_with_both_sides_that_it_has(runs, known, settled):
    rows = [row(attempt=r.attempt, start_h=r.attempt - 1, end_h=r.attempt) for r in runs]
    made = account(observed(*runs), rows, known, REGIONS)
    assert made.settled is settled and made.run_now_g is None


def test_mean_power_is_over_running_time_with_all_components():
    rows = [row(), row(component="cpu", joules=KWH / 2), row(3, 4, attempt=2, region=SOUTH)]
    made = account(observed(), rows, BOTH, REGIONS)
    assert (made.energy_j, made.run_time_s, made.mean_power_w) == (2.5 * KWH, 7200, 1250)
    nothing = account(observed(), [], BOTH, REGIONS)
    assert (nothing.energy_j, nothing.emissions_g, nothing.run_time_s, nothing.mean_power_w) == (0, 0, 0, 0)


def test_energy_of_no_time_has_no_intensity():
    made = account(observed(), [row(1, 1, 5.0)], BOTH, REGIONS)
    assert made.energy_j == 5.0 and made.emissions_g is None and made.intervals[0].intensity_g_per_kwh is None
    assert made.mean_power_w == 0.0


def test_a_piece_says_what_it_was_weighed_with_and_the_weakest_of_it():
    known = {"SE": series("SE", [20, 40], (Quality.MEASURED, Quality.FORECAST)), "DE": DE}
    first, both = account(observed(), [row(), row(0.5, 1.5)], known, REGIONS).intervals
    assert (first.intensity_g_per_kwh, first.quality) == (20, Quality.MEASURED)
    assert (both.intensity_g_per_kwh, both.quality) == (pytest.approx(30), Quality.FORECAST)
    assert both.emissions_g == pytest.approx(30 * 1.1)
