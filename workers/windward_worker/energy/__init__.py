"""Joules: meters that measure or model them, and a recorder that makes a series of them. No torch."""

from windward_worker.energy.choose import Choice, choose_meter
from windward_worker.energy.meter import Meter
from windward_worker.energy.model import CpuModelMeter, DeclaredMeter, PowerProfile
from windward_worker.energy.nvml import NvmlMeter
from windward_worker.energy.rapl import RaplMeter
from windward_worker.energy.recorder import Energy, EnergyRecorder, Window

__all__ = [
    "Choice",
    "CpuModelMeter",
    "DeclaredMeter",
    "Energy",
    "EnergyRecorder",
    "Meter",
    "NvmlMeter",
    "PowerProfile",
    "RaplMeter",
    "Window",
    "choose_meter",
]
