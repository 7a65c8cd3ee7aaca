"""CPU and memory energy from RAPL counters, as Linux shows them under /sys/class/powercap."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from windward_api.contract import Method
from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import CounterSum

POWERCAP = Path("/sys/class/powercap")
DEFAULT_MAX_W = {"cpu": 1000.0, "dram": 400.0}  # per zone, where the kernel names no limit


def _read_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise MeterError(f"RAPL: {path}: {error}") from error


def _zones(root: Path, component: str) -> list[Path]:
    """Zones of packages (`cpu`) or of their memory (`dram`). Cores are inside packages; `psys` holds both: skipped."""
    found = []
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
        except OSError:
            continue
        if (component == "cpu" and name.startswith("package-")) or (component == "dram" and name == "dram"):
            found.append(zone)
    return found


def _max_w(zone: Path, component: str) -> float:
    for name in ("constraint_0_max_power_uw", "constraint_1_power_limit_uw", "constraint_0_power_limit_uw"):
        try:
            limit_w = int((zone / name).read_text()) / 1e6
        except (OSError, ValueError):
            continue
        if limit_w > 0:
            return 2 * limit_w  # short-term turbo passes the long-term limit
    return DEFAULT_MAX_W[component]


class RaplMeter:
    """`energy_uj` of all packages, or of all memory; wraps at `max_energy_range_uj`.

    AMD processors show the same tree. Since CVE-2020-8694 only root may read it. It counts whole packages: on a node
    that is shared, the energy of the neighbours is in it.
    """

    method = Method.MEASURED
    source = "rapl"

    def __init__(
        self, component: str, *, root: Path = POWERCAP, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises MeterError where the tree is missing, unreadable or lacks the component."""
        self.component = component
        self._monotonic = monotonic
        self._zones = _zones(root, component)
        if not self._zones:
            raise MeterError(f"RAPL: no readable {component} zone under {root}")
        at_s = monotonic()
        limits_w = [_max_w(zone, component) for zone in self._zones]
        self.max_w = sum(limits_w)
        self._sums = [
            CounterSum(
                _read_int(zone / "energy_uj"),
                at_s,
                max_rate=limit * 1e6,
                wrap_at=_read_int(zone / "max_energy_range_uj"),
            )
            for zone, limit in zip(self._zones, limits_w, strict=True)
        ]

    @property
    def resets(self) -> int:
        """How often a counter restarted, which loses what it had not yet shown."""
        return sum(s.resets for s in self._sums)

    def read_j(self) -> float:
        readings = [_read_int(zone / "energy_uj") for zone in self._zones]
        at_s = self._monotonic()
        return sum(s.add(uj, at_s) for s, uj in zip(self._sums, readings, strict=True)) / 1e6

    def close(self) -> None:
        """Nothing is held open."""
