"""Joules: meters that measure or model them, and a recorder that makes a series of them. No torch."""

from windward_worker.energy.choose import MeterChoice, choose_meter
from windward_worker.energy.meter import DeviceAbsent, EnergyUnknown, Meter
from windward_worker.energy.model import CpuModelMeter, DeclaredMeter
from windward_worker.energy.nvml import NvmlMeter
from windward_worker.energy.rapl import RaplMeter
from windward_worker.energy.recorder import Energy, EnergyRecorder, Window
from windward_worker.energy.usage import CpuUse, PowerProfile, Usage

__all__ = [
    "CpuModelMeter",
    "CpuUse",
    "DeclaredMeter",
    "DeviceAbsent",
    "Energy",
    "EnergyRecorder",
    "EnergyUnknown",
    "Meter",
    "MeterChoice",
    "NvmlMeter",
    "PowerProfile",
    "RaplMeter",
    "Usage",
    "Window",
    "choose_meter",
]
