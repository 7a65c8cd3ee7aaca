"""The paged KV cache as the extension keeps it, and the steps over it. numpy alone."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from windward_kernels.cpp.library import KV_F16, KV_F32, KV_GROUP, KV_INT4, KV_INT8, PAGE, CKv, CStep, library
from windward_kernels.cpp.weights import aligned

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
HOLE = -1  # a logical block that a sliding window has left behind
CACHE_KINDS = {
    "float32": (KV_F32, np.float32),
    "float16": (KV_F16, np.float16),
    "int8": (KV_INT8, np.int8),
    "int4": (KV_INT4, np.uint8),
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokens of one sequence in a step: ids, the place of the first, its blocks, and how many outputs from the end."""

    tokens: Sequence[int]
    place: int
    table: Sequence[int]
    outputs: int = 1  # 0: a piece of a prompt, 1: its end, more: for perplexity


@dataclass(slots=True)
class Step:
    """One mixed batch as arrays: T tokens of S sequences, each sequence's own side by side."""

    token: Ints  # (T,)
    position: Ints  # (T,)
    first: Ints  # (S + 1,): where each sequence's tokens begin
    table: Ints  # (S, blocks): physical block of each logical one
    output: Ints  # which of the T places want outputs
    c: CStep = field(init=False)

    def __post_init__(self) -> None:
        arrays = (self.token, self.position, self.first, self.table, self.output)
        pointers = (a.ctypes.data for a in arrays)
        sizes = (len(self.token), len(self.first) - 1, len(self.output), self.table.shape[1])
        self.c = CStep(*sizes, *pointers, None, None)

    @classmethod
    def of(cls, rows: Sequence[Rows]) -> Step:
        """From a list of sequences."""
        first = np.zeros(len(rows) + 1, np.int32)
        np.cumsum([len(r.tokens) for r in rows], out=first[1:])
        ends = first[1:].tolist()
        token = np.fromiter((t for r in rows for t in r.tokens), np.int32, int(first[-1]))
        places = (p for r in rows for p in range(r.place, r.place + len(r.tokens)))
        position = np.fromiter(places, np.int32, len(token))
        wanted = (end - i for r, end in zip(rows, ends, strict=True) for i in range(r.outputs, 0, -1))
        table = np.full((len(rows), max((len(r.table) for r in rows), default=0)), HOLE, np.int32)
        for i, row in enumerate(rows):
            table[i, : len(row.table)] = row.table
        return cls(token, position, first, table, np.fromiter(wanted, np.int32))


class PagePool:
    """Keys and values of all layers in pages of PAGE tokens: keys (L, blocks, Hkv, D, PAGE), values (.., PAGE, D).

    int8 keeps a float16 scale for each token, head and side: max |x| / 127. int4 keeps 16 neighbours in 8 bytes, so its
    last axis is half as long, and a float16 scale and minimum for each token, head, side and KV_GROUP columns.
    """

    def __init__(self, kind: str, *, layers: int, blocks: int, kv_heads: int, head_dim: int) -> None:
        """Memory is taken by the system as pages are written. Raises ValueError for an unknown kind or odd head."""
        if kind not in CACHE_KINDS or head_dim % PAGE:
            raise ValueError(f"a KV cache is one of {', '.join(CACHE_KINDS)} with heads in multiples of {PAGE}")
        code, dtype = CACHE_KINDS[kind]
        self.kind, self.blocks = kind, blocks
        self.heads, self.head_dim, self.layers = kv_heads, head_dim, layers
        pages = layers * blocks * kv_heads
        half = 2 if kind == "int4" else 1
        size, outer = pages * head_dim * PAGE // half, (layers, blocks, kv_heads)
        self.keys = aligned(size, dtype).reshape(*outer, head_dim, PAGE // half)
        self.values = aligned(size, dtype).reshape(*outer, PAGE, head_dim // half)
        own = {"int8": (*outer, PAGE), "int4": (*outer, -(-head_dim // KV_GROUP), 2, PAGE)}
        scales = own.get(kind, (1,))
        self.key_scales, self.value_scales = (
            aligned(int(np.prod(scales)), np.float16).reshape(scales) for _ in range(2)
        )
        arrays = (self.keys, self.values, self.key_scales, self.value_scales)
        self.c = CKv(code, blocks, *(a.ctypes.data for a in arrays))

    @property
    def bytes_per_token(self) -> float:
        """Of keys and values over all layers, scales included."""
        arrays = [self.keys, self.values]
        if self.kind in ("int8", "int4"):
            arrays += [self.key_scales, self.value_scales]
        return float(sum(a.nbytes for a in arrays)) / (self.blocks * PAGE)

    def append(self, layer: int, step: Step, k: Floats, v: Floats) -> None:
        """Store the step's keys and values, (T, Hkv, D) each."""
        k, v = np.ascontiguousarray(k, np.float32), np.ascontiguousarray(v, np.float32)
        self._check(layer, step, k.shape, v.shape)
        at = (ctypes.byref(self.c), layer, self.heads, self.head_dim, ctypes.byref(step.c))
        library().ww_append(*at, k.ctypes.data, v.ctypes.data)

    def attend(self, layer: int, step: Step, q: Floats, *, window: int | None = None, scale: float) -> Floats:
        """softmax(q k^T scale) v over each token's past, its own place included. q (T, H, D); returns (T, H, D)."""
        q = np.ascontiguousarray(q, np.float32)
        self._check(layer, step, (q.shape[0], self.heads, q.shape[2]))
        if q.shape[1] % self.heads or q.shape[1] // self.heads > 24:
            raise ValueError(f"{q.shape[1]} query heads cannot share {self.heads} key heads here")
        out = np.empty_like(q)
        sizes = (layer, q.shape[1], self.heads, self.head_dim, window or 0)
        library().ww_attend(ctypes.byref(self.c), *sizes, scale, ctypes.byref(step.c), q.ctypes.data, out.ctypes.data)
        return out

    def read(self, layer: int, table: Sequence[int], begin: int, end: int) -> tuple[Floats, Floats]:
        """Keys and values of places begin..end of a sequence, dequantised, (end - begin, Hkv, D): the definition."""
        made = []
        for pages, scales, keys in ((self.keys, self.key_scales, True), (self.values, self.value_scales, False)):
            one = pages[layer]  # (blocks, Hkv, D, PAGE) or (blocks, Hkv, PAGE, D); int4: the last axis halved
            if self.kind == "int4":
                runs = one.reshape(*one.shape[:-1], -1, 8)
                one = np.concatenate((runs & 15, runs >> 4), axis=-1).reshape(*one.shape[:-1], -1)
            one = one.astype(np.float32)
            if keys:
                one = one.transpose(0, 1, 3, 2)
            if self.kind == "int8":
                one = one * scales[layer].astype(np.float32)[..., None]
            if self.kind == "int4":  # scales (blocks, Hkv, groups, 2, PAGE) to (2, blocks, Hkv, PAGE, D)
                wide = scales[layer].astype(np.float32).transpose(3, 0, 1, 4, 2).repeat(KV_GROUP, axis=-1)
                one = one * wide[0, ..., : self.head_dim] + wide[1, ..., : self.head_dim]
            made.append(np.stack([one[table[p // PAGE], :, p % PAGE] for p in range(begin, end)]))
        return made[0], made[1]

    def _check(self, layer: int, step: Step, *shapes: tuple[int, ...]) -> None:
        want = (len(step.token), self.heads, self.head_dim)
        blocks = step.table[np.repeat(np.arange(len(step.table)), np.diff(step.first)), step.position // PAGE]
        inside = len(blocks) == 0 or (blocks.min() >= 0 and blocks.max() < self.blocks)
        if any(shape != want for shape in shapes) or not 0 <= layer < self.layers or not inside:
            raise ValueError(f"shapes {shapes}, layer {layer} and blocks do not fit a pool for {want}")
