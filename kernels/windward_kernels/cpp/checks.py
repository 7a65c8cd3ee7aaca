"""What crosses the C boundary is checked here, once: types, memory layout and ranges. A wrong pointer kills a process.

Each function returns what it was given, or raises ValueError with the argument's name.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

INT32_END = 1 << 31


def integer(name: str, value: Any, low: int, end: int = INT32_END) -> int:
    """An integer in [low, end): what a C int32 holds where `end` says no less."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; give an integer") from None
    if not low <= number < end:
        raise ValueError(f"{name} is {number}; give {low} to {end - 1}")
    return number


def number(name: str, value: float) -> float:
    """A finite number that a C float holds."""
    finite = float(value)
    if not abs(finite) <= float(np.finfo(np.float32).max):
        raise ValueError(f"{name} is {finite}; give a finite number")
    return finite


def array(name: str, value: Any, dtype: npt.DTypeLike, dimensions: int) -> Any:
    """A numpy array of this very type, in C order, whose memory may be handed on as it is."""
    expected = np.dtype(dtype)
    if not isinstance(value, np.ndarray) or value.dtype != expected or value.ndim != dimensions:
        kind = f"{value.dtype} of {value.ndim} dimensions" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} is {kind}; give an array of {expected} with {dimensions}")
    if not value.flags.c_contiguous or not value.flags.aligned:
        raise ValueError(f"{name} does not lie in memory row by row; give np.ascontiguousarray({name})")
    return value


def floats(name: str, value: Any, dimensions: int) -> npt.NDArray[np.float32]:
    """As float32 in C order, converted where it is another array of real numbers."""
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "fiub" or numbers.ndim != dimensions:
        raise ValueError(f"{name} is {numbers.dtype} of {numbers.ndim} dimensions; give numbers with {dimensions}")
    return np.ascontiguousarray(numbers, np.float32)


def finite(name: str, value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """No NaN, no infinity: what rounding to integers needs."""
    if not np.isfinite(value).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return value


def inside(name: str, value: npt.NDArray[Any], end: int) -> None:
    """All in [0, end)."""
    if value.size and (int(value.min()) < 0 or int(value.max()) >= end):
        raise ValueError(f"{name} has values from {value.min()} to {value.max()}; they must lie in 0 to {end - 1}")
