"""What no meter saw: whose joules are estimated, how, and that it is told."""

from datetime import UTC, datetime

import pytest
from worker.energy.fakes import FakeClock, FakeMachine, FakeMeter, FakeNvml, FakeRapl

from windward_api.contract import Method
from windward_worker.control import MeterError
from windward_worker.energy import EnergyRecorder, EnergyUnknown, NvmlMeter, RaplMeter

START = datetime(2026, 5, 5, tzinfo=UTC)


def recorder(clock, *meters, **more):
    return EnergyRecorder(meters, period_s=3600.0, monotonic=clock, wall=lambda: START, **more).start()


def sums(made):
    return {c.name: (str(c.method), pytest.approx(sum(c.joules))) for c in made.series().components}


def test_a_limit_that_was_raised_since_cuts_nothing():
    clock, fake = FakeClock(), FakeNvml([0], limit_w=175.0)
    made = recorder(clock, NvmlMeter(fake, environ={}, monotonic=clock))
    fake.limit_w = 300.0
    for _ in range(60):
        clock.pass_s(1)
        fake.counters_mj[0] += 300_000
        made.sample()
    fake.limit_w = 100.0  # lowered within the step that drew 300 W for most of it
    clock.pass_s(1)
    fake.counters_mj[0] += 280_000
    made.sample()
    made.stop()
    assert made.total_j == pytest.approx(18_280) and made.clamped_j == 0 and made.method is Method.MEASURED
    assert made.notes == []


@pytest.mark.parametrize(
    ("declared_w", "back_s", "expected"),
    [
        (None, None, {"gpu": ("measured", 35_000), "gpu-estimated": ("estimated", 25_000)}),
        (
            1400.0,
            None,
            {"gpu": ("measured", 35_000), "gpu-estimated": ("estimated", 25_000)},
        ),  # its own power is better
        (None, 40, {"gpu": ("measured", 60_000)}),  # the counter went on: what it shows wins over any estimate
    ],
)
def test_one_of_two_boards_falls_off_the_bus(declared_w, back_s, expected):
    """After 10 of 60 s, both at 500 W."""
    clock, fake = FakeClock(), FakeNvml([0, 0])
    made = recorder(clock, NvmlMeter(fake, environ={}, monotonic=clock), declared_w=declared_w)
    told = []
    for second in range(60):
        clock.pass_s(1)
        fake.counters_mj = [mj + 500_000 for mj in fake.counters_mj]
        fake.lost = {1} if second >= 10 and (back_s is None or second < back_s) else set()
        made.sample()
        told.append(made.total_j)
    assert told == pytest.approx([1000.0 * n for n in range(1, 61)]), "also while it is lost"
    assert sums(made) == expected
    made.stop()
    assert sums(made) == expected and made.total_j == pytest.approx(60_000)
    assert made.method is (Method.MEASURED if back_s else Method.ESTIMATED)
    lost = "gpu: 25000 J of 50 s estimated (mean power before, by nvml): NVML: GPU is lost"
    assert made.notes == ([] if back_s else [lost])


@pytest.mark.parametrize(
    ("declared_w", "expected", "note"),
    [
        (90.0, {"gpu": ("estimated", 900)}, "900 J of 10 s estimated (declared watts x time)"),
        (None, {}, "10 s not counted"),
    ],
)
def test_a_meter_that_never_answers_counts_as_declared(declared_w, expected, note):
    clock = FakeClock()
    made = recorder(clock, FakeMeter([MeterError("no answer")], "gpu"), declared_w=declared_w)
    for _ in range(5):
        clock.pass_s(2)
        made.sample()
    made.stop()
    assert sums(made) == expected and made.failures >= 5
    assert [n for n in made.notes if note in n and "no answer" in n]


def test_the_declared_draw_is_the_gpus_in_equal_parts():
    clock, fake = FakeClock(), FakeNvml([0, 0])
    gpus = NvmlMeter(fake, environ={}, monotonic=clock)
    fake.lost = {1}
    made = recorder(clock, gpus, FakeMeter([MeterError("out")], "cpu"), declared_w=600.0)
    clock.pass_s(1)
    fake.counters_mj = [200_000, 200_000]
    made.sample()
    made.stop()
    assert sums(made) == {"gpu": ("measured", 200), "gpu-estimated": ("estimated", 300)}
    assert "cpu: 1 s not counted: out" in made.notes


@pytest.mark.parametrize(
    ("before_s", "declared_w", "expected"),
    [
        (10, None, {"cpu": ("modelled", 3_000), "cpu-estimated": ("estimated", 150 * 7200)}),
        (10, 90.0, {"cpu": ("modelled", 3_000), "cpu-estimated": ("estimated", 150 * 7200)}),
        (0, 90.0, {"cpu": ("modelled", 1_500), "cpu-estimated": ("estimated", 90 * 7200)}),
        # With nothing to go by, the remainder is told as what it is: the least.
        (0, None, {"cpu": ("modelled", 1_500), "cpu-estimated": ("estimated", 150 * 7200 % 262_143.32885)}),
    ],
)
def test_a_gap_in_which_the_counter_wrapped_more_than_once(tmp_path, before_s, declared_w, expected):
    """Suspended for two hours at 150 W; then 10 s more."""
    clock, fake = FakeClock(), FakeRapl(tmp_path)
    meter = RaplMeter("cpu", root=tmp_path, use=FakeMachine(clock=clock).alone(), monotonic=clock)
    made = recorder(clock, meter, declared_w=declared_w)
    for seconds in [1] * before_s + [7200] + [1] * 10:
        clock.pass_s(seconds)
        fake.add("intel-rapl:0", 150_000_000 * seconds)
        made.sample()
    made.stop()
    assert sums(made) == expected
    (note,) = made.notes
    assert "of 7200 s estimated" in note and "not read for 7200 s and may have wrapped more than once" in note


def test_a_gap_that_cannot_be_told_lies_in_its_own_time():
    clock = FakeClock()
    made = recorder(clock, FakeMeter([10.0, EnergyUnknown("slept"), 20.0]))
    made._steps.step_s = 1.0
    for seconds in (1, 3, 1):
        clock.pass_s(seconds)
        made.sample()
    made.stop()
    steps = {c.name: c.joules for c in made.series().components}
    assert steps["cpu"] == pytest.approx([10, 0, 0, 0, 10, 0])
    assert steps["cpu-estimated"][:4] == pytest.approx([0, 10, 10, 10])


@pytest.mark.parametrize("spoilt", ["range", "range of zero", "second zone", "mmio", "dies", "late"])
def test_rapl_trees_with_something_amiss(tmp_path, spoilt):
    """100 J in a second of each package that can be read; the meter's draw before stands for one that cannot."""
    clock = FakeClock()
    dies = spoilt == "dies"
    fake = FakeRapl(tmp_path, packages=0 if dies else 2, dram=False)
    for die in (0, 1) if dies else ():
        fake.zone(f"intel-rapl:{die}", f"package-0-die-{die}", 5)
    if spoilt == "range":
        (tmp_path / "intel-rapl:1" / "max_energy_range_uj").unlink()
    if spoilt == "range of zero":
        (tmp_path / "intel-rapl:1" / "max_energy_range_uj").write_text("0\n")
    if spoilt in ("second zone", "late"):
        (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    if spoilt == "mmio":
        fake.zone("intel-rapl-mmio:0", "package-0", 5)
    meter = RaplMeter("cpu", root=tmp_path, use=FakeMachine(clock=clock).alone(), monotonic=clock)
    made = recorder(clock, meter, declared_w=80.0)
    if spoilt == "late":
        fake.set("intel-rapl:1", 7)
    for _ in range(10):
        clock.pass_s(1)
        for zone in (tmp_path).glob("intel-rapl*:[0-9]"):
            if (zone / "energy_uj").exists():
                fake.add(zone.name, 100_000_000)
        made.sample()
    made.stop()
    estimated = {"second zone": (1000, 400), "late": (1900, 40)}.get(spoilt)  # half of what was declared
    if estimated is None:
        assert sums(made) == {"cpu": ("modelled", 2000)} and made.notes == []
        return
    assert sums(made) == {"cpu": ("modelled", estimated[0]), "cpu-estimated": ("estimated", estimated[1])}
    assert "declared watts x time" in made.notes[0] and "intel-rapl:1" in made.notes[0]


def test_cuts_and_restarts_are_told():
    clock, fake = FakeClock(), FakeNvml([5_000_000], limit_w=100.0)
    made = recorder(clock, NvmlMeter(fake, environ={}, monotonic=clock))
    for mj in (5_050_000, 9_050_000, 80_000):
        clock.pass_s(1)
        fake.counters_mj = [mj]
        made.sample()
    made.stop()
    assert made.total_j == pytest.approx(50 + 125 * 1.2 + 80)
    assert made.notes == ["gpu: 3850 J of implausible readings were cut", "gpu: its counter restarted 1 times"]
