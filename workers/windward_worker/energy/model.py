"""Energy where no counter answers: CPU time times a power profile, or declared watts times time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from windward_api.contract import Method
from windward_worker.energy.meter import boot_s
from windward_worker.energy.usage import PowerProfile, TreeCpu

DECLARED = "declared watts x time"


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Logical CPUs that this process may use: its affinity, or the quota of its cgroup (v2) where that is less."""
    try:
        cpus = float(len(os.sched_getaffinity(0)))
    except AttributeError:
        cpus = float(os.cpu_count() or 1)
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        if quota != "max":
            cpus = min(cpus, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return cpus


class CpuModelMeter:
    """CPU seconds of this process' tree times the draw of a busy CPU.

    What idle CPUs draw belongs to no run: a limit or an affinity reserves nothing, so several runs would each count the
    idle draw of the same node.
    """

    component = "cpu"
    method = Method.MODELLED
    source = "model:cpu-time"

    def __init__(
        self,
        profile: PowerProfile | None = None,
        *,
        cpus: float | None = None,
        cpu_s: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = boot_s,
    ) -> None:
        """`cpus` are those that the work may use: they bound its draw."""
        self._busy_w = (profile or PowerProfile()).busy_w
        self._cpu_s = cpu_s or TreeCpu(os.getpid(), monotonic=monotonic)
        self.max_w = (usable_cpus() if cpus is None else cpus) * self._busy_w
        self._last_s = self._cpu_s()
        self._used_s = 0.0

    def read_j(self) -> float:
        cpu_s = self._cpu_s()
        self._used_s += max(0.0, cpu_s - self._last_s)  # a fall is time of a process that left, counted before
        self._last_s = cpu_s
        return self._used_s * self._busy_w

    def close(self) -> None:
        """Nothing is held open."""


class DeclaredMeter:
    """Declared watts times the time that the work runs: for a draw that the user knows and nothing here can see."""

    method = Method.ESTIMATED
    source = DECLARED

    def __init__(self, watts: float, component: str = "other", *, monotonic: Callable[[], float] = boot_s) -> None:
        self.component = component
        self.max_w = watts
        self._monotonic = monotonic
        self._start_s = monotonic()

    def read_j(self) -> float:
        return self.max_w * (self._monotonic() - self._start_s)

    def close(self) -> None:
        """Nothing is held open."""
