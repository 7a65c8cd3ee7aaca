"""The paged KV cache as the extension keeps it, and the steps over it. numpy alone."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from windward_kernels.cpp import checks
from windward_kernels.cpp.library import KV_F16, KV_F32, KV_GROUP, KV_INT4, KV_INT8, PAGE, CKv, CStep, library
from windward_kernels.cpp.weights import aligned

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
MOST_GROUPED = 24  # query heads that share a key head: rows of the kernel's tile
HOLE = -1  # a logical block that a sliding window has left behind
CACHE_KINDS = {
    "float32": (KV_F32, np.float32),
    "float16": (KV_F16, np.float16),
    "int8": (KV_INT8, np.int8),
    "int4": (KV_INT4, np.uint8),
}


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """Tokens of one sequence in a step: ids, the place of the first, its blocks, and how many outputs from the end."""

    tokens: Sequence[int]
    position: int
    block_table: Sequence[int]
    outputs: int = 1  # 0: a piece of a prompt, 1: its end, more: for perplexity


@dataclass(frozen=True, slots=True)
class Step:
    """One mixed batch as arrays of int32: T tokens of S sequences, each sequence's own side by side, place after place.

    Raises ValueError, naming the argument, for what is none: so every pointer in `c` may be followed.
    """

    token: Ints  # (T,)
    position: Ints  # (T,)
    first: Ints  # (S + 1,): where each sequence's tokens begin
    table: Ints  # (S, blocks): physical block of each logical one
    output: Ints  # which of the T places want outputs
    c: CStep = field(init=False)

    def __post_init__(self) -> None:
        arrays = {n: getattr(self, n) for n in ("token", "position", "first", "table", "output")}
        for name, array in arrays.items():
            checks.array(name, array, np.int32, 2 if name == "table" else 1)
        self._check()
        sizes = (len(self.token), len(self.first) - 1, len(self.output), self.table.shape[1])
        object.__setattr__(self, "c", CStep(*sizes, *(a.ctypes.data for a in arrays.values()), None, None))

    def _check(self) -> None:
        count, first = len(self.token), self.first
        if len(self.position) != count:
            raise ValueError(f"position has {len(self.position)} places for {count} tokens; give as many")
        if not len(first) or first[0] != 0 or first[-1] != count or (first[1:] < first[:-1]).any():
            raise ValueError(f"first must ascend from 0 to the {count} tokens, with one more than there are sequences")
        if len(self.table) != len(first) - 1:
            raise ValueError(f"table has {len(self.table)} rows for {len(first) - 1} sequences; give as many")
        checks.inside("position", self.position, min(self.table.shape[1] * PAGE, 1 << 30))
        follows = self.position[1:] == self.position[:-1] + 1
        follows[first[(first > 0) & (first < count)] - 1] = True  # between sequences
        if not follows.all():
            raise ValueError("position must go up by one from token to token of a sequence")
        checks.inside("output", self.output, count)

    @classmethod
    def of(cls, inputs: Sequence[SequenceInput]) -> Step:
        """From a list of sequences."""
        first = np.zeros(len(inputs) + 1, np.int32)
        np.cumsum([len(r.tokens) for r in inputs], out=first[1:])
        ends = first[1:].tolist()
        token = np.fromiter((t for r in inputs for t in r.tokens), np.int32, int(first[-1]))
        places = (p for r in inputs for p in range(r.position, r.position + len(r.tokens)))
        position = np.fromiter(places, np.int32, len(token))
        outputs = (
            end - i for r, end in zip(inputs, ends, strict=True) for i in range(min(r.outputs, len(r.tokens)), 0, -1)
        )
        table = np.full((len(inputs), max((len(r.block_table) for r in inputs), default=0)), HOLE, np.int32)
        for i, row in enumerate(inputs):
            table[i, : len(row.block_table)] = row.block_table
        return cls(token, position, first, table, np.fromiter(outputs, np.int32))


class PagePool:
    """Keys and values of all layers in pages of PAGE tokens: keys (L, blocks, Hkv, D, PAGE), values (.., PAGE, D).

    int8 keeps a float16 scale for each token, head and side: max |x| / 127. int4 keeps 16 neighbours in 8 bytes, so its
    last axis is half as long, and a float16 scale and minimum for each token, head, side and KV_GROUP columns.
    """

    def __init__(self, kind: str, *, layers: int, blocks: int, kv_heads: int, head_dim: int) -> None:
        """Memory is taken by the system as pages are written. Raises ValueError for an unknown kind or odd sizes."""
        for name, size in (("layers", layers), ("blocks", blocks)):
            checks.integer(name, size, 1)
        checks.integer("kv_heads", kv_heads, 1, 1 << 15)
        checks.integer("head_dim", head_dim, PAGE, 1 << 15)
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
        k, v = checks.floats("k", k, 3), checks.floats("v", v, 3)
        expected = (len(step.token), self.heads, self.head_dim)
        for name, tensor in (("k", k), ("v", v)):
            if tensor.shape != expected:
                raise ValueError(f"{name} has shape {tensor.shape}; this step and pool take {expected}")
        self._check(layer, step, 1)
        at = (ctypes.byref(self.c), layer, self.heads, self.head_dim, ctypes.byref(step.c))
        library().ww_append(*at, k.ctypes.data, v.ctypes.data)

    def attend(self, layer: int, step: Step, q: Floats, *, window: int | None = None, scale: float) -> Floats:
        """softmax(q k^T scale) v over each token's past, its own place included. q (T, H, D); returns (T, H, D)."""
        q = checks.floats("q", q, 3)
        if (q.shape[0], q.shape[2]) != (len(step.token), self.head_dim):
            raise ValueError(
                f"q has shape {q.shape}; this step and pool take {len(step.token)} x heads x {self.head_dim}"
            )
        if not q.shape[1] or q.shape[1] % self.heads or q.shape[1] // self.heads > MOST_GROUPED:
            raise ValueError(f"q: {q.shape[1]} query heads cannot share {self.heads} key heads here")
        seen = 0 if window is None else checks.integer("window", window, 1)
        scale = checks.number("scale", scale)
        self._check(layer, step, seen)
        out = np.empty_like(q)
        sizes = (layer, q.shape[1], self.heads, self.head_dim, seen)
        library().ww_attend(ctypes.byref(self.c), *sizes, scale, ctypes.byref(step.c), q.ctypes.data, out.ctypes.data)
        return out

    def read(self, layer: int, table: Sequence[int], begin: int, end: int) -> tuple[Floats, Floats]:
        """Keys and values of places begin..end of a sequence, dequantised, (end - begin, Hkv, D): the definition."""
        checks.integer("layer", layer, 0, self.layers)
        checks.integer("begin", begin, 0)
        checks.integer("end", end, begin + 1, len(table) * PAGE + 1)
        checks.inside("table", np.asarray(table[begin // PAGE : -(-end // PAGE)]), self.blocks)
        sides = []
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
            sides.append(np.stack([one[table[p // PAGE], :, p % PAGE] for p in range(begin, end)]))
        return sides[0], sides[1]

    def _check(self, layer: int, step: Step, window: int) -> None:
        """Whether the pages that the step's tokens see are in the pool; `window` 0: all of their past."""
        checks.integer("layer", layer, 0, self.layers)
        for table, begin, end in zip(step.table, step.first, step.first[1:], strict=False):
            if begin == end:
                continue
            oldest = max(0, int(step.position[begin]) - window + 1) if window else 0
            checks.inside("table", table[oldest // PAGE : int(step.position[end - 1]) // PAGE + 1], self.blocks)
