"""Devices that work for several: what is claimed of them, and under which name."""

import pytest
from worker.energy.fakes import FakeClock, FakeMachine, FakeNvml, FakeRapl

from windward_api.contract import Method
from windward_worker.control import MeterError
from windward_worker.energy import EnergyRecorder, EnergyUnknown, NvmlMeter, RaplMeter


def board(fake, *ours, all_seen=True, clock=None):
    return NvmlMeter(fake, environ={}, is_ours=ours.__contains__, all_seen=all_seen, monotonic=clock or FakeClock())


@pytest.mark.parametrize(
    ("pids", "all_seen", "own", "method", "idle", "others"),
    [
        ([1], True, 100, Method.MEASURED, 0, 0),
        ([1, 3], True, 100, Method.MEASURED, 0, 0),  # two of ours
        ([1, 2], True, 60, Method.MODELLED, 10, 30),
        ([1, 2, 4], True, 60, Method.MODELLED, 10, 30),  # the third does nothing
        ([2], True, 0, Method.MODELLED, 0, 100),
        ([], True, 0, Method.MEASURED, 100, 0),
        ([], False, 100, Method.MEASURED, 0, 0),  # a container's own board, before its work is on it
        ([77], False, 100, Method.MEASURED, 0, 0),  # the host's pid of ours
        ([77, 78], False, None, None, 0, 100),
    ],
)
def test_a_board_counts_for_who_is_on_it(pids, all_seen, own, method, idle, others):
    """100 J; process 1 uses the board 60 % of the time, process 2 30 %."""
    fake = FakeNvml([0])
    fake.pids, fake.used = [pids], {1: 60, 2: 30}
    meter = board(fake, 1, 3, all_seen=all_seen)
    fake.counters_mj = [100_000]
    if own is None:
        with pytest.raises(EnergyUnknown, match="2 processes share the board") as caught:
            meter.read_j()
        assert caught.value.shared
    else:
        assert meter.read_j() == pytest.approx(own) and meter.method is method
    assert (meter.parts[0].idle_j, meter.parts[0].others_j) == pytest.approx((idle, others))


def test_whoever_was_there_at_either_end_of_a_step_shares_it():
    clock, fake = FakeClock(), FakeNvml([0])
    fake.pids, fake.used = [[1]], {1: 50, 2: 50}
    meter = board(fake, 1, clock=clock)
    told = []
    for pids in ([1], [1, 2], [1], [1]):
        clock.pass_s(1)
        fake.pids, fake.counters_mj[0] = [pids], fake.counters_mj[0] + 100_000
        told.append((meter.read_j(), str(meter.method)))
    assert told == [(100, "measured"), (150, "modelled"), (200, "modelled"), (300, "measured")]


def test_use_that_nvml_does_not_tell_claims_nothing():
    fake = FakeNvml([0])
    fake.pids, fake.used = [[1, 2]], None
    with pytest.raises(EnergyUnknown, match="use of each process is not told"):
        board(fake, 1).read_j()


def test_processes_that_nvml_does_not_list_leave_it_unmeasured():
    fake = FakeNvml([0])
    fake.lists_processes = False
    meter = board(fake, 1)
    fake.counters_mj = [5_000]
    assert meter.read_j() == 5
    assert (meter.method, meter.source) == (Method.MODELLED, "nvml, sharing unknown")


def test_seven_pods_on_the_slices_of_one_board_claim_none_of_it():
    fake = FakeNvml([0], mig=True)
    for _ in range(7):
        with pytest.raises(MeterError, match="MIG"):
            NvmlMeter(fake, environ={})
    assert fake.open == 0


@pytest.mark.parametrize("declared_w", [None, 40.0])
def test_pods_that_share_a_board_in_turns(declared_w):
    """Seven containers, whose processes NVML names by the host's pids: each counts what it declared, none the board."""
    clock, fake = FakeClock(), FakeNvml([0])
    fake.pids = [list(range(70, 77))]
    pods = [
        EnergyRecorder(
            [board(fake, all_seen=False, clock=clock)], declared_w=declared_w, period_s=3600, monotonic=clock
        )
        for _ in range(7)
    ]
    for pod in pods:
        pod.start()
    for _ in range(10):
        clock.pass_s(1)
        fake.counters_mj[0] += 100_000
        for pod in pods:
            pod.sample()
    for pod in pods:
        pod.stop()
    (note,) = pods[0].notes
    assert pods[0].unattributed == {"energy_others_j": pytest.approx(1000)}
    if declared_w is None:
        assert sum(pod.total_j for pod in pods) == 0 and note.startswith("gpu: 10 s not counted: NVML: 7 processes")
        return
    assert [pod.total_j for pod in pods] == pytest.approx([400] * 7) and "400 J of 10 s estimated (declared" in note
    (component,) = pods[0].series().components
    assert (component.name, component.method) == ("gpu", Method.ESTIMATED)


def test_what_was_drawn_alone_says_nothing_of_a_share():
    clock, fake = FakeClock(), FakeNvml([0])
    fake.pids = [[70]]
    made = EnergyRecorder(
        [board(fake, all_seen=False, clock=clock)], declared_w=40.0, period_s=3600, monotonic=clock
    ).start()
    for pids in ([70], [70, 71]):
        clock.pass_s(10)
        fake.pids, fake.counters_mj[0] = [pids], fake.counters_mj[0] + 3_000_000
        made.sample()
    made.stop()
    assert {c.name: sum(c.joules) for c in made.series().components} == pytest.approx(
        {"gpu": 3000, "gpu-estimated": 400}
    )
    assert made.method is Method.ESTIMATED


@pytest.mark.parametrize(
    ("rates", "shares"),
    [
        ({"a": 4, "b": 4}, (0.5, 0.5, 0)),
        ({"a": 6, "b": 2}, (0.75, 0.25, 0)),
        ({"a": 8}, (1, 0, 0)),
        ({"a": 2, "b": 2, "else": 4}, (0.25, 0.25, 0)),
        ({}, (0, 0, 1)),
        ({"a": 1}, (3.5 / (3.5 + 7 * 0.74), 0, 7 * 0.74 / (3.5 + 7 * 0.74))),
    ],
)
def test_runs_on_one_machine_share_its_packages(tmp_path, rates, shares):
    """Eight CPUs, two packages, 6000 J: the receipts, other work and idling add up to it."""
    machine, fake = FakeMachine(8), FakeRapl(tmp_path, packages=2)
    runs = [
        RaplMeter("cpu", root=tmp_path, use=machine.use(name), monotonic=machine.clock) for name in ("a", "b", "else")
    ]
    for _ in range(30):
        machine.pass_s(1, **rates)
        fake.add("intel-rapl:0", 120_000_000)
        fake.add("intel-rapl:1", 80_000_000)
        drawn = [run.read_j() for run in runs]
    idle = sum(part.idle_j for part in runs[0].parts)
    others = sum(part.others_j for part in runs[0].parts)
    assert (drawn[0], drawn[1], idle) == pytest.approx(tuple(6000 * share for share in shares))
    assert sum(drawn) + idle == pytest.approx(6000) == drawn[0] + others + idle
    assert (runs[0].method, runs[0].source) == (Method.MODELLED, "rapl x cpu-time share")


def test_readings_between_two_looks_at_cpu_time_keep_the_sum(tmp_path):
    """Every tenth of a second, CPU time every half: the last share stands in, and is made good."""
    machine, fake = FakeMachine(8), FakeRapl(tmp_path)
    run = RaplMeter("cpu", root=tmp_path, use=machine.use("a"), monotonic=machine.clock)
    readings = []
    for step in range(400):
        machine.pass_s(0.1, a=4 if step >= 100 else 0, b=4)
        fake.add("intel-rapl:0", 10_000_000)
        readings.append(run.read_j())
    assert readings == sorted(readings)
    half = 10 * 300 / 2
    assert readings[-1] == pytest.approx(half, rel=0.03)


def test_a_machine_whose_cpu_time_is_hidden_is_not_claimed(tmp_path):
    from windward_worker.energy import CpuUse
    from windward_worker.energy.usage import machine_cpu_s

    FakeRapl(tmp_path)
    with pytest.raises(MeterError, match="CPU time of the machine"):
        RaplMeter("cpu", root=tmp_path, use=CpuUse(lambda: 0.0, lambda: machine_cpu_s(tmp_path)))
