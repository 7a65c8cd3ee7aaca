"""Reading safetensors with its promises checked before a byte is allocated.

Format: 8 bytes little-endian header size, a JSON header {name: {dtype, shape, data_offsets}}, then the data.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from windward_worker.control import Refused

if TYPE_CHECKING:
    from torch import Tensor

HEADER_LIMIT = 100_000_000
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class Raw:
    """A tensor's bytes, mapped from the file."""

    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]


def check_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape of each tensor. Raises Refused where header and file do not fit exactly."""
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in _layout(path).items()}


def open_safetensors(path: Path) -> dict[str, Raw]:
    """All tensors of a checked file, mapped, not copied. Raises Refused, OSError."""
    layout = _layout(path)
    whole = np.memmap(path, dtype=np.uint8, mode="r")
    return {name: Raw(dtype, shape, whole[begin:end]) for name, (dtype, shape, begin, end) in layout.items()}


def _layout(path: Path) -> dict[str, tuple[str, tuple[int, ...], int, int]]:
    """dtype, shape, and first and last byte in the file of each tensor. Raises Refused."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_LIMIT, size - 8):
            raise Refused(
                f"{path.name}: the header claims {length} bytes of a file of {size}; it is damaged; fetch it again"
            )
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise Refused(f"{path.name}: the header is no JSON: it is damaged; fetch it again") from error
    tensors: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    spans: list[tuple[int, int]] = []
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = (int(x) for x in entry["data_offsets"])
            shape = tuple(int(x) for x in entry["shape"])
            width = WIDTHS[entry["dtype"]]
            if min((*shape, 0)) < 0 or math.prod(shape) * width != end - begin or begin < 0:
                raise ValueError(f"tensor {name} has shape {shape} in {end - begin} bytes")
            tensors[name] = (entry["dtype"], shape, 8 + length + begin, 8 + length + end)
            spans.append((begin, end))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"{path.name}: bad header: {error}; the file is damaged or of another kind; fetch it again"
        ) from error
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise Refused(f"{path.name}: tensors overlap or leave a hole at byte {min(begin, place)}; fetch it again")
        place = end
    if place != size - 8 - length:
        raise Refused(
            f"{path.name}: {size} bytes, but its header describes {place + 8 + length}: it is cut; fetch it again"
        )
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checked file. Raises Refused, OSError."""
    check_header(path)
    from safetensors.torch import load_file

    return load_file(path)
