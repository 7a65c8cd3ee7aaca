"""CPU time: of a process tree, of the machine, and the tree's share in the machine's energy. Linux' /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import boot_s

PROC = Path("/proc")


def ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class PowerProfile:
    """Draw of one logical CPU of a server, idle and busy, its share of the whole server included.

    The defaults are the averages that Cloud Carbon Footprint's methodology (appendix I) gives for AWS' fleet; single
    processors differ by a factor of two either way.
    """

    idle_w: float = 0.74
    busy_w: float = 3.5


@dataclass(frozen=True, slots=True)
class _Process:
    """Fields 4, 22, 14 + 15 and 16 + 17 of proc_pid_stat(5); times in ticks."""

    parent: str
    started: str  # tells a reused pid
    own: float
    reaped: int  # of children that it waited for, their own reaped ones included


def _process(pid: str, proc: Path) -> _Process | None:
    try:
        fields = (proc / pid / "stat").read_text().rpartition(")")[2].split()
        times = [int(fields[i]) for i in range(11, 15)]
        return _Process(fields[1], fields[19], times[0] + times[1], times[2] + times[3])
    except (OSError, ValueError, IndexError):
        return None


def descends(pid: int, root: int, proc: Path = PROC) -> bool:
    """Whether a process is `root` or descends from it."""
    at: str | None = str(pid)
    for _ in range(256):  # /proc is read step by step: a chain that changes meanwhile must not hold us
        if at is None or at == str(root):
            return at is not None
        process = _process(at, proc)
        at = process.parent if process is not None else None
    return False


class TreeCpu:
    """CPU seconds of a process and of all that ever descended from it; never falls.

    A process that was once in the tree is followed until it ends, also when its parent ended before it. The time of one
    that ended counts when its parent has waited for it, less what was counted while it ran. All of /proc is searched
    for new descendants at most once in `search_s`: what a new one has used is counted then, or as its parent's reaped
    time. Not seen: what a process used after the last look, where nobody in the tree waits for it.
    Without /proc: `os.times`, which knows this process and its reaped children.
    """

    def __init__(
        self, root: int, proc: Path = PROC, *, search_s: float = 1.0, monotonic: Callable[[], float] = boot_s
    ) -> None:
        self._root, self._proc, self._search_s, self._monotonic = str(root), proc, search_s, monotonic
        self._known: dict[str, _Process] = {}
        self._owed: dict[str, float] = {}
        self._searched_s = -search_s
        self._ticks = 0.0

    def __call__(self) -> float:
        now = self._look()
        if not now and not self._known:
            times = os.times()
            return times.user + times.system + times.children_user + times.children_system
        if self._proc == PROC and self._root == str(os.getpid()) and self._root in now:  # /proc tells whole ticks only
            now[self._root] = replace(now[self._root], own=time.process_time() * ticks_per_s())
        self._ticks += self._new(now)
        self._known = now
        return self._ticks / ticks_per_s()

    def _look(self) -> dict[str, _Process]:
        followed = {}
        for pid, before in self._known.items():
            process = _process(pid, self._proc)
            if process is not None and process.started == before.started:
                followed[pid] = process
        complete = len(followed) == len(self._known) > 0
        if complete and self._monotonic() - self._searched_s < self._search_s:
            return followed
        self._searched_s = self._monotonic()
        return self._search(followed)

    def _search(self, followed: Mapping[str, _Process]) -> dict[str, _Process]:
        alive = {p.name: s for p in self._proc.glob("[0-9]*") if (s := _process(p.name, self._proc)) is not None}
        children: dict[str, list[str]] = {}
        for pid, process in alive.items():
            children.setdefault(process.parent, []).append(pid)
        processes: dict[str, _Process] = {}
        waiting = [pid for pid in (self._root, *followed) if pid in alive]
        while waiting:
            pid = waiting.pop()
            if pid not in processes:
                processes[pid] = alive[pid]
                waiting += children.get(pid, [])
        return processes

    def _new(self, now: Mapping[str, _Process]) -> float:
        """Ticks since the last look. A parent's reaped time first pays what was counted of the children that ended."""
        known = {pid: p for pid, p in self._known.items() if pid in now and now[pid].started == p.started}
        for pid, ended in self._known.items():
            if pid not in known:
                heir = ended.parent
                while heir in self._known and heir not in known:
                    heir = self._known[heir].parent
                self._owed[heir] = self._owed.get(heir, 0) + ended.own + ended.reaped
        self._owed = {pid: ticks for pid, ticks in self._owed.items() if pid in known}
        ticks = 0.0
        for pid, process in now.items():
            before = known.get(pid)
            reaped = process.reaped - (before.reaped if before is not None else 0)
            paid = min(reaped, self._owed.get(pid, 0))
            if paid:
                self._owed[pid] -= paid
            ticks += process.own - (before.own if before is not None else 0) + reaped - paid
        return ticks


def tree_cpu_s(root: int, proc: Path = PROC) -> float:
    """CPU seconds of a process and all that descend from it now, reaped children included."""
    return TreeCpu(root, proc)()


def machine_cpu_s(proc: Path = PROC) -> tuple[float, float]:
    """Seconds that all CPUs of the machine were busy, and idle, since it started: first line of proc_stat(5).

    Raises MeterError where it cannot be read.
    """
    try:
        with (proc / "stat").open() as lines:
            user, nice, system, idle, iowait, irq, softirq = (int(word) for word in lines.readline().split()[1:8])
    except (OSError, ValueError) as error:
        raise MeterError(f"CPU time of the machine: {error}") from error
    return (user + nice + system + irq + softirq) / ticks_per_s(), (idle + iowait) / ticks_per_s()


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far: of this work, of the whole machine, and of its CPUs' idling."""

    own_s: float
    busy_s: float
    idle_s: float

    def shares_since(self, before: Usage, profile: PowerProfile) -> tuple[float, float]:
        """This work's share and the idle share of what the machine drew since `before`; both and the rest make 1.

        A busy CPU-second weighs `busy_w`, an idle one `idle_w`.
        """
        own_s = max(0.0, self.own_s - before.own_s)
        busy_s = max(own_s, self.busy_s - before.busy_s)  # ticks of a process and of the machine round apart
        idle = max(0.0, self.idle_s - before.idle_s) * profile.idle_w
        whole = busy_s * profile.busy_w + idle
        return (own_s * profile.busy_w / whole, idle / whole) if whole > 0 else (0.0, 1.0)


class CpuUse:
    """Usage of this process' tree and of its machine, read at most once in `every_s`: ticks are too coarse for more."""

    def __init__(
        self,
        own_s: Callable[[], float] | None = None,
        machine_s: Callable[[], tuple[float, float]] = machine_cpu_s,
        *,
        profile: PowerProfile | None = None,
        every_s: float = 0.5,
        monotonic: Callable[[], float] = boot_s,
    ) -> None:
        self.profile = profile or PowerProfile()
        self._own_s = own_s or TreeCpu(os.getpid())
        self._machine_s = machine_s
        self._every_s = every_s
        self._monotonic = monotonic
        self._last: Usage | None = None
        self._last_s = 0.0

    def usage(self) -> Usage:
        """The same object until it is read anew. Raises MeterError."""
        if self._last is None or self._monotonic() - self._last_s >= self._every_s:
            self._last = Usage(self._own_s(), *self._machine_s())
            self._last_s = self._monotonic()
        return self._last
