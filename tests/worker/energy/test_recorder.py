"""From readings to a series: sums, steps, limits."""

import time
from datetime import UTC, datetime

import pytest
from worker.energy.fakes import FakeClock, FakeMeter

from windward_api.contract import Method
from windward_worker.control import MeterError
from windward_worker.energy import DeclaredMeter, EnergyRecorder
from windward_worker.energy import step_series as module

START = datetime(2026, 5, 5, tzinfo=UTC)


def recorder(clock, *meters, period_s=3600.0, step_s=1.0):
    """Samples when told to; steps of `step_s`."""
    made = EnergyRecorder(meters, period_s=period_s, monotonic=clock, wall=lambda: START)
    made._steps.step_s = step_s
    return made.start()


def test_samples_fall_into_their_steps():
    clock = FakeClock()
    made = recorder(clock, FakeMeter([2.0, 5.0, 5.0, 9.0]))
    for seconds in (0.5, 0.4, 1.0, 0.9):  # at 0.5, 0.9, 1.9, 2.8
        clock.pass_s(seconds)
        made.sample()
    (component,) = made.series().components
    assert component.joules == pytest.approx([5.0, 0.0 + 4.0 * 0.1 / 0.9, 4.0 * 0.8 / 0.9])
    assert made.series().start == START and made.total_j == pytest.approx(9.0)
    made.stop()


def test_a_long_gap_is_spread_evenly():
    clock = FakeClock()
    made = recorder(clock, FakeMeter([40.0]))
    clock.pass_s(4.0)
    made.sample()
    assert made.series().components[0].joules[:4] == pytest.approx([10.0] * 4)
    made.stop()


def test_steps_are_merged_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(module, "MAX_STEPS", 8)
    clock = FakeClock()
    made = recorder(clock, DeclaredMeter(3.0, monotonic=clock), FakeMeter(range(1, 1000)))
    for _ in range(50):
        clock.pass_s(1.0)
        made.sample()
    series = made.series()
    assert series.step_s == 8.0
    assert [sum(c.joules) for c in series.components] == pytest.approx([150.0, 50.0])
    assert series.components[0].joules[:6] == pytest.approx([24.0] * 6)
    made.stop()


def test_implausible_readings_are_cut_and_told():
    clock = FakeClock()
    made = recorder(clock, FakeMeter([10.0, 1e9, 1e9 + 10], max_w=100.0))
    for _ in range(3):
        clock.pass_s(1.0)
        made.sample()
    assert made.total_j == pytest.approx(10 + 100 * 1.2 + 10)
    assert made.clamped_j == pytest.approx(1e9 - 10 - 120)
    made.stop()


def test_a_meter_that_falls_back_takes_nothing_away():
    clock = FakeClock()
    made = recorder(clock, FakeMeter([10.0, 4.0, 12.0]))
    for _ in range(3):
        clock.pass_s(1.0)
        made.sample()
    assert made.total_j == pytest.approx(12.0)
    assert min(made.series().components[0].joules) >= 0
    made.stop()


def test_a_failing_meter_is_retried_and_its_gap_filled():
    clock = FakeClock()
    made = recorder(clock, FakeMeter([10.0, MeterError("lost"), 30.0]))
    for _ in range(3):
        clock.pass_s(1.0)
        made.sample()
    assert made.failures == 1
    assert made.series().components[0].joules[:3] == pytest.approx([10.0, 10.0, 10.0])
    made.stop()


def test_windows_nest_and_name_the_weakest_method():
    clock = FakeClock()
    made = recorder(clock, DeclaredMeter(5.0, monotonic=clock), FakeMeter([0.0]))
    with made.window("outer") as outer:
        clock.pass_s(1.0)
        with made.window("inner") as inner:
            clock.pass_s(2.0)
    assert (inner.name, inner.energy.joules) == ("inner", pytest.approx(10.0))
    assert outer.energy.joules == pytest.approx(15.0) and outer.energy.method is Method.ESTIMATED
    made.stop()


def test_all_measured_is_measured():
    assert recorder(FakeClock(), FakeMeter([0.0]), FakeMeter([0.0], "gpu")).method is Method.MEASURED


def test_it_samples_by_itself_and_closes_its_meters_once():
    meter = FakeMeter([0.1 * n for n in range(10_000)])
    with EnergyRecorder([meter], period_s=0.01) as made:
        end = time.monotonic() + 30
        while made.total_j < 0.5 and time.monotonic() < end:
            time.sleep(0.01)
    made.stop()
    assert made.total_j >= 0.5 and meter.closed == 1
