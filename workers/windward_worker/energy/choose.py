"""Which meters to trust on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import Meter
from windward_worker.energy.model import CpuModelMeter, DeclaredMeter
from windward_worker.energy.nvml import NvmlMeter
from windward_worker.energy.rapl import RaplMeter


@dataclass(frozen=True, slots=True)
class Choice:
    """The meters to sum, no component twice, and one sentence each on what was taken or not, and why."""

    meters: tuple[Meter, ...]
    reasons: tuple[str, ...]


def choose_meter(
    power_w: float | None = None,
    *,
    gpu: Callable[[], Meter] = NvmlMeter,
    cpu: Callable[[], Meter] = lambda: RaplMeter("cpu"),
    dram: Callable[[], Meter] = lambda: RaplMeter("dram"),
) -> Choice:
    """Measure each component that can be measured; model what is left.

    `power_w`, the declared draw of the whole job, stands in where nothing at all is measured. Beside a measured
    component it would count that twice, so there the CPU is modelled from its time instead.
    """
    meters: list[Meter] = []
    reasons: list[str] = []
    for component, make in (("gpu", gpu), ("cpu", cpu), ("dram", dram)):
        try:
            meter = make()
        except MeterError as error:
            reasons.append(f"{component} not measured: {error}")
        else:
            meters.append(meter)
            reasons.append(f"{component} measured by {meter.source}")
    if not meters and power_w is not None:
        meters.append(DeclaredMeter(power_w))
        reasons.append(f"all modelled as the declared {power_w:g} W while running")
    elif not any(m.component == "cpu" for m in meters):
        meters.append(CpuModelMeter())
        reasons.append("cpu modelled from the CPU time of the process tree")
    return Choice(tuple(meters), tuple(reasons))
