"""CPU and memory energy from RAPL counters, as Linux shows them under /sys/class/powercap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from windward_api.contract import Method
from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import CounterSum, EnergyUnknown, boot_s
from windward_worker.energy.usage import CpuUse

POWERCAP = Path("/sys/class/powercap")
DEFAULT_MAX_W = {"cpu": 1000.0, "dram": 400.0}  # per zone, where the kernel names no limit


def _read_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise MeterError(f"RAPL: {path.parent.name}/{path.name}: {error}") from error


def _zones(root: Path, component: str) -> list[Path]:
    """Zones of packages or their dies (`cpu`) or of their memory (`dram`).

    Cores are inside packages, `psys` holds both, and `intel-rapl-mmio:*` shows the packages a second time: skipped.
    """
    zones = []
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
        except OSError:
            continue
        if (component == "cpu" and name.startswith("package-")) or (component == "dram" and name == "dram"):
            zones.append(zone)
    return zones


def _max_w(zone: Path, component: str) -> float:
    for name in ("constraint_0_max_power_uw", "constraint_1_power_limit_uw", "constraint_0_power_limit_uw"):
        try:
            limit_w = int((zone / name).read_text()) / 1e6
        except (OSError, ValueError):
            continue
        if limit_w > 0:
            return 2 * limit_w  # short-term turbo passes the long-term limit
    return DEFAULT_MAX_W[component]


class RaplZone:
    """`energy_uj` of one zone, the part of this work; wraps at `max_energy_range_uj`.

    The counter is the whole machine's. Each step is split by CPU time (`Usage.shares_since`), so that the parts of all
    work, `idle_j` and `others_j` add up to the counter. Between two readings of CPU time the last share stands in.
    """

    method = Method.MODELLED
    source = "rapl x cpu-time share"

    def __init__(self, zone: Path, component: str, use: CpuUse, monotonic: Callable[[], float]) -> None:
        self.component = component
        self._zone, self._cpu, self._monotonic = zone, use, monotonic
        self.max_w = self._limit_w = _max_w(zone, component)
        self.idle_j = self.others_j = 0.0
        self._own_j = self._reported_j = self._pending_j = 0.0
        self._share = 0.0
        self._usage = use.usage()
        self._sum: CounterSum | None = None
        self.unread: MeterError | None = None  # why the zone never answered
        try:
            self._begin()
        except MeterError as error:
            self.unread = error

    def _begin(self) -> None:
        reading_j = _read_int(self._zone / "energy_uj") / 1e6
        try:
            wrap_at: float | None = _read_int(self._zone / "max_energy_range_uj") / 1e6
        except MeterError:
            wrap_at = None  # a wrap then counts as a restart
        self._sum = CounterSum(reading_j, self._monotonic(), wrap_at=wrap_at or None)
        self.unread = None

    @property
    def resets(self) -> int:
        return self._sum.resets if self._sum is not None else 0

    def read_j(self) -> float:
        if self._sum is None:
            self._begin()
            raise EnergyUnknown(f"RAPL: {self._zone.name} did not answer until now")
        before_w, self._limit_w = self._limit_w, _max_w(self._zone, self.component)
        self.max_w = max(before_w, self._limit_w)
        reading_j = _read_int(self._zone / "energy_uj") / 1e6
        try:
            self._pending_j += self._sum.add(reading_j, self._monotonic(), self.max_w)
        except EnergyUnknown as gap:
            self._settle()
            why = f"RAPL: {self._zone.name}: {gap}"
            raise EnergyUnknown(why, at_least_j=gap.at_least_j * self._share) from gap
        self._settle()
        self._reported_j = max(self._reported_j, self._own_j + self._pending_j * self._share)
        return self._reported_j

    def _settle(self) -> None:
        """Split what is pending, where the CPU time was read anew."""
        usage = self._cpu.usage()
        if usage is self._usage:
            return
        self._share, idle = usage.shares_since(self._usage, self._cpu.profile)
        self._usage = usage
        self._own_j += self._pending_j * self._share
        self.idle_j += self._pending_j * idle
        self.others_j += self._pending_j * max(0.0, 1 - self._share - idle)
        self._pending_j = 0.0

    def close(self) -> None:
        """Nothing is held open."""


class RaplMeter:
    """All packages, or all memory, of the machine: this work's part by CPU time.

    AMD processors show the same tree. Since CVE-2020-8694 only root may read it.
    """

    method = RaplZone.method
    source = RaplZone.source

    def __init__(
        self,
        component: str,
        *,
        root: Path = POWERCAP,
        use: CpuUse | None = None,
        monotonic: Callable[[], float] = boot_s,
    ) -> None:
        """Raises MeterError where the tree is missing, lacks the component, or none of its zones can be read."""
        self.component = component
        self._zones = _zones(root, component)
        if not self._zones:
            raise MeterError(f"RAPL: no readable {component} zone under {root}")
        use = use or CpuUse(monotonic=monotonic)
        self.parts = tuple(RaplZone(zone, component, use, monotonic) for zone in self._zones)
        unread = [part.unread for part in self.parts]
        if all(unread) and unread[0] is not None:
            raise unread[0]

    @property
    def max_w(self) -> float:
        return sum(part.max_w for part in self.parts)

    @property
    def resets(self) -> int:
        """How often a counter restarted, which loses what it had not yet shown."""
        return sum(part.resets for part in self.parts)

    def read_j(self) -> float:
        return sum(part.read_j() for part in self.parts)

    def close(self) -> None:
        """Nothing is held open."""
