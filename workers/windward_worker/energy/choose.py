"""Which meters to trust on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import DeviceAbsent, Meter
from windward_worker.energy.model import CpuModelMeter, DeclaredMeter
from windward_worker.energy.nvml import NvmlMeter
from windward_worker.energy.rapl import RaplMeter
from windward_worker.energy.usage import CpuUse


@dataclass(frozen=True, slots=True)
class MeterChoice:
    """The meters to sum, no component twice.

    Attributes:
        meters: what counts.
        reasons: one sentence each on what was taken or not, and why.
        uncounted: one sentence each on what draws power here and is not in the sum.
        declared_w: what stands in for a meter that does not answer; None where it counts already, or nobody declared.
    """

    meters: tuple[Meter, ...]
    reasons: tuple[str, ...]
    uncounted: tuple[str, ...] = ()
    declared_w: float | None = None


def choose_meter(
    power_w: float | None = None,
    *,
    gpu: Callable[[], Meter] = NvmlMeter,
    cpu: Callable[[], Meter] | None = None,
    dram: Callable[[], Meter] | None = None,
) -> MeterChoice:
    """Count each component that has a counter; model or estimate what is left.

    `power_w`, the declared draw of the job, is estimated where nothing at all has a counter, and beside the CPU's
    counters where an accelerator is here that none covers (`gpu` raises another MeterError than DeviceAbsent): nearly
    all of what was declared is the accelerator's then. Beside counted components it would count twice.
    """
    use: list[CpuUse] = []

    def rapl(component: str) -> Callable[[], Meter]:
        def make() -> Meter:
            if not use:
                use.append(CpuUse())
            return RaplMeter(component, use=use[0])

        return make

    meters: dict[str, Meter] = {}
    reasons: list[str] = []
    uncounted: list[str] = []
    missed: MeterError | None = None  # why an accelerator is here without a counter
    for component, make in (("gpu", gpu), ("cpu", cpu or rapl("cpu")), ("dram", dram or rapl("dram"))):
        try:
            meters[component] = make()
            reasons.append(f"{component} counted by {meters[component].source}")
        except MeterError as error:
            reasons.append(f"{component} not measured: {error}")
            if component == "gpu" and not isinstance(error, DeviceAbsent):
                missed = error
    if missed is not None and meters and power_w is not None:
        meters["gpu"] = DeclaredMeter(power_w, "gpu")
        reasons.append(f"gpu estimated as the declared {power_w:g} W while running")
        power_w = None
    elif not meters and power_w is not None:
        meters["other"] = DeclaredMeter(power_w)
        reasons.append(f"all estimated as the declared {power_w:g} W while running")
        power_w = None
    elif missed is not None:
        uncounted.append(f"gpu not counted: {missed}; declare spec.power.watts to have it estimated")
    if "cpu" not in meters and "other" not in meters:
        meters["cpu"] = CpuModelMeter()
        reasons.append("cpu modelled from the CPU time of the process tree")
    return MeterChoice(tuple(meters.values()), tuple(reasons), tuple(uncounted), power_w)
