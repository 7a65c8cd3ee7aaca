"""The modelled meters, and which meters are taken."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from worker.energy.fakes import FakeClock, FakeMeter

from windward_api.contract import Method
from windward_worker.control import MeterError
from windward_worker.energy import CpuModelMeter, PowerProfile, choose_meter
from windward_worker.energy.model import TreeCpu, tree_cpu_s, usable_cpus


def test_idle_share_and_busy_time_add_up():
    clock, used_s = FakeClock(), [0.0]
    meter = CpuModelMeter(PowerProfile(2.0, 10.0), cpus=3, cpu_s=lambda: used_s[0], monotonic=clock)
    clock.pass_s(10)
    assert meter.read_j() == 3 * 2 * 10
    used_s[0] = 30.0  # all three, all the time
    assert meter.read_j() == 3 * 10 * 10 == meter.max_w * 10


def test_time_of_an_orphan_that_vanishes_is_not_taken_back():
    used_s = [5.0]
    meter = CpuModelMeter(cpus=1, cpu_s=lambda: used_s[0], monotonic=FakeClock())
    used_s[0] = 9.0
    before = meter.read_j()
    used_s[0] = 6.0
    assert meter.read_j() == before > 0


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


def test_a_tree_in_a_fake_proc(tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    for pid, parent, used in [
        (10, 1, (1, 2, 3, 4)),
        (11, 10, (10, 0, 0, 0)),
        (12, 11, (0, 5, 0, 0)),
        (13, 1, (99,) * 4),
    ]:
        (tmp_path / str(pid)).mkdir()
        times = " ".join(str(t * ticks) for t in used)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b (c)) S {parent} 0 0 0 0 0 0 0 0 0 {times} 20 0\n")
    assert tree_cpu_s(10, tmp_path) == 1 + 2 + 3 + 4 + 10 + 5
    now_s = [0.0]
    read = TreeCpu(10, tmp_path, monotonic=lambda: now_s[0])
    assert read() == 25
    shutil.copytree(tmp_path / "13", tmp_path / "14")
    (tmp_path / "14" / "stat").write_text(f"14 (new) S 10 0 0 0 0 0 0 0 0 0 {7 * ticks} 0 0 0 20 0\n")
    now_s[0] = 0.9
    assert read() == 25, "a new descendant is not looked for at every reading"
    now_s[0] = 1.0
    assert read() == 32
    shutil.rmtree(tmp_path / "12")
    assert read() == 27, "one that has gone is noticed at once"


@pytest.mark.parametrize(("quota", "most"), [("50000 100000", 0.5), ("max 100000", 1e9), ("junk", 1e9), ("1 0", 1e9)])
def test_a_cgroup_quota_limits_the_cpus(tmp_path, quota, most):
    (tmp_path / "cpu.max").write_text(quota)
    assert 0 < usable_cpus(tmp_path) <= most


def no_sensor():
    raise MeterError("none here")


def a(component):
    return lambda: FakeMeter([0.0], component)


@pytest.mark.parametrize(
    ("gpu", "cpu", "dram", "power_w", "expected"),
    [
        (no_sensor, no_sensor, no_sensor, None, ["model:cpu-time"]),
        (no_sensor, no_sensor, no_sensor, 300.0, ["model:declared"]),
        (a("gpu"), no_sensor, no_sensor, None, ["fake", "model:cpu-time"]),
        (a("gpu"), no_sensor, no_sensor, 300.0, ["fake", "model:cpu-time"]),  # declared watts hold the GPU's already
        (a("gpu"), a("cpu"), a("dram"), 300.0, ["fake", "fake", "fake"]),
        (no_sensor, a("cpu"), no_sensor, None, ["fake"]),
    ],
)
def test_measured_where_it_can_be_else_modelled(gpu, cpu, dram, power_w, expected):
    choice = choose_meter(power_w, gpu=gpu, cpu=cpu, dram=dram)
    assert [m.source for m in choice.meters] == expected
    components = [m.component for m in choice.meters]
    assert len(set(components)) == len(components)
    text = "; ".join(choice.reasons)
    assert ("none here" in text) == (no_sensor in (gpu, cpu, dram))
    for meter in choice.meters:
        assert meter.method is not Method.MODELLED or "modelled" in text


def test_this_machine_can_be_metered():
    choice = choose_meter()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert sum(m.read_j() for m in choice.meters) > 0
