"""Weights in the extension's layout, from what model files hold."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windward_kernels.cpp.library import BF16, F16, F32, GROUP, PANEL, Q4, Q8, CLinear, CWeight, library

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
KINDS = {F32: "float32", F16: "float16", BF16: "bfloat16", Q4: "int4", Q8: "int8"}
BLOCKS = {"F32": (F32, 0), "F16": (F16, 0), "BF16": (BF16, 0), "Q4_0": (Q4, 2), "Q4_1": (Q4, 3), "Q8_0": (Q8, 8)}


def aligned(count: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[np.generic]:
    """`count` zeros that begin at a multiple of 64 bytes: a cache line, a vector."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + size].view(dtype)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A matrix (rows, cols), packed. `stored` is how its values are kept: float32, float16, bfloat16, int8, int4."""

    kind: int
    rows: int
    cols: int
    data: Bytes
    bias: Floats | None = None

    @property
    def stored(self) -> str:
        return KINDS[self.kind]

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + (self.bias.nbytes if self.bias is not None else 0)

    def as_c(self) -> CWeight:
        """Points into this object: keep it as long as the result."""
        bias = self.bias.ctypes.data if self.bias is not None else None
        return CWeight(self.kind, self.rows, self.cols, 0, self.data.ctypes.data, bias)

    def row(self, index: int) -> Floats:
        """One row, dequantised, (cols,). Raises IndexError."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of {self.rows}")
        out = np.empty(self.cols, np.float32)
        library().ww_row(ctypes.byref(self.as_c()), index, out.ctypes.data)
        return out

    def dense(self) -> Floats:
        """All rows, dequantised, (rows, cols): the layout's definition, in numpy."""
        panels = -(-self.rows // PANEL)
        if self.kind < Q4:
            raw = self.data.view({F32: np.float32, F16: np.float16, BF16: np.uint16}[self.kind])
            values = raw.reshape(panels, self.cols, PANEL).transpose(0, 2, 1)  # (panels, 16, cols)
            wide = (values.astype(np.uint32) << 16).view(np.float32) if self.kind == BF16 else values.astype(np.float32)
            made: Floats = wide.reshape(-1, self.cols)[: self.rows]
            return made
        groups = self.cols // GROUP
        raw = self.data.reshape(panels, groups, -1)
        if self.kind == Q4:
            pairs = raw[..., :256].reshape(panels, groups, 8, 8, 4)  # (.., columns / 4, rows, 4)
            codes = np.concatenate((pairs & 15, pairs >> 4), axis=3).astype(np.float32)  # (.., 8, 16, 4)
            halves = np.ascontiguousarray(raw[..., 256:]).view(np.float16).astype(np.float32)
            scale, low = halves[..., :PANEL], halves[..., PANEL:]  # (panels, groups, 16)
        else:
            codes = raw[..., :512].reshape(panels, groups, 8, PANEL, 4).view(np.int8).astype(np.float32)
            scale = np.ascontiguousarray(raw[..., 512:]).view(np.float16).astype(np.float32)
            low = np.zeros_like(scale)
        values = codes.transpose(0, 3, 1, 2, 4).reshape(panels, PANEL, groups, GROUP)
        wide = values * scale.transpose(0, 2, 1)[..., None] + low.transpose(0, 2, 1)[..., None]
        dense: Floats = wide.reshape(-1, self.cols)[: self.rows]
        return dense


def pack(
    encoding: str,
    raw: npt.NDArray[np.generic],
    rows: int,
    cols: int,
    *,
    order: Sequence[int] | npt.NDArray[np.int32] | None = None,
    bias: Floats | None = None,
) -> PackedWeight:
    """Pack `raw`, the row-major bytes of an encoding (F32, F16, BF16, or GGUF's Q4_0, Q4_1, Q8_0).

    `order` (rows,) names the source row of each row; `bias` is in the new order. Raises ValueError where the sizes do
    not fit, Unavailable without the extension.
    """
    kind, block = BLOCKS[encoding]
    source = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
    width = {"F32": 4.0, "F16": 2.0, "BF16": 2.0, "Q4_0": 18 / 32, "Q4_1": 20 / 32, "Q8_0": 34 / 32}[encoding]
    if rows < 1 or cols < 1 or (kind >= Q4 and cols % GROUP) or source.size != rows * cols * width:
        raise ValueError(f"pack: {source.size} bytes of {encoding} are no matrix of {rows} x {cols}")
    places = None if order is None else np.ascontiguousarray(order, np.int32)
    if places is not None and (places.shape != (rows,) or places.min() < 0 or places.max() >= rows):
        raise ValueError(f"pack: the order must name rows of {rows}")
    own_bias = None
    if bias is not None:
        own_bias = aligned(-(-rows // PANEL) * PANEL, np.float32).view(np.float32)
        own_bias[:rows] = bias
    data = aligned(library().ww_packed_bytes(kind, rows, cols)).view(np.uint8)
    into, at = data.ctypes.data, None if places is None else places.ctypes.data
    if library().ww_pack(kind, block, rows, cols, source.ctypes.data, at, into):
        raise ValueError("pack: a Q4_0 scale lies outside the range that int4 with minimum can hold")
    return PackedWeight(kind, rows, cols, data, own_bias)


def linear_struct(weights: Sequence[PackedWeight]) -> CLinear:
    """One to three weights on the same input. Raises ValueError where their inputs differ."""
    if not 1 <= len(weights) <= 3 or len({w.cols for w in weights}) != 1:
        raise ValueError("a linear layer takes one to three weights with the same number of columns")
    made = CLinear(len(weights), sum(w.rows for w in weights))
    for i, weight in enumerate(weights):
        made.part[i] = weight.as_c()
    return made


def linear(x: Floats, weights: Sequence[PackedWeight]) -> Floats:
    """x W^T + b, the weights' outputs side by side. x (M, cols) float32; returns (M, sum of rows) float32."""
    x = np.ascontiguousarray(x, np.float32)
    if x.ndim != 2 or x.shape[1] != weights[0].cols:
        raise ValueError(f"linear: x of shape {x.shape} does not fit weights of {weights[0].cols} columns")
    made = linear_struct(weights)
    out = np.empty((x.shape[0], made.rows), np.float32)
    library().ww_linear(ctypes.byref(made), x.ctypes.data, x.shape[0], x.shape[1], out.ctypes.data)
    return out


def quantise_int8(weight: Floats) -> Bytes:
    """Blocks of Q8_0 by rounding to nearest, scale max|w| / 127 per 32 columns. (rows, cols) to bytes."""
    groups = np.ascontiguousarray(weight, np.float32).reshape(-1, GROUP)
    scale = (np.abs(groups).max(axis=1, keepdims=True) / 127).astype("<f2")  # (N, 1)
    wide = scale.astype(np.float32)
    codes = np.clip(np.rint(np.divide(groups, wide, out=np.zeros_like(groups), where=wide > 0)), -127, 127)
    made: Bytes = np.concatenate((scale.view(np.uint8), codes.astype(np.int8).view(np.uint8)), axis=1).reshape(-1)
    return made


def quantise_int4(weight: Floats) -> Bytes:
    """Blocks of Q4_1 by rounding to nearest between a group's least and greatest value. (rows, cols) to bytes."""
    groups = np.ascontiguousarray(weight, np.float32).reshape(-1, GROUP)
    low = groups.min(axis=1, keepdims=True).astype("<f2")
    scale = ((groups.max(axis=1, keepdims=True) - low.astype(np.float32)) / 15).astype("<f2")
    codes = np.zeros_like(groups)
    np.divide(groups - low.astype(np.float32), scale.astype(np.float32), out=codes, where=scale > 0)
    return blocks_int4(np.clip(np.rint(codes), 0, 15).astype(np.uint8), scale, low)


def blocks_int4(codes: Bytes, scale: npt.NDArray[np.float16], low: npt.NDArray[np.float16]) -> Bytes:
    """Blocks of Q4_1 from what any 4-bit quantiser found: w = scale * code + low, 32 columns a group.

    codes (N, 32) in 0..15; scale, low (N, 1) float16, N = rows * cols / 32. Coarser groups repeat theirs.
    """
    packed = codes[:, :16] | codes[:, 16:] << 4
    halves = (np.ascontiguousarray(x.astype("<f2")).view(np.uint8) for x in (scale, low))
    made: Bytes = np.concatenate((*halves, packed), axis=1).reshape(-1)
    return made
