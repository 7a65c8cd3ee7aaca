"""The modelled meters, and which meters are taken."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from worker.energy.fakes import FakeMeter, FakeNvml

from windward_api.contract import Method
from windward_worker.control import MeterError
from windward_worker.energy import CpuModelMeter, DeviceAbsent, NvmlMeter, PowerProfile, choose_meter
from windward_worker.energy.model import DECLARED, usable_cpus
from windward_worker.energy.nvml import find_accelerator
from windward_worker.energy.usage import TreeCpu, descends, machine_cpu_s, tree_cpu_s


def test_busy_time_counts_and_idling_is_nobodys():
    used_s = [7.0]
    meter = CpuModelMeter(PowerProfile(2.0, 10.0), cpus=3, cpu_s=lambda: used_s[0])
    assert meter.read_j() == 0
    used_s[0] += 30.0  # all three, for ten seconds
    assert meter.read_j() == 3 * 10 * 10 == meter.max_w * 10


def test_pods_without_a_limit_do_not_each_claim_the_idle_node():
    """Ten pods on 128 CPUs for an hour; each used four CPU-seconds."""
    used_s = [0.0]
    pods = [CpuModelMeter(cpus=128, cpu_s=lambda: used_s[0]) for _ in range(10)]
    used_s[0] = 4.0
    assert sum(pod.read_j() for pod in pods) == pytest.approx(10 * 4 * 3.5)  # the node's idle draw is 340,992 J


def test_time_that_leaves_is_not_taken_back_and_hides_nothing_that_follows():
    """An orphan with 100 CPU-seconds leaves the tree of a counter that can fall; then 100 more are used."""
    used_s = [0.0]
    meter = CpuModelMeter(PowerProfile(0, 10), cpus=4, cpu_s=lambda: used_s[0])
    readings = []
    for used_s[0] in (150, 50, 150):
        readings.append(meter.read_j())
    assert readings == [1500, 1500, 2500]


def test_the_tree_counts_running_and_reaped_children():
    burn = "import time; e = time.process_time() + 0.3\nwhile time.process_time() < e: pass\n"
    before_s = tree_cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    reaped_s = tree_cpu_s(os.getpid()) - before_s
    child = subprocess.Popen([sys.executable, "-c", burn + "print(flush=True); input()"], stdin=-1, stdout=-1)
    child.stdout.readline()
    running_s = tree_cpu_s(os.getpid()) - before_s - reaped_s
    child.communicate(b"\n")
    assert reaped_s >= 0.28 and running_s >= 0.28


TICKS = os.sysconf("SC_CLK_TCK")


class FakeProc:
    """Processes as /proc shows them: name, parent, own and reaped CPU seconds, when started."""

    def __init__(self, root):
        self.root = root

    def put(self, pid, parent, own_s, reaped_s=0, started=5):
        (self.root / str(pid)).mkdir(exist_ok=True)
        times = f"{own_s * TICKS} 0 {reaped_s * TICKS} 0"
        line = f"{pid} (a) b (c)) S {parent} 0 0 0 0 0 0 0 0 0 {times} 20 0 1 0 {started} 0 0\n"
        (self.root / str(pid) / "stat").write_text(line)

    def end(self, *pids):
        for pid in pids:
            shutil.rmtree(self.root / str(pid))


@pytest.fixture
def proc(tmp_path):
    fake = FakeProc(tmp_path)
    fake.put(10, 1, 3, 7)
    fake.put(11, 10, 10)
    fake.put(12, 11, 5)
    fake.put(13, 1, 99)
    return fake


def reap(proc):
    proc.end(12)
    proc.put(11, 10, 10, 5)


def reap_later_use(proc):
    proc.end(12)
    proc.put(11, 10, 10, 8)


def two_generations(proc):
    proc.end(11, 12)
    proc.put(10, 1, 3, 7 + 10 + 5 + 4)


def orphaned(proc):
    proc.end(11)
    proc.put(10, 1, 3, 7 + 10)
    proc.put(12, 1, 5)


def orphan_works_on(proc):
    orphaned(proc)
    proc.put(12, 1, 5 + 6)
    proc.put(14, 12, 2)


def reused(proc):
    proc.end(12)
    proc.put(12, 1, 40, started=9)


def unwaited(proc):
    proc.end(12)


def busy(proc):
    proc.put(10, 1, 5, 7)
    proc.put(14, 12, 2)


@pytest.mark.parametrize(
    ("change", "used_s"),
    [
        (reap, 0), (reap_later_use, 3), (two_generations, 4), (orphaned, 0), (orphan_works_on, 8), (reused, 0),
        (unwaited, 0), (busy, 4),
    ],
)  # fmt: skip
def test_no_time_of_a_tree_vanishes_and_none_is_counted_twice(proc, change, used_s):
    now_s = [0.0]
    read = TreeCpu(10, proc.root, monotonic=lambda: now_s[0])
    assert read() == 25 == tree_cpu_s(10, proc.root)
    change(proc)
    now_s[0] += 2
    assert read() == 25 + used_s
    now_s[0] += 2
    assert read() == 25 + used_s, "nothing happened since"


def test_a_child_that_is_reaped_between_two_looks_counts_once(proc):
    """Seen to have gone before its parent's time shows it."""
    read = TreeCpu(10, proc.root, search_s=0)
    assert read() == 25
    proc.end(12)
    assert read() == 25
    proc.put(11, 10, 11, 5)
    assert read() == 26


def test_all_of_proc_is_not_searched_at_every_reading(proc):
    now_s = [0.0]
    read = TreeCpu(10, proc.root, monotonic=lambda: now_s[0])
    assert read() == 25
    proc.put(14, 10, 7)
    now_s[0] = 0.9
    assert read() == 25
    now_s[0] = 1.0
    assert read() == 32


def test_its_own_time_is_finer_than_a_tick():
    read = TreeCpu(os.getpid())
    before_s = read()
    end = time.process_time() + 0.2 / TICKS
    while time.process_time() < end:
        pass
    assert read() - before_s >= 0.2 / TICKS


@pytest.mark.parametrize(("pid", "ours"), [(10, True), (12, True), (13, False), (1, False), (99, False)])
def test_whether_a_process_descends(proc, pid, ours):
    assert descends(pid, 10, proc.root) is ours


def test_the_machines_time_is_what_the_kernel_says(tmp_path):
    (tmp_path / "stat").write_text(
        f"cpu  {' '.join(str(n * TICKS) for n in (1, 2, 3, 40, 5, 6, 7, 8, 1, 1))}\ncpu0 1\n"
    )
    assert machine_cpu_s(tmp_path) == (1 + 2 + 3 + 6 + 7, 40 + 5)
    (tmp_path / "stat").write_text("cpu 1 2\n")
    with pytest.raises(MeterError, match="CPU time of the machine"):
        machine_cpu_s(tmp_path)


@pytest.mark.parametrize(("quota", "most"), [("50000 100000", 0.5), ("max 100000", 1e9), ("junk", 1e9), ("1 0", 1e9)])
def test_a_cgroup_quota_limits_the_cpus(tmp_path, quota, most):
    (tmp_path / "cpu.max").write_text(quota)
    assert 0 < usable_cpus(tmp_path) <= most


def no_sensor():
    raise DeviceAbsent("none here")


def uncovered():
    raise MeterError("NVML: no driver; yet /dev/kfd is here")


def a(component):
    return lambda: FakeMeter([0.0], component)


def mig(**environ):
    return lambda: NvmlMeter(FakeNvml([0], mig=not environ), environ=environ)


CPU_TIME = "model:cpu-time"


@pytest.mark.parametrize(
    ("gpu", "cpu", "dram", "power_w", "expected", "stands_in"),
    [
        (no_sensor, no_sensor, no_sensor, None, [CPU_TIME], None),
        (no_sensor, no_sensor, no_sensor, 300.0, [DECLARED], None),
        (a("gpu"), no_sensor, no_sensor, None, ["fake", CPU_TIME], None),
        (a("gpu"), no_sensor, no_sensor, 300.0, ["fake", CPU_TIME], 300.0),  # declared watts hold the GPU's already
        (a("gpu"), a("cpu"), a("dram"), 300.0, ["fake", "fake", "fake"], 300.0),
        (no_sensor, a("cpu"), no_sensor, None, ["fake"], None),
        (no_sensor, a("cpu"), no_sensor, 300.0, ["fake"], 300.0),  # a counter wins over a larger declared figure
        (uncovered, a("cpu"), a("dram"), 700.0, ["fake", "fake", DECLARED], None),
        (uncovered, no_sensor, no_sensor, 700.0, [DECLARED], None),
        (uncovered, a("cpu"), no_sensor, None, ["fake"], None),
        (uncovered, no_sensor, no_sensor, None, [CPU_TIME], None),
        (mig(CUDA_VISIBLE_DEVICES="MIG-7f3e"), a("cpu"), a("dram"), 700.0, ["fake", "fake", DECLARED], None),
        (mig(NVIDIA_VISIBLE_DEVICES="MIG-7f3e"), a("cpu"), a("dram"), 700.0, ["fake", "fake", DECLARED], None),
        (mig(), a("cpu"), a("dram"), 700.0, ["fake", "fake", DECLARED], None),
    ],
)
def test_counted_where_it_can_be_else_modelled_or_estimated(gpu, cpu, dram, power_w, expected, stands_in):
    choice = choose_meter(power_w, gpu=gpu, cpu=cpu, dram=dram)
    assert [m.source for m in choice.meters] == expected and choice.declared_w == stands_in
    components = [m.component for m in choice.meters]
    assert len(set(components)) == len(components)
    text = "; ".join(choice.reasons)
    assert ("none here" in text) == (no_sensor in (gpu, cpu, dram))
    for meter in choice.meters:
        assert meter.method is Method.MEASURED or str(meter.method) in text
        assert (meter.method is Method.ESTIMATED) == (meter.source == DECLARED)
    assert bool(choice.uncounted) == (gpu is uncovered and power_w is None), "what draws unseen is told"


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ("dev/kfd", True),
        ("dev/accel/accel0", True),
        ("dev/nvidia3", True),
        ("dev/nvidiactl", False),
        ("dev/sda", False),
    ],
)
def test_an_accelerator_shows_by_its_device_node(tmp_path, node, found):
    (tmp_path / node).parent.mkdir(parents=True)
    (tmp_path / node).touch()
    assert find_accelerator(tmp_path) == (f"/{node}" if found else None)


def test_this_machine_can_be_metered():
    choice = choose_meter()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert sum(m.read_j() for m in choice.meters) > 0
