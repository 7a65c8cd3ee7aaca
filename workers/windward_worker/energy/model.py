"""Energy where nothing can be measured: CPU time or declared watts, times a power profile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from windward_api.contract import Method


@dataclass(frozen=True, slots=True)
class PowerProfile:
    """Draw of one logical CPU of a server, idle and busy, its share of the whole server included.

    The defaults are the averages that Cloud Carbon Footprint's methodology (appendix I) gives for AWS' fleet; single
    processors differ by a factor of two either way.
    """

    idle_w: float = 0.74
    busy_w: float = 3.5


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


def _stat(pid: str, proc: Path) -> tuple[str, float] | None:
    """Parent, and CPU ticks of a process with its reaped children: fields 4 and 14 to 17 of proc_pid_stat(5)."""
    try:
        fields = (proc / pid / "stat").read_text().rpartition(")")[2].split()
        return fields[1], float(sum(int(fields[i]) for i in range(11, 15)))
    except (OSError, ValueError, IndexError):
        return None


def _tree(root: int, proc: Path) -> dict[str, float]:
    """CPU ticks of a process and of each that descends from it; empty without /proc."""
    stats = {p.name: s for p in proc.glob("[0-9]*") if (s := _stat(p.name, proc)) is not None}
    children: dict[str, list[str]] = {}
    for pid, (parent, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    found: dict[str, float] = {}
    waiting = [str(root)] if str(root) in stats else []
    while waiting:
        pid = waiting.pop()
        found[pid] = stats[pid][1]
        waiting += children.get(pid, [])
    return found


def tree_cpu_s(root: int, proc: Path = Path("/proc")) -> float:
    """CPU seconds of a process and all that descend from it, reaped children included.

    May fall when an orphan of the tree ends, whose time nobody inherits; callers keep the highest value.
    Without /proc: `os.times`, which knows this process and its reaped children.
    """
    return _seconds(_tree(root, proc))


def _seconds(ticks: dict[str, float]) -> float:
    if not ticks:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    return sum(ticks.values()) / os.sysconf("SC_CLK_TCK")


class TreeCpu:
    """`tree_cpu_s`, read often: all of /proc is searched for new descendants at most once in `search_s`.

    A reading in between sees those that are known. What a new one has used until the next search is counted then, or as
    its parent's reaped time.
    """

    def __init__(
        self,
        root: int,
        proc: Path = Path("/proc"),
        *,
        search_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._proc, self._search_s, self._monotonic = root, proc, search_s, monotonic
        self._known: list[str] = []
        self._searched_s = -search_s

    def __call__(self) -> float:
        stats = {pid: _stat(pid, self._proc) for pid in self._known}
        ticks = {pid: s[1] for pid, s in stats.items() if s is not None}
        if len(ticks) < len(stats) or not ticks or self._monotonic() - self._searched_s >= self._search_s:
            ticks = _tree(self._root, self._proc)
            self._known, self._searched_s = list(ticks), self._monotonic()
        return _seconds(ticks)


class CpuModelMeter:
    """CPU seconds of this process' tree times a profile.

    P = n idle + u (busy - idle), with n the CPUs that we may use and u those that we keep busy: the idle share of what
    is set aside for us is ours too.
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._profile = profile or PowerProfile()
        self._cpus = usable_cpus() if cpus is None else cpus
        self._cpu_s = cpu_s or TreeCpu(os.getpid())
        self._monotonic = monotonic
        self.max_w = self._cpus * self._profile.busy_w
        self._start_s = monotonic()
        self._first_cpu_s = self._cpu_s()
        self._busy_s = 0.0

    def read_j(self) -> float:
        self._busy_s = max(self._busy_s, self._cpu_s() - self._first_cpu_s)
        wall_s = self._monotonic() - self._start_s
        idle_j = self._cpus * self._profile.idle_w * wall_s
        return idle_j + self._busy_s * (self._profile.busy_w - self._profile.idle_w)

    def close(self) -> None:
        """Nothing is held open."""


class DeclaredMeter:
    """Declared watts times the time that the work runs: for a draw that the user knows and nothing here can see."""

    component = "other"
    method = Method.MODELLED
    source = "model:declared"

    def __init__(self, watts: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.max_w = watts
        self._monotonic = monotonic
        self._start_s = monotonic()

    def read_j(self) -> float:
        return self.max_w * (self._monotonic() - self._start_s)

    def close(self) -> None:
        """Nothing is held open."""
