"""What every launch must settle: tile sizes, and how inputs are multiplied."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from windward_kernels.registry import ENV_INTERPRET

INTERPRETED = os.environ.get(ENV_INTERPRET) == "1"
LEAST = 16  # the smallest side that a matrix unit multiplies
TUNED = Path(__file__).parent / "tuned.json"  # what `python -m windward_kernels.triton` found, by GPU; committed


def tile(size: int) -> int:
    """The power of two that covers `size`, at least 16."""
    return max(LEAST, int(triton.next_power_of_2(size)))


@functools.cache
def gpu() -> str:
    """The name of the GPU that launches go to; empty without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


@functools.cache
def table() -> Mapping[str, Any]:
    """GPU -> kernel -> size -> launch options (tiles, num_warps, num_stages)."""
    by_gpu: dict[str, Any] = json.loads(TUNED.read_text())["gpus"]
    return by_gpu


_trial: dict[str, dict[str, int]] = {}  # kernel -> options under trial: tune.py sets them


def tuned(kernel: str, size: int, otherwise: dict[str, int]) -> dict[str, int]:
    """Launch options of a kernel at this size (head size, or columns): under trial, as tuned here, or `otherwise`.

    A table's options replace those of the same name and may add num_warps and num_stages.
    """
    if kernel in _trial:
        return {**otherwise, **_trial[kernel]}
    return {**otherwise, **table().get(gpu(), {}).get(kernel, {}).get(str(size), {})}


def upcast(x: Tensor) -> bool:
    """Whether tiles must be widened before a product: the interpreter multiplies the bits of bfloat16 as integers."""
    return INTERPRETED and x.dtype == torch.bfloat16


def precision(x: Tensor) -> str:
    """float32 is multiplied as float32: the matrix unit's own 19-bit format would miss the tolerance."""
    return "ieee" if x.dtype == torch.float32 or INTERPRETED else "tf32"
