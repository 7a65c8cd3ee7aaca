"""Attention forward with an online softmax, a tile of queries a program: dense, ragged and block-sparse.

Dao 2023, arXiv 2307.08691, algorithm 1; the softmax is in powers of two. No backward: paths.py sends training to
torch's kernels. Scores and sums are float32 whatever the inputs are.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from windward_kernels.attention import Causal, check_shapes
from windward_kernels.ragged import BlockSparse, check_ragged, check_sparse
from windward_kernels.triton.launch import precision, tile, tuned, upcast

LOG2_E = math.log2(math.e)


@triton.jit
def _absorb(q, k, v, seen, scale, top, total, acc, PRECISION: tl.constexpr):
    """Add a tile of keys to the running softmax: q (Q, D), k (D, K), v (K, D), seen (Q, K)."""
    scores = tl.dot(q, k, input_precision=PRECISION) * scale
    scores = tl.where(seen, scores, float("-inf"))
    higher = tl.maximum(top, tl.max(scores, 1))
    base = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet: -inf - -inf would be NaN
    weight = tl.exp2(scores - base[:, None])
    shrink = tl.exp2(top - base)
    total = total * shrink + tl.sum(weight, 1)
    acc = acc * shrink[:, None] + tl.dot(weight.to(v.dtype), v, input_precision=PRECISION)
    return higher, total, acc


@triton.jit
def _forward(
    q, k, v, out, begin_q, begin_k, first_key, queries, keys, scale, group, window,
    q_row, q_head, q_at, k_row, k_head, k_at, v_row, v_head, v_at, o_row, o_head, o_at,
    D: tl.constexpr, TILE_D: tl.constexpr, TILE_Q: tl.constexpr, TILE_K: tl.constexpr,
    RAGGED: tl.constexpr, PADDED: tl.constexpr, WINDOW: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head of one sequence."""
    row = tl.program_id(2).to(tl.int64)
    head = tl.program_id(1)
    if RAGGED:
        start_q = tl.load(begin_q + row)
        start_k = tl.load(begin_k + row)
        count_q = tl.load(begin_q + row + 1) - start_q
        count_k = tl.load(begin_k + row + 1) - start_k
        q += start_q.to(tl.int64) * q_at
        out += start_q.to(tl.int64) * o_at
        k += start_k.to(tl.int64) * k_at
        v += start_k.to(tl.int64) * v_at
    else:
        count_q = queries
        count_k = keys
        q += row * q_row
        out += row * o_row
        k += row * k_row
        v += row * v_row
    begin = tl.program_id(0) * TILE_Q
    if begin < count_q:
        at = begin + tl.arange(0, TILE_Q)  # (Q,)
        own = at + (count_k - count_q)  # the query's own key
        depth = tl.arange(0, TILE_D)
        inside = (at < count_q)[:, None] & (depth < D)[None, :]
        here = at[:, None] * q_at + depth[None, :]
        queried = tl.load(q + head * q_head + here, mask=inside, other=0.0)  # (Q, D)
        if UPCAST:
            queried = queried.to(tl.float32)
        low = 0
        if PADDED:
            low = tl.load(first_key + row).to(tl.int32)
        from_key = low
        if WINDOW:
            from_key = tl.maximum(low, begin + (count_k - count_q) - window + 1)
        from_key = tl.maximum(from_key, 0) // TILE_K * TILE_K
        to_key = tl.minimum(count_k, begin + TILE_Q + (count_k - count_q))
        k += (head // group) * k_head
        v += (head // group) * v_head
        top = tl.full((TILE_Q,), float("-inf"), tl.float32)
        total = tl.zeros((TILE_Q,), tl.float32)
        acc = tl.zeros((TILE_Q, TILE_D), tl.float32)
        for first in range(from_key, to_key, TILE_K):
            place = first + tl.arange(0, TILE_K)  # (K,)
            there = (place < count_k)[:, None] & (depth < D)[None, :]
            kt = tl.load(k + place[None, :] * k_at + depth[:, None], mask=tl.trans(there), other=0.0)  # (D, K)
            vt = tl.load(v + place[:, None] * v_at + depth[None, :], mask=there, other=0.0)  # (K, D)
            if UPCAST:
                kt, vt = kt.to(tl.float32), vt.to(tl.float32)
            seen = (place[None, :] <= own[:, None]) & (place < count_k)[None, :]
            if PADDED:
                seen = seen & (place >= low)[None, :]
            if WINDOW:
                seen = seen & (place[None, :] > own[:, None] - window)
            top, total, acc = _absorb(queried, kt, vt, seen, scale, top, total, acc, PRECISION)
        acc = acc / tl.where(total > 0, total, 1.0)[:, None]
        there = at[:, None] * o_at + depth[None, :]
        tl.store(out + head * o_head + there, acc.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _sparse(
    q, k, v, out, begin_row, chosen, queries, keys, scale, group,
    q_row, q_head, q_at, k_row, k_head, k_at, v_row, v_head, v_at, o_row, o_head, o_at,
    D: tl.constexpr, TILE_D: tl.constexpr, SIZE: tl.constexpr, TILE: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: only the key blocks that its row of the mask names. TILE: SIZE, rounded up."""
    block, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    offset = tl.arange(0, TILE)
    at = block * SIZE + offset
    own = at + (keys - queries)
    depth = tl.arange(0, TILE_D)
    inside = ((at < queries) & (offset < SIZE))[:, None] & (depth < D)[None, :]
    here = at[:, None] * q_at + depth[None, :]
    queried = tl.load(q + row * q_row + head * q_head + here, mask=inside, other=0.0)
    if UPCAST:
        queried = queried.to(tl.float32)
    k += row * k_row + (head // group) * k_head
    v += row * v_row + (head // group) * v_head
    top = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    acc = tl.zeros((TILE, TILE_D), tl.float32)
    for index in range(tl.load(begin_row + block), tl.load(begin_row + block + 1)):
        place = tl.load(chosen + index) * SIZE + offset
        real = (place < keys) & (offset < SIZE)
        there = real[:, None] & (depth < D)[None, :]
        kt = tl.load(k + place[None, :] * k_at + depth[:, None], mask=tl.trans(there), other=0.0)
        vt = tl.load(v + place[:, None] * v_at + depth[None, :], mask=there, other=0.0)
        if UPCAST:
            kt, vt = kt.to(tl.float32), vt.to(tl.float32)
        seen = (place[None, :] <= own[:, None]) & real[None, :]
        top, total, acc = _absorb(queried, kt, vt, seen, scale, top, total, acc, PRECISION)
    acc = acc / tl.where(total > 0, total, 1.0)[:, None]
    there = at[:, None] * o_at + depth[None, :]
    tl.store(out + row * o_row + head * o_head + there, acc.to(out.dtype.element_ty), mask=inside)


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _tiles(head_dim: int, queries: int) -> dict[str, int]:
    """Tiles of queries and keys: as tuned on this GPU, else 64 x 128 at D = 128, which its shared memory holds."""
    sizes = {"TILE_Q": 128 if head_dim <= 64 else 64, "TILE_K": 64 if head_dim <= 128 else 32}
    sizes = tuned("flash", head_dim, sizes)
    return {**sizes, "TILE_Q": min(sizes["TILE_Q"], tile(queries))}


def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Causal | None = None, scale: float | None = None) -> Tensor:
    """As `windward_kernels.attention`."""
    check_shapes(q, k, v)
    mask = mask or Causal()
    q, k, v = _rows(q), _rows(k), _rows(v)
    out = torch.empty_like(q)
    batch, heads, queries, head_dim = q.shape
    if not q.numel():
        return out
    tiles = _tiles(head_dim, queries)
    strides = [n for t in (q, k, v, out) for n in t.stride()[:3]]
    first = mask.first_key.to(q.device, torch.int32) if mask.first_key is not None else q
    grid = (triton.cdiv(queries, tiles["TILE_Q"]), heads, batch)
    _forward[grid](
        q, k, v, out, q, q, first, queries, k.shape[2], (scale or head_dim**-0.5) * LOG2_E,
        heads // k.shape[1], mask.window or 0, *strides,
        D=head_dim, TILE_D=tile(head_dim), **tiles, RAGGED=False, PADDED=mask.first_key is not None,
        WINDOW=mask.window is not None, UPCAST=upcast(q), PRECISION=precision(q),
    )  # fmt: skip
    return out


def ragged_attention(
    q: Tensor, k: Tensor, v: Tensor, begin_q: Tensor, begin_k: Tensor, *, window: int | None = None,
    scale: float | None = None,
) -> Tensor:  # fmt: skip
    """As `windward_kernels.ragged_attention`; as many tiles as the longest sequence could need."""
    check_ragged("ragged_attention", q, k, v)
    q, k, v = _rows(q), _rows(k), _rows(v)
    out = torch.empty_like(q)
    total, heads, head_dim = q.shape
    if not q.numel():
        return out
    tiles = _tiles(head_dim, total)
    strides = [n for t in (q, k, v, out) for n in (0, t.stride(1), t.stride(0))]
    longest = int(begin_q.diff().max())
    grid = (triton.cdiv(longest, tiles["TILE_Q"]), heads, len(begin_q) - 1)
    _forward[grid](
        q, k, v, out, begin_q.to(torch.int32), begin_k.to(torch.int32), q, 0, 0, (scale or head_dim**-0.5) * LOG2_E,
        heads // k.shape[1], window or 0, *strides,
        D=head_dim, TILE_D=tile(head_dim), **tiles, RAGGED=True, PADDED=False,
        WINDOW=window is not None, UPCAST=upcast(q), PRECISION=precision(q),
    )  # fmt: skip
    return out


def block_sparse_attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockSparse, *, scale: float | None = None) -> Tensor:
    """As `windward_kernels.block_sparse_attention`; the mask's block numbers are taken on trust, to wait for no GPU."""
    check_sparse(q, k, v, mask)
    q, k, v = _rows(q), _rows(k), _rows(v)
    out = torch.empty_like(q)
    batch, heads, queries, head_dim = q.shape
    if not q.numel():
        return out
    strides = [n for t in (q, k, v, out) for n in t.stride()[:3]]
    _sparse[(len(mask.begin) - 1, heads, batch)](
        q, k, v, out, mask.begin, mask.blocks, queries, k.shape[2], (scale or head_dim**-0.5) * LOG2_E,
        heads // k.shape[1], *strides,
        D=head_dim, TILE_D=tile(head_dim), SIZE=mask.size, TILE=tile(mask.size),
        UPCAST=upcast(q), PRECISION=precision(q),
    )  # fmt: skip
    return out
