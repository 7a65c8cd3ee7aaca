"""Weights in the extension's layout, from what model files hold."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windward_kernels.cpp import checks
from windward_kernels.cpp.library import BF16, F16, F32, GROUP, PANEL, Q4, Q8, CLinear, CWeight, library

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
INT32_END = checks.INT32_END
KINDS = {F32: "float32", F16: "float16", BF16: "bfloat16", Q4: "int4", Q8: "int8"}
GROUP_BYTES = {F32: 64, F16: 32, BF16: 32, Q4: 320, Q8: 544}  # of a panel: a column, or a group of columns (layout.h)
BLOCKS = {"F32": (F32, 0), "F16": (F16, 0), "BF16": (BF16, 0), "Q4_0": (Q4, 2), "Q4_1": (Q4, 3), "Q8_0": (Q8, 8)}


def aligned(count: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[np.generic]:
    """`count` zeros that begin at a multiple of 64 bytes: a cache line, a vector."""
    size = checks.integer("count", count, 0, 1 << 62) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + size].view(dtype)


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A matrix (rows, cols), packed. `stored` is how its values are kept: float32, float16, bfloat16, int8, int4.

    `data` are whole panels, `bias` whole panels of rows. Raises ValueError, naming the argument, where they are not.
    """

    kind: int
    rows: int
    cols: int
    data: Bytes
    bias: Floats | None = None

    def __post_init__(self) -> None:
        checks.integer("kind", self.kind, 0, len(KINDS))
        checks.integer("rows", self.rows, 1, INT32_END - PANEL)
        checks.integer("cols", self.cols, 1)
        if self.kind >= Q4 and self.cols % GROUP:
            raise ValueError(f"cols is {self.cols}; {self.stored} comes in groups of {GROUP}")
        panels = -(-self.rows // PANEL)
        a_panel = self.cols // GROUP * GROUP_BYTES[self.kind] if self.kind >= Q4 else self.cols * GROUP_BYTES[self.kind]
        if checks.array("data", self.data, np.uint8, 1).size != panels * a_panel:
            raise ValueError(f"data has {self.data.size} bytes; {panels} panels of {a_panel} are {self.rows} rows")
        if self.bias is not None and checks.array("bias", self.bias, np.float32, 1).size != panels * PANEL:
            raise ValueError(f"bias has {self.bias.size} values; give {panels * PANEL}, whole panels")

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
        """One row, dequantised, (cols,). Raises ValueError."""
        index = checks.integer("index", index, 0, self.rows)
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
            rows: Floats = wide.reshape(-1, self.cols)[: self.rows]
            return rows
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
    if encoding not in BLOCKS:
        raise ValueError(f"encoding {encoding!r} is not known; give one of {', '.join(BLOCKS)}")
    kind, block = BLOCKS[encoding]
    raw = np.asarray(raw)
    rows, cols = checks.integer("rows", rows, -INT32_END, 1 << 62), checks.integer("cols", cols, -INT32_END, 1 << 62)
    width = {"F32": 4.0, "F16": 2.0, "BF16": 2.0, "Q4_0": 18 / 32, "Q4_1": 20 / 32, "Q8_0": 34 / 32}[encoding]
    if rows < 1 or cols < 1 or (kind >= Q4 and cols % GROUP) or raw.nbytes != rows * cols * width:
        raise ValueError(f"pack: {raw.nbytes} bytes of {encoding} are no matrix of {rows} x {cols}")
    checks.integer("rows", rows, 1, INT32_END - PANEL)
    checks.integer("cols", cols, 1)
    source = np.ascontiguousarray(raw).reshape(-1).view(np.uint8)
    given = None if order is None else np.asarray(order)
    if given is not None and (given.dtype.kind not in "iu" or given.shape != (rows,)):
        raise ValueError(f"pack: the order must name rows of {rows}, one for each")
    if given is not None and (given.min() < 0 or given.max() >= rows):
        raise ValueError(f"pack: the order must name rows of {rows}")
    places = None if given is None else np.ascontiguousarray(given, np.int32)
    own_bias = None
    if bias is not None:
        if checks.floats("bias", bias, 1).shape != (rows,):
            raise ValueError(f"bias has {len(bias)} values for {rows} rows; give as many")
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
    rows = checks.integer("weights: rows of all", sum(w.rows for w in weights), 1)
    struct = CLinear(len(weights), rows)
    for i, weight in enumerate(weights):
        struct.part[i] = weight.as_c()
    return struct


def linear(x: Floats, weights: Sequence[PackedWeight]) -> Floats:
    """x W^T + b, the weights' outputs side by side. x (M, cols) float32; returns (M, sum of rows) float32."""
    struct = linear_struct(weights)
    x = checks.floats("x", x, 2)
    if x.shape[1] != weights[0].cols:
        raise ValueError(f"linear: x of shape {x.shape} does not fit weights of {weights[0].cols} columns")
    checks.integer("x: rows", x.shape[0], 0, INT32_END // max(struct.rows, x.shape[1]))
    out = np.empty((x.shape[0], struct.rows), np.float32)
    library().ww_linear(ctypes.byref(struct), x.ctypes.data, x.shape[0], x.shape[1], out.ctypes.data)
    return out


def _groups(weight: Floats) -> Floats:
    """(N, 32), finite. Raises ValueError."""
    if weight.shape[-1] % GROUP:
        raise ValueError(f"weight has {weight.shape[-1]} columns; give a multiple of {GROUP}")
    return checks.finite("weight", np.ascontiguousarray(weight, np.float32).reshape(-1, GROUP))


def quantise_int8(weight: Floats) -> Bytes:
    """Blocks of Q8_0 by rounding to nearest, scale max|w| / 127 per 32 columns. (rows, cols) to bytes."""
    groups = _groups(weight)
    scale = (np.abs(groups).max(axis=1, keepdims=True) / 127).astype("<f2")  # (N, 1)
    wide = scale.astype(np.float32)
    codes = np.clip(np.rint(np.divide(groups, wide, out=np.zeros_like(groups), where=wide > 0)), -127, 127)
    blocks: Bytes = np.concatenate((scale.view(np.uint8), codes.astype(np.int8).view(np.uint8)), axis=1).reshape(-1)
    return blocks


def quantise_int4(weight: Floats) -> Bytes:
    """Blocks of Q4_1 by rounding to nearest between a group's least and greatest value. (rows, cols) to bytes."""
    groups = _groups(weight)
    low = groups.min(axis=1, keepdims=True).astype("<f2")
    scale = ((groups.max(axis=1, keepdims=True) - low.astype(np.float32)) / 15).astype("<f2")
    codes = np.zeros_like(groups)
    np.divide(groups - low.astype(np.float32), scale.astype(np.float32), out=codes, where=scale > 0)
    return blocks_int4(np.clip(np.rint(codes), 0, 15).astype(np.uint8), scale, low)


def blocks_int4(codes: Bytes, scale: npt.NDArray[np.float16], low: npt.NDArray[np.float16]) -> Bytes:
    """Blocks of Q4_1 from what any 4-bit quantiser found: w = scale * code + low, 32 columns a group.

    codes (N, 32) in 0..15; scale, low (N, 1) float16, N = rows * cols / 32. Coarser groups repeat theirs.
    """
    checks.array("codes", codes, np.uint8, 2)
    if codes.shape[1] != GROUP or (codes > 15).any():
        raise ValueError(f"codes of shape {codes.shape}; give (N, {GROUP}) in 0..15")
    if scale.shape != (len(codes), 1) or low.shape != scale.shape:
        raise ValueError(f"scale {scale.shape} and low {low.shape} must be ({len(codes)}, 1): one for each group")
    packed = codes[:, :16] | codes[:, 16:] << 4
    halves = (np.ascontiguousarray(x.astype("<f2")).view(np.uint8) for x in (scale, low))
    packed_blocks: Bytes = np.concatenate((*halves, packed), axis=1).reshape(-1)
    return packed_blocks
