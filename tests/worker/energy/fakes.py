"""Fakes of sensors and of time. FAKE: nothing here measures anything."""

import os
import threading
from types import SimpleNamespace


class FakeClock:
    """Monotonic seconds that pass when told to."""

    def __init__(self, at_s=1000.0):
        self.at_s = at_s

    def __call__(self):
        return self.at_s

    def pass_s(self, seconds):
        self.at_s += seconds


class FakeNvml:
    """The few NVML calls that the meter makes, on counters that tests move. On each board runs this process alone."""

    def __init__(self, counters_mj=(5_000_000,), limit_w=700.0, mig=False):
        self.counters_mj = list(counters_mj)
        self.limit_w = limit_w
        self.mig = mig
        self.pids = [[os.getpid()] for _ in self.counters_mj]
        self.used = {}  # per cent of time by pid
        self.lost = set()
        self.broken = False
        self.lists_processes = True
        self.open = 0
        self.us = 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.counters_mj)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}{handle}{handle}"

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return int(self.limit_w * 1000)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.broken or handle in self.lost:
            raise RuntimeError("GPU is lost")
        return self.counters_mj[handle]

    def nvmlDeviceGetMigMode(self, handle):
        return [int(self.mig), int(self.mig)]

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        if not self.lists_processes:
            raise RuntimeError("Not Supported")
        return [SimpleNamespace(pid=pid) for pid in self.pids[handle]]

    def nvmlDeviceGetProcessUtilization(self, handle, since_us):
        if self.used is None:
            raise RuntimeError("Not Supported")
        here = [pid for pid in self.pids[handle] if self.used.get(pid)]
        if not here:
            error = RuntimeError("Not Found")
            error.value = 6
            raise error
        self.us += 1
        return [SimpleNamespace(pid=pid, timeStamp=self.us, smUtil=self.used[pid]) for pid in here]


class FakeRapl:
    """A powercap tree in a folder: packages with memory inside, and the zones that must not be counted."""

    def __init__(self, root, packages=1, dram=True, range_uj=262_143_328_850):
        self.root = root
        self.range_uj = range_uj
        for package in range(packages):
            self.zone(f"intel-rapl:{package}", f"package-{package}", 1_000_000)
            self.zone(f"intel-rapl:{package}:0", "core", 999)
            if dram:
                self.zone(f"intel-rapl:{package}:1", "dram", 500_000)
        self.zone("intel-rapl:9", "psys", 123)
        (root / "intel-rapl").mkdir()

    def zone(self, folder, name, energy_uj):
        path = self.root / folder
        path.mkdir(parents=True)
        (path / "name").write_text(name + "\n")
        (path / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        self.set(folder, energy_uj)

    def set(self, folder, energy_uj):
        (self.root / folder / "energy_uj").write_text(f"{energy_uj}\n")

    def add(self, folder, energy_uj):
        path = self.root / folder / "energy_uj"
        path.write_text(f"{(int(path.read_text()) + energy_uj) % self.range_uj}\n")


class FakeMachine:
    """CPU seconds of works, strangers and idling on one machine; `pass_s` lets time pass at given rates."""

    def __init__(self, cpus=8, clock=None):
        self.cpus = cpus
        self.clock = clock or FakeClock()
        self.own_s = {}
        self.busy_s = self.idle_s = 0.0

    def pass_s(self, seconds, **rates):
        """Each work uses so many CPUs."""
        self.clock.pass_s(seconds)
        for name, cpus in rates.items():
            self.own_s[name] = self.own_s.get(name, 0.0) + cpus * seconds
        busy = sum(rates.values())
        self.busy_s += busy * seconds
        self.idle_s += (self.cpus - busy) * seconds

    def use(self, name, every_s=0.5):
        from windward_worker.energy import CpuUse

        return CpuUse(
            lambda: self.own_s.get(name, 0.0),
            lambda: (self.busy_s, self.idle_s),
            every_s=every_s,
            monotonic=self.clock,
        )

    def alone(self):
        """The use of a work that all of the machine's time goes to."""
        from windward_worker.energy import CpuUse

        return CpuUse(self.clock, lambda: (self.clock(), 0.0), every_s=0.0, monotonic=self.clock)


class FakeMeter:
    """0 J at first, then as a list says, one entry for each reading; an exception in it is raised."""

    def __init__(self, readings, component="cpu", max_w=1e6, method=None):
        from windward_api.contract import Method

        self.component, self.max_w = component, max_w
        self.method = method or Method.MEASURED
        self.source = "fake"
        self.resets = 0
        self.closed = 0
        self._readings = [0.0, *readings]  # none yet when it is made
        self._lock = threading.Lock()

    def read_j(self):
        with self._lock:
            value = self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]
        if isinstance(value, Exception):
            raise value
        return value

    def close(self):
        self.closed += 1
