"""Fakes of sensors and of time. FAKE: nothing here measures anything."""

import threading


class FakeClock:
    """Monotonic seconds that pass when told to."""

    def __init__(self, at_s=1000.0):
        self.at_s = at_s

    def __call__(self):
        return self.at_s

    def pass_s(self, seconds):
        self.at_s += seconds


class FakeNvml:
    """The few NVML calls that the meter makes, on counters that `draw` moves."""

    def __init__(self, counters_mj=(5_000_000,), limit_w=700.0, count=None):
        self.counters_mj = list(counters_mj)
        self.limit_w = limit_w
        self.broken = False
        self.open = 0

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
        if self.broken:
            raise RuntimeError("GPU is lost")
        return self.counters_mj[handle]


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


class FakeMeter:
    """Joules as a list says, one entry for each reading; an exception in it is raised."""

    def __init__(self, readings, component="cpu", max_w=1e6, method=None):
        from windward_api.contract import Method

        self.component, self.max_w = component, max_w
        self.method = method or Method.MEASURED
        self.source = "fake"
        self.closed = 0
        self._readings = list(readings)
        self._lock = threading.Lock()

    def read_j(self):
        with self._lock:
            value = self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]
        if isinstance(value, Exception):
            raise value
        return value

    def close(self):
        self.closed += 1
