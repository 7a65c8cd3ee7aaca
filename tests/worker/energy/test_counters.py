"""Counters wrap, restart and hide: what the meters on hardware make of it."""

import pytest
from worker.energy.fakes import FakeClock, FakeMachine, FakeNvml, FakeRapl

from windward_worker.control import MeterError
from windward_worker.energy import DeviceAbsent, EnergyUnknown, NvmlMeter, RaplMeter
from windward_worker.energy.meter import CounterSum


def rapl(root, clock, component="cpu"):
    """A meter of a work that has the machine to itself."""
    return RaplMeter(component, root=root, use=FakeMachine(clock=clock).alone(), monotonic=clock)


@pytest.mark.parametrize(
    ("readings", "wrap_at", "total", "resets"),
    [
        ([10, 20, 50], None, 40, 0),
        ([90, 95, 3], 100, 13, 0),  # wrapped: 5 + 8
        ([90, 95, 94], 100, 5, 1),  # a wrap of 99 is impossible at 20/s, and so is a restart to 94
        ([900, 950, 12], None, 62, 1),  # restarted: what it shows since counts
        ([0, 0, 0], 100, 0, 0),
        ([50, 0, 7], None, 7, 1),
    ],
)
def test_a_falling_counter(readings, wrap_at, total, resets):
    rate = 20.0
    counter = CounterSum(readings[0], 0.0, wrap_at=wrap_at)
    for at_s, value in enumerate(readings[1:], 1):
        counter.add(value, float(at_s), rate)
    assert (counter.total, counter.resets) == (total, resets)


@pytest.mark.parametrize(
    ("wrap_at", "gap_s", "value", "at_least"),
    [(100, 5.0, 60, 50), (100, 5.0, 3, 93), (100, 900.0, 10, 0), (None, 11.0, 3, 3), (None, 11.0, 9, None)],
    ids=["one wrap is possible", "fallen", "whole rounds", "restarted unread", "restarted unread, shows too much"],
)
def test_a_counter_that_cannot_tell_says_so(wrap_at, gap_s, value, at_least):
    counter = CounterSum(10.0, 0.0, wrap_at=wrap_at)
    rate = 20.0 if at_least is not None else 0.1
    with pytest.raises(EnergyUnknown) as caught:
        counter.add(value, gap_s, rate)
    assert caught.value.at_least_j == (at_least or 0.0) and counter.total == 0
    assert counter.add(value + 5, gap_s + 1.0, 20.0) == 5, "it counts on from there"


def test_rapl_wraps_at_its_range(tmp_path):
    clock, fake = FakeClock(), FakeRapl(tmp_path, range_uj=65_000_000_000)  # at 1 kW after 65 s at the soonest
    meter = rapl(tmp_path, clock)
    for _ in range(10):
        clock.pass_s(60.0)
        fake.add("intel-rapl:0", 30_000_000_000)
        meter.read_j()
    assert meter.read_j() == pytest.approx(300_000.0) and meter.resets == 0


def test_rapl_notices_a_reset(tmp_path):
    clock, fake = FakeClock(), FakeRapl(tmp_path)
    meter = rapl(tmp_path, clock)
    fake.set("intel-rapl:0", 91_000_000)
    clock.pass_s(1.0)
    assert meter.read_j() == pytest.approx(90.0)
    fake.set("intel-rapl:0", 2_000_000)  # a wrap would be 262 kJ in a second
    clock.pass_s(1.0)
    assert meter.read_j() == pytest.approx(92.0) and meter.resets == 1


def test_rapl_counts_no_zone_twice(tmp_path):
    clock, fake = FakeClock(), FakeRapl(tmp_path)
    meter = rapl(tmp_path, clock)
    for inside in ("intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:9"):
        fake.add(inside, 5_000_000)
    assert meter.read_j() == 0


@pytest.mark.parametrize("spoil", ["missing", "no dram", "unreadable"])
def test_rapl_that_is_not_there(tmp_path, spoil):
    if spoil != "missing":
        FakeRapl(tmp_path, dram=spoil != "no dram")
    if spoil == "unreadable":
        (tmp_path / "intel-rapl:0:1" / "energy_uj").unlink()
    with pytest.raises(MeterError, match="RAPL"):
        RaplMeter("dram", root=tmp_path)


@pytest.mark.parametrize(
    ("visible", "joules"),
    [
        (None, 6),
        ("0", 1),
        ("2,1", 5),
        ("GPU-111", 2),
        ("GPU-22, 0", 4),
        ("7", None),
        ("", None),
        ("1,1,GPU-111", 2),
        ("1,7,2", 2),
    ],  # each board once; CUDA stops at what it does not know
)
def test_only_visible_gpus_count(visible, joules):
    fake = FakeNvml([0, 0, 0])
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    if joules is None:
        with pytest.raises(DeviceAbsent, match="no GPU is visible"):
            NvmlMeter(fake, environ=environ)
        assert fake.open == 0
        return
    meter = NvmlMeter(fake, environ=environ)
    fake.counters_mj = [1000, 2000, 3000]
    assert meter.read_j() == joules
    meter.close()
    assert fake.open == 0


def test_a_driver_that_reloads(tmp_path):
    clock, fake = FakeClock(), FakeNvml([8_000_000])
    meter = NvmlMeter(fake, environ={}, monotonic=clock)
    clock.pass_s(1.0)
    fake.counters_mj = [100_000]
    assert meter.read_j() == pytest.approx(100.0)
