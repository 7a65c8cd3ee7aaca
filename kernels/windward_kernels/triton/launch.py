"""What every launch must settle: tile sizes, and how inputs are multiplied."""

from __future__ import annotations

import os

import torch
import triton
from torch import Tensor

from windward_kernels.registry import ENV_INTERPRET

INTERPRETED = os.environ.get(ENV_INTERPRET) == "1"
LEAST = 16  # the smallest side that a matrix unit multiplies


def tile(size: int) -> int:
    """The power of two that covers `size`, at least 16."""
    return max(LEAST, int(triton.next_power_of_2(size)))


def upcast(x: Tensor) -> bool:
    """Whether tiles must be widened before a product: the interpreter multiplies the bits of bfloat16 as integers."""
    return INTERPRETED and x.dtype == torch.bfloat16


def precision(x: Tensor) -> str:
    """float32 is multiplied as float32: the matrix unit's own 19-bit format would miss the tolerance."""
    return "ieee" if x.dtype == torch.float32 or INTERPRETED else "tf32"
