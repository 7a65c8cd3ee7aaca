"""Split-KV decoding over pages, and appending to them.

Each sequence's keys are cut into splits that run side by side, and a second kernel joins their partial softmaxes
("flash decoding"); the query heads of a group share each load of their key head (arXiv 2305.13245).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from windward_kernels.pages import Pages, check_pages
from windward_kernels.triton.flash import LOG2_E, _absorb
from windward_kernels.triton.launch import LEAST, precision, tile, tuned, upcast

SPLIT_KEYS = 256  # least keys of a split, and most splits of a sequence: enough programs, few partial results
MOST_SPLITS = 32


@triton.jit
def _split(
    q, keys, values, key_scales, value_scales, key_lows, value_lows, table, lengths, partial, tops, totals,
    scale, group, window, splits, table_width, q_row, q_head, heads, kv_heads,
    PAGE: tl.constexpr, D: tl.constexpr, TILE_D: tl.constexpr, TILE_G: tl.constexpr, TILE_K: tl.constexpr,
    WINDOW: tl.constexpr, SCALED: tl.constexpr, INT4: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One split of one sequence for the queries that share one key head. A byte of int4 is asked for by both of its
    columns; the second finds it in the cache that the first filled."""
    wide: tl.constexpr = D // 2 if INT4 else D  # bytes or numbers of a stored head
    split, kv_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    length = tl.load(lengths + row)
    low = 0
    if WINDOW:
        low = tl.maximum(length - window, 0)
    each = tl.cdiv(tl.cdiv(tl.maximum(length - low, 0), splits), TILE_K) * TILE_K
    begin = low + split * each
    end = tl.minimum(length, begin + each)
    member = tl.arange(0, TILE_G)
    head = kv_head * group + member
    depth = tl.arange(0, TILE_D)
    real = (member < group)[:, None] & (depth < D)[None, :]
    queried = tl.load(q + row * q_row + head[:, None] * q_head + depth[None, :], mask=real, other=0.0)  # (G, D)
    if UPCAST:
        queried = queried.to(tl.float32)
    top = tl.full((TILE_G,), float("-inf"), tl.float32)
    total = tl.zeros((TILE_G,), tl.float32)
    acc = tl.zeros((TILE_G, TILE_D), tl.float32)
    for first in range(begin, end, TILE_K):
        place = first + tl.arange(0, TILE_K)
        stored = place < end
        block = tl.load(table + row * table_width + place // PAGE, mask=stored, other=0).to(tl.int64)
        slot = (block * PAGE + place % PAGE) * kv_heads + kv_head  # (K,)
        there = stored[:, None] & (depth < D)[None, :]
        column = depth % wide
        kt = tl.load(keys + slot[None, :] * wide + column[:, None], mask=tl.trans(there), other=0)  # (D, K)
        vt = tl.load(values + slot[:, None] * wide + column[None, :], mask=there, other=0)  # (K, D)
        if INT4:
            shift = depth // wide * 4
            kt, vt = (kt.to(tl.int32) >> shift[:, None]) & 15, (vt.to(tl.int32) >> shift[None, :]) & 15
        if SCALED:
            by_key = tl.load(key_scales + slot, mask=stored, other=0.0).to(tl.float32)
            by_value = tl.load(value_scales + slot, mask=stored, other=0.0).to(tl.float32)
            wide_k, wide_v = kt.to(tl.float32) * by_key[None, :], vt.to(tl.float32) * by_value[:, None]
            if INT4:
                wide_k += tl.load(key_lows + slot, mask=stored, other=0.0).to(tl.float32)[None, :]
                wide_v += tl.load(value_lows + slot, mask=stored, other=0.0).to(tl.float32)[:, None]
            kt, vt = wide_k.to(queried.dtype), wide_v.to(queried.dtype)
        if UPCAST:
            kt, vt = kt.to(tl.float32), vt.to(tl.float32)
        seen = stored[None, :] & (member < group)[:, None]
        top, total, acc = _absorb(queried, kt, vt, seen, scale, top, total, acc, PRECISION)
    at = (row * splits + split) * heads + head  # (G,)
    tl.store(tops + at, top, mask=member < group)
    tl.store(totals + at, total, mask=member < group)
    tl.store(partial + at[:, None] * D + depth[None, :], acc, mask=real)


@triton.jit
def _join(
    partial, tops, totals, out, splits, o_row, o_head, heads,
    D: tl.constexpr, TILE_D: tl.constexpr, TILE_S: tl.constexpr,
):  # fmt: skip
    """The splits of one head of one sequence, each weighted by its share of the softmax."""
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    split = tl.arange(0, TILE_S)
    depth = tl.arange(0, TILE_D)
    at = (row * splits + split) * heads + head
    there = split < splits
    top = tl.load(tops + at, mask=there, other=float("-inf"))  # (S,)
    highest = tl.max(top, 0)
    base = tl.where(highest == float("-inf"), 0.0, highest)
    weight = tl.exp2(top - base)
    total = tl.sum(weight * tl.load(totals + at, mask=there, other=0.0), 0)
    each = tl.load(
        partial + at[:, None] * D + depth[None, :], mask=there[:, None] & (depth < D)[None, :], other=0.0
    )  # (S, D)
    merged = tl.sum(each * weight[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(out + row * o_row + head * o_head + depth, merged.to(out.dtype.element_ty), mask=depth < D)


@triton.jit
def _append(
    x, codes, scales, slots, x_row, x_head, kv_heads, D: tl.constexpr, TILE_D: tl.constexpr, SCALED: tl.constexpr
):  # fmt: skip
    """One head of one token into its slot."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(slots + row).to(tl.int64)
    if slot >= 0:
        depth = tl.arange(0, TILE_D)
        given = tl.load(x + row * x_row + head * x_head + depth, mask=depth < D, other=0.0)
        at = slot * kv_heads + head
        if SCALED:
            wide = given.to(tl.float32)
            scale = (tl.max(tl.abs(wide), 0) / 127).to(tl.float16)
            by = scale.to(tl.float32)
            code = tl.floor(wide / tl.where(by > 0, by, 1.0) + 0.5)
            code = tl.where(by > 0, tl.minimum(tl.maximum(code, -127.0), 127.0), 0.0)
            tl.store(codes + at * D + depth, code.to(tl.int8), mask=depth < D)
            tl.store(scales + at, scale)
        else:
            tl.store(codes + at * D + depth, given.to(codes.dtype.element_ty), mask=depth < D)


@triton.jit
def _append4(
    x, codes, scales, lows, slots, x_row, x_head, kv_heads, HALF: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """One head of one token into its slot, two codes a byte: column j below, column j + D / 2 above."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(slots + row).to(tl.int64)
    if slot >= 0:
        at = tl.arange(0, TILE)
        here = x + row * x_row + head * x_head + at
        first = tl.load(here, mask=at < HALF, other=0.0).to(tl.float32)
        second = tl.load(here + HALF, mask=at < HALF, other=0.0).to(tl.float32)
        least = tl.where(at < HALF, tl.minimum(first, second), float("inf"))
        most = tl.where(at < HALF, tl.maximum(first, second), float("-inf"))
        low = tl.min(least, 0).to(tl.float16)
        scale = (tl.maximum(tl.max(most, 0) - low.to(tl.float32), 0.0) / 15).to(tl.float16)
        by, begin = scale.to(tl.float32), low.to(tl.float32)
        under = tl.where(by > 0, by, 1.0)
        below = tl.minimum(tl.maximum(tl.floor((first - begin) / under + 0.5), 0.0), 15.0)
        above = tl.minimum(tl.maximum(tl.floor((second - begin) / under + 0.5), 0.0), 15.0)
        code = tl.where(by > 0, below + 16 * above, 0.0).to(tl.uint8)
        into = slot * kv_heads + head
        tl.store(codes + into * HALF + at, code, mask=at < HALF)
        tl.store(scales + into, scale)
        tl.store(lows + into, low)


def paged_decode(
    q: Tensor, pages: Pages, table: Tensor, lengths: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """As `windward_kernels.paged_decode`. The number of splits depends on shapes alone: nothing waits for the GPU."""
    check_pages(q, pages, table, lengths)
    q = q if q.stride(-1) == 1 else q.contiguous()
    out = torch.empty_like(q)
    count, heads, head_dim = q.shape
    if not q.numel():
        return out
    kv_heads, most = pages.keys.shape[2], table.shape[1] * pages.page
    splits = max(1, min(MOST_SPLITS, (min(most, window) if window else most) // SPLIT_KEYS))
    sizes = {"dtype": torch.float32, "device": q.device}
    partial = torch.empty((count, splits, heads, head_dim), **sizes)  # type: ignore[call-overload]
    tops, totals = (torch.empty((count, splits, heads), **sizes) for _ in range(2))  # type: ignore[call-overload]
    beside = (pages.key_scales, pages.value_scales, pages.key_lows, pages.value_lows)
    group = heads // kv_heads
    sizes_k = tuned("decode", head_dim, {"TILE_K": max(LEAST, min(64, tile(most)))})
    _split[(splits, kv_heads, count)](
        q, pages.keys, pages.values, *(q if part is None else part for part in beside),
        table.contiguous(), lengths, partial, tops, totals, (scale or head_dim**-0.5) * LOG2_E, group, window or 0,
        splits, table.shape[1], q.stride(0), q.stride(1), heads, kv_heads,
        PAGE=pages.page, D=head_dim, TILE_D=tile(head_dim), TILE_G=tile(group), **sizes_k,
        WINDOW=window is not None, SCALED=beside[0] is not None, INT4=beside[2] is not None,
        UPCAST=upcast(q), PRECISION=precision(q),
    )  # fmt: skip
    _join[(heads, count)](
        partial, tops, totals, out, splits, out.stride(0), out.stride(1), heads,
        D=head_dim, TILE_D=tile(head_dim), TILE_S=triton.next_power_of_2(splits),
    )  # fmt: skip
    return out


def kv_append(k: Tensor, v: Tensor, pages: Pages, slots: Tensor) -> Pages:
    """As `windward_kernels.kv_append`."""
    if not k.numel():
        return pages
    head_dim = k.shape[2]
    for given, (codes, scales, lows) in zip((k, v), pages.sides(), strict=True):
        x = given if given.stride(-1) == 1 else given.contiguous()
        if lows is not None:
            _append4[(x.shape[0], x.shape[1])](
                x, codes, scales, lows, slots, x.stride(0), x.stride(1), x.shape[1],
                HALF=head_dim // 2, TILE=triton.next_power_of_2(head_dim // 2),
            )  # fmt: skip
            continue
        _append[(x.shape[0], x.shape[1])](
            x, codes, codes if scales is None else scales, slots, x.stride(0), x.stride(1), x.shape[1],
            D=head_dim, TILE_D=triton.next_power_of_2(head_dim), SCALED=scales is not None,
        )  # fmt: skip
    return pages
