"""Settings, clocks and shares that the cases have in common."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from windward.planning.arrays import kernels
from windward.planning.arrays.instance import Instance
from windward.planning.arrays.prices import ascend

T = TypeVar("T")


class Missing(Exception):
    """Data or a peer that a case needs is not there."""


@dataclass(frozen=True)
class Settings:
    """The flags of `main.py`."""

    data: Path
    only: str
    seeds: list[int]
    runs: int
    jobs: int
    fortnights: int
    million: bool
    mip_s: float
    mip_fleets: int
    mip_cache: Path
    gaia: Path | None
    gaia_zones: str
    gaia_python: str
    curves: Path
    no_compiled: bool

    @property
    def compiled(self) -> bool:
        return not self.no_compiled and importlib.util.find_spec("numba") is not None

    def need(self, *parts: str) -> Path:
        path = self.data.joinpath(*parts)
        if not path.exists():
            raise Missing(f"no {'/'.join(parts)} in {self.data}")
        return path


def timed(runs: int, work: Callable[[], T]) -> tuple[T, float]:
    """The answer and the median seconds of this one thread: on a shared machine others' load is not counted."""
    seconds = []
    for _ in range(max(1, runs)):
        began = time.thread_time()
        answer = work()
        seconds.append(time.thread_time() - began)
    return answer, statistics.median(seconds)


def bound_of(instance: Instance, compiled: bool, iterations: int = 400) -> float:
    """Dual bound after many rounds: never above the linear relaxation."""
    return ascend(instance, kernels.pick(instance, compiled), iterations, theta=0.7).bound_g


def share(now_g: float, plan_g: float, bound_g: float) -> float:
    """Per cent of the possible saving."""
    return 100.0 * (now_g - plan_g) / (now_g - bound_g)


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures as they are told: four significant digits."""
    out = {}
    for k, v in figures.items():
        if isinstance(v, (float, np.floating)):
            out[k] = float(f"{float(v):.4g}")
        elif isinstance(v, list):
            out[k] = [float(f"{float(x):.4g}") for x in v]
        else:
            out[k] = v
    return out
