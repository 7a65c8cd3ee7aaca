"""GPU energy from NVIDIA's own counter."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from windward_api.contract import Method
from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import CounterSum, DeviceAbsent, EnergyUnknown, boot_s
from windward_worker.energy.usage import descends

DEFAULT_LIMIT_W = 1500.0  # where the driver names no limit
NOT_FOUND = 6  # NVML_ERROR_NOT_FOUND
HOST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO: NVML tells pids of this namespace
# Device nodes that only accelerators have, in this order: AMD, Intel and Habana, AWS Neuron, TPUs, NVIDIA.
ACCELERATORS = ("dev/kfd", "dev/accel/accel[0-9]*", "dev/neuron[0-9]*", "dev/vfio/[0-9]*", "dev/nvidia[0-9]*")


def host_pids() -> bool:
    """Whether this process sees the pids of the host, so that NVML's can be looked up."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == HOST_PID_NAMESPACE
    except OSError:
        return False


def find_accelerator(root: Path = Path("/")) -> str | None:
    """A device node of an accelerator; None where there is none."""
    for pattern in ACCELERATORS:
        for vendors in sorted(root.glob(pattern)):
            return f"/{vendors.relative_to(root)}"
    return None


def _visible(nvml: Any, environ: Mapping[str, str]) -> list[Any]:
    """Handles of the GPUs that CUDA_VISIBLE_DEVICES leaves us, each once; all where it is unset. NVML ignores it.

    As CUDA does, the list ends at the first entry that names no GPU.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    requested = environ.get("CUDA_VISIBLE_DEVICES")
    if requested is None:
        return handles
    chosen: list[int] = []
    uuids = [str(nvml.nvmlDeviceGetUUID(h)) for h in handles]
    for word in (w.strip() for w in requested.split(",")):
        if word.isdigit():
            named = [int(word)] if int(word) < len(handles) else []
        else:
            named = [i for i, uuid in enumerate(uuids) if word and uuid.startswith(word)]
        if not named:
            break
        chosen += [i for i in named if i not in chosen]
    return [handles[i] for i in chosen]


class NvmlBoard:
    """`TotalEnergyConsumption` of one board (mJ since the driver was loaded, Volta and later), the part of this work.

    The counter moves every 20 to 100 ms, so differences over less than a second are coarse, and it counts the whole
    board. Where only our processes are on the board it is measured. Where others are too, each step is split by the
    utilisation that NVML tells of each process, modelled; the board's idling is nobody's. Where that is not told, or
    ours are not among those, EnergyUnknown: nothing of a shared board is claimed.
    """

    component = "gpu"

    def __init__(
        self, nvml: Any, handle: Any, is_ours: Callable[[int], bool], all_seen: bool, monotonic: Callable[[], float]
    ) -> None:
        """`all_seen`: whether pids are the host's; if not, a single process on the board is taken for ours."""
        self._nvml, self._handle = nvml, handle
        self._is_ours, self._all_seen, self._monotonic = is_ours, all_seen, monotonic
        self.method, self.source = Method.MEASURED, "nvml"
        self.idle_j = self.others_j = 0.0
        self._own_j = 0.0
        self._pids: dict[int, bool] = {}
        self._sampled_us = 0
        self._limit_w = self._power_limit_w(DEFAULT_LIMIT_W)
        self.max_w = 1.25 * self._limit_w
        if self._mig():
            raise MeterError("NVML: the board is in MIG mode, and its counter does not tell slices apart")
        self._sum: CounterSum | None = None
        self.unread: MeterError | None = None  # why the board never answered
        try:
            self._begin()
        except MeterError as error:
            self.unread = error

    def _begin(self) -> None:
        self._sum = CounterSum(self._counter_j(), self._monotonic())
        self.unread = None

    @property
    def resets(self) -> int:
        """How often the counter restarted, which loses what it had not yet shown."""
        return self._sum.resets if self._sum is not None else 0

    def _counter_j(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except Exception as error:  # NVML's errors have no common base with ImportError
            raise MeterError(f"NVML: {error}") from error

    def _power_limit_w(self, otherwise_w: float) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerManagementLimit(self._handle)) / 1000
        except Exception:  # not supported: a plausible bound stands in
            return otherwise_w

    def _mig(self) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(self._handle)[0])
        except Exception:  # boards that know no MIG
            return False

    def read_j(self) -> float:
        if self._sum is None:
            self._begin()
            raise EnergyUnknown("NVML: the board did not answer until now")
        before_w, self._limit_w = self._limit_w, self._power_limit_w(self._limit_w)
        # The board holds its limit as a mean over some hundred milliseconds; transients pass it.
        self.max_w = 1.25 * max(before_w, self._limit_w)
        # Only a restart is judged by the rate here, and twice the limit is what no board reaches.
        step_j = self._sum.add(self._counter_j(), self._monotonic(), 2 * max(before_w, self._limit_w))
        try:
            own, idle = self._shares()
        except MeterError:
            self.others_j += step_j
            raise
        self._own_j += step_j * own
        self.idle_j += step_j * idle
        self.others_j += step_j * max(0.0, 1 - own - idle)
        return self._own_j

    def _shares(self) -> tuple[float, float]:
        """Of the last step, our share and that of the idle board. Raises EnergyUnknown."""
        if self._mig():
            raise EnergyUnknown("NVML: the board is in MIG mode now", shared=True)
        present = self._present()
        if present is None:
            self.method, self.source = Method.MODELLED, "nvml, sharing unknown"
            return 1.0, 0.0
        ours = [pid for pid, own in present.items() if own]
        if len(ours) == len(present) and (ours or not self._all_seen):
            self.method, self.source = Method.MEASURED, "nvml"
            return 1.0, 0.0
        if not self._all_seen and not ours:
            if len(present) == 1:
                self.method, self.source = Method.MEASURED, "nvml"
                return 1.0, 0.0
            raise EnergyUnknown(f"NVML: {len(present)} processes share the board, and ours is unknown", shared=True)
        if not present:
            return 0.0, 1.0  # nobody is on the board, so its idling is nobody's
        self.method, self.source = Method.MODELLED, "nvml x process utilisation"
        if len(present) == 1 and self._pids:
            return 0.0, 0.0  # who is alone on a board has its idling too
        return self._utilisation(ours)

    def _present(self) -> dict[int, bool] | None:
        """Processes at either end of the step, and whether each is ours; None where NVML does not tell them."""
        try:
            pids = [int(p.pid) for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)]
        except Exception:
            return None
        before, self._pids = self._pids, {pid: self._pids.get(pid) or self._is_ours(pid) for pid in pids}
        return {**before, **self._pids}

    def _utilisation(self, ours: list[int]) -> tuple[float, float]:
        """Shares by the mean of `smUtil` (per cent of time) of each process since the last step."""
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, self._sampled_us)
        except Exception as error:
            if getattr(error, "value", None) == NOT_FOUND:  # no process did anything
                return 0.0, 1.0
            why = f"NVML: the board is shared, and the use of each process is not told: {error}"
            raise EnergyUnknown(why, shared=True) from error
        seen: dict[int, list[float]] = {}
        for sample in samples:
            self._sampled_us = max(self._sampled_us, int(sample.timeStamp))
            seen.setdefault(int(sample.pid), []).append(float(sample.smUtil))
        means = {pid: sum(values) / len(values) for pid, values in seen.items()}
        used = sum(means.values())
        whole = max(100.0, used)
        return sum(means.get(pid, 0.0) for pid in ours) / whole, 1 - used / whole

    def close(self) -> None:
        """`NvmlMeter` holds the library open."""


class NvmlMeter:
    """The visible boards, as `parts`: one that is lost takes nothing from the others."""

    component = "gpu"

    def __init__(
        self,
        nvml: Any = None,
        *,
        environ: Mapping[str, str] = os.environ,
        is_ours: Callable[[int], bool] = lambda pid: descends(pid, os.getpid()),
        all_seen: bool | None = None,
        monotonic: Callable[[], float] = boot_s,
    ) -> None:
        """Raises DeviceAbsent where there is no accelerator, MeterError where there is one that NVML cannot count.

        Args:
            is_ours: whether a process on a board is this work's.
            all_seen: whether the pids that NVML tells are those that `is_ours` knows; as the namespace says by default.
        """
        self._open = False
        for variable in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
            if "MIG-" in environ.get(variable, ""):
                raise MeterError(f"NVML: {variable} names a MIG slice, which has no energy counter of its own")
        try:
            self._nvml = nvml or importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._open = True
            handles = _visible(self._nvml, environ)
        except Exception as error:
            self.close()
            boards = find_accelerator()
            if boards is None:
                raise DeviceAbsent(f"NVML: {error}; and no accelerator is here") from error
            raise MeterError(f"NVML: {error}; yet {boards} is here") from error
        if not handles:
            self.close()
            raise DeviceAbsent("NVML: no GPU is visible")
        seen = host_pids() if all_seen is None else all_seen
        try:
            self.parts = tuple(NvmlBoard(self._nvml, h, is_ours, seen, monotonic) for h in handles)
        except MeterError:
            self.close()
            raise
        unread = [part.unread for part in self.parts]
        if all(unread) and unread[0] is not None:
            self.close()
            raise unread[0]

    @property
    def method(self) -> Method:
        """The weakest of the boards'."""
        methods = {part.method for part in self.parts}
        return Method.MEASURED if methods == {Method.MEASURED} else Method.MODELLED

    @property
    def source(self) -> str:
        return " + ".join(sorted({part.source for part in self.parts}))[:64]

    @property
    def max_w(self) -> float:
        return sum(part.max_w for part in self.parts)

    def read_j(self) -> float:
        return sum(part.read_j() for part in self.parts)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()
