"""GPU energy from NVIDIA's own counter."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from windward_api.contract import Method
from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import CounterSum


def _visible(nvml: Any, environ: Mapping[str, str]) -> list[Any]:
    """Handles of the GPUs that CUDA_VISIBLE_DEVICES leaves us; all where it is unset. NVML itself ignores it."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    asked = environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return handles
    chosen = []
    for word in asked.split(","):
        word = word.strip()
        if word.isdigit() and int(word) < len(handles):
            chosen.append(handles[int(word)])
        elif word:
            chosen += [h for h in handles if str(nvml.nvmlDeviceGetUUID(h)).startswith(word)]
    return chosen


class NvmlMeter:
    """`TotalEnergyConsumption` (mJ since the driver was loaded, Volta and later), summed over the visible GPUs.

    The counter moves every 20 to 100 ms, so differences over less than a second are coarse. It counts the whole
    board: where several pods share a GPU, each would report all of it.
    """

    component = "gpu"
    method = Method.MEASURED
    source = "nvml"

    def __init__(
        self,
        nvml: Any = None,
        *,
        environ: Mapping[str, str] = os.environ,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises MeterError where there is no driver, no visible GPU or no such counter."""
        self._monotonic = monotonic
        self._open = False
        try:
            self._nvml = nvml or importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._open = True
            self._handles = _visible(self._nvml, environ)
            limits_w = [self._nvml.nvmlDeviceGetPowerManagementLimit(h) / 1000 for h in self._handles]
            readings = [float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(h)) for h in self._handles]
        except Exception as error:  # NVML's errors have no common base with ImportError
            self.close()
            raise MeterError(f"NVML: {error}") from error
        if not self._handles:
            self.close()
            raise MeterError("NVML: no GPU is visible")
        self.max_w = sum(limits_w)
        at_s = monotonic()
        # Transients pass the power limit for milliseconds; twice the limit is what no board reaches.
        self._sums = [CounterSum(mj, at_s, max_rate=2000 * limit) for mj, limit in zip(readings, limits_w, strict=True)]

    def read_j(self) -> float:
        try:
            readings = [float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(h)) for h in self._handles]
        except Exception as error:
            raise MeterError(f"NVML: {error}") from error
        at_s = self._monotonic()
        return sum(s.add(mj, at_s) for s, mj in zip(self._sums, readings, strict=True)) / 1000

    def close(self) -> None:
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()
