"""Attention over sequences laid end to end, and attention over chosen blocks of the score matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels.attention import Causal, attention_sdpa
from windward_kernels.probes import Calls, heads
from windward_kernels.registry import Cost, op

ATTENTION_TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 3e-3, torch.bfloat16: 3e-2}


def _softmax_times(scores: Tensor, seen: Tensor, v: Tensor) -> Tensor:
    """softmax over the seen scores, times v; zero where nothing is seen. scores (H, Tq, Tk), v (H, Tk, D)."""
    if not scores.shape[-1]:
        return scores.new_zeros(*scores.shape[:-1], v.shape[-1])
    scores = scores.masked_fill(~seen, float("-inf"))
    peak = scores.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    weight = (scores - peak).exp()
    return (weight / weight.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)) @ v


def check_ragged(what: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Heads are the second axis. Raises ValueError where q, k and v do not fit each other."""
    if q.dim() != k.dim() or k.shape != v.shape or q.shape[-1] != k.shape[-1] or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"{what}: shapes q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} do not fit; give k and v one "
            "shape and query heads a multiple of key heads"
        )


def _ragged_cost(
    q: Tensor, k: Tensor, v: Tensor, begin_q: Tensor, begin_k: Tensor, *, window: int | None = None,
    scale: float | None = None,
) -> Cost:  # fmt: skip
    pairs = 0
    for queries, keys in zip(begin_q.diff().tolist(), begin_k.diff().tolist(), strict=True):
        own = torch.arange(keys - queries, keys).clamp_min(-1) + 1  # keys up to each query's own place
        pairs += int((own.clamp_max(window) if window else own).sum())
    moved = (2 * q.numel() + k.numel() + v.numel()) * q.element_size()
    return Cost(4.0 * pairs * q.shape[1] * q.shape[2], float(moved))


def _probe_ragged() -> Calls:
    for i, (q, k, v) in enumerate(heads()):
        ends = [torch.tensor([0, t.shape[2], 2 * t.shape[2]], dtype=torch.int32) for t in (q, k)]
        twice = (t[0].repeat(1, 2, 1).transpose(0, 1) for t in (q, k, v))  # (2 T, H, D), a head's rows side by side
        yield (*twice, *ends), {"window": (None, 1, 4)[i % 3]}


@op(cost=_ragged_cost, tolerance=ATTENTION_TOLERANCE, probe=_probe_ragged)
def ragged_attention(
    q: Tensor, k: Tensor, v: Tensor, begin_q: Tensor, begin_k: Tensor, *, window: int | None = None,
    scale: float | None = None,
) -> Tensor:  # fmt: skip
    """Causal attention of sequences laid end to end ("varlen"), each seeing only itself.

    q (sum Tq, Hq, D); k, v (sum Tk, Hkv, D); begin_q, begin_k (S + 1,) int32: where sequences begin, the sums at the
    end ("cu_seqlens"). The last query stands at the last key (bottom-right aligned); where a sequence has more queries
    than keys, the first ones see nothing and yield zero. `window`: keys that a query sees at most. Returns
    (sum Tq, Hq, D).
    """
    check_ragged("ragged_attention", q, k, v)
    out = torch.zeros_like(q)
    by = scale or 1 / math.sqrt(q.shape[-1])
    group = q.shape[1] // k.shape[1]
    ends_q, ends_k = begin_q.tolist(), begin_k.tolist()
    for s in range(len(ends_q) - 1):
        rows, cols = slice(ends_q[s], ends_q[s + 1]), slice(ends_k[s], ends_k[s + 1])
        queries, keys = rows.stop - rows.start, cols.stop - cols.start
        own = torch.arange(keys - queries, keys, device=q.device)[:, None]
        place = torch.arange(keys, device=q.device)[None, :]
        seen = (place <= own) & (place > own - (window or keys + queries + 1))  # (Tq, Tk)
        one_k, one_v = (t[cols].transpose(0, 1).repeat_interleave(group, dim=0) for t in (k, v))  # (Hq, Tk, D)
        scores = q[rows].transpose(0, 1) @ one_k.transpose(-2, -1) * by  # (Hq, Tq, Tk)
        out[rows] = _softmax_times(scores, seen, one_v).transpose(0, 1)
    return out


@ragged_attention.fast("torch-sdpa", "cpu", "cuda")
def ragged_attention_sdpa(
    q: Tensor, k: Tensor, v: Tensor, begin_q: Tensor, begin_k: Tensor, *, window: int | None = None,
    scale: float | None = None,
) -> Tensor:  # fmt: skip
    """The dense operation's path, a sequence at a time, on the queries that have keys."""
    check_ragged("ragged_attention", q, k, v)
    out = torch.zeros_like(q)
    ends_q, ends_k = begin_q.tolist(), begin_k.tolist()
    for s in range(len(ends_q) - 1):
        keys = ends_k[s + 1] - ends_k[s]
        rows = slice(max(ends_q[s], ends_q[s + 1] - keys), ends_q[s + 1])  # queries before see nothing
        if rows.stop == rows.start or not keys:
            continue
        one = (t.transpose(0, 1)[None] for t in (q[rows], *(t[ends_k[s] : ends_k[s + 1]] for t in (k, v))))
        out[rows] = attention_sdpa(*one, mask=Causal(window=window), scale=scale)[0].transpose(0, 1)
    return out


@dataclass(frozen=True, slots=True)
class BlockSparse:
    """Which blocks of keys each block of queries looks at, as compressed rows; within a block, causal.

    `begin` (query blocks + 1,) int32 and `blocks` (count,) int32: the key blocks of query block i are
    blocks[begin[i] : begin[i + 1]], ascending. The last query stands at the last key, as in `Causal`.
    """

    begin: Tensor
    blocks: Tensor
    size: int = 64

    @classmethod
    def of(cls, chosen: Tensor, size: int = 64) -> BlockSparse:
        """From a bool matrix (query blocks, key blocks)."""
        begin = torch.zeros(chosen.shape[0] + 1, dtype=torch.int32, device=chosen.device)
        begin[1:] = chosen.sum(dim=1).cumsum(0)
        return cls(begin, chosen.nonzero()[:, 1].to(torch.int32), size)

    @classmethod
    def sliding_with_global(cls, queries: int, keys: int, *, size: int, around: int, first: int) -> BlockSparse:
        """The last `around` blocks before each query block's own, and the first `first` blocks of the text.

        A causal BigBird without its random blocks: Zaheer et al. 2020, arXiv 2007.14062, section 2.
        """
        rows, cols = -(-queries // size), -(-keys // size)
        last = torch.arange(1, rows + 1).mul(size).clamp_max(queries).add(keys - queries - 1).div(size).floor()
        own, place = last.long()[:, None], torch.arange(cols)[None, :]
        return cls.of((place <= own) & ((place >= own - around) | (place < first)), size)

    def visible(self, queries: int, keys: int) -> Tensor:
        """Which query sees which key: bool (Tq, Tk)."""
        device = self.blocks.device
        blocks = torch.zeros(len(self.begin) - 1, -(-keys // self.size), dtype=torch.bool, device=device)
        rows = torch.repeat_interleave(torch.arange(len(self.begin) - 1, device=device), self.begin.diff().long())
        blocks[rows, self.blocks.long()] = True
        wide = blocks.repeat_interleave(self.size, 0)[:queries].repeat_interleave(self.size, 1)[:, :keys]
        own = torch.arange(keys - queries, keys, device=device)
        return wide & (torch.arange(keys, device=device)[None, :] <= own[:, None])


def _sparse_cost(q: Tensor, k: Tensor, v: Tensor, mask: BlockSparse, *, scale: float | None = None) -> Cost:
    pairs = int(mask.visible(q.shape[2], k.shape[2]).sum())
    moved = (2 * q.numel() + k.numel() + v.numel()) * q.element_size()
    return Cost(4.0 * pairs * q.shape[0] * q.shape[1] * q.shape[3], float(moved))


def _probe_sparse() -> Calls:
    for q, k, v in heads():
        yield (q, k, v, BlockSparse.sliding_with_global(q.shape[2], k.shape[2], size=9, around=0, first=1)), {}


@op(cost=_sparse_cost, tolerance=ATTENTION_TOLERANCE, probe=_probe_sparse)
def block_sparse_attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockSparse, *, scale: float | None = None) -> Tensor:
    """softmax(q k^T scale) v over the pairs that the mask lets see. Shapes as `attention`.

    A query that sees no key yields zero. Raises ValueError where the mask has not one row for each block of queries.
    """
    check_sparse(q, k, v, mask)
    check_blocks(k, mask)
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = (q @ k.transpose(-2, -1)) * (scale or 1 / math.sqrt(q.shape[-1]))  # (B, Hq, Tq, Tk)
    return _softmax_times(scores, mask.visible(q.shape[2], k.shape[2]), v)


@block_sparse_attention.fast("torch-gather", "cpu", "cuda")
def block_sparse_gather(q: Tensor, k: Tensor, v: Tensor, mask: BlockSparse, *, scale: float | None = None) -> Tensor:
    """torch's fused kernel on each block of queries and the keys that its row of the mask names, laid side by side."""
    check_sparse(q, k, v, mask)
    check_blocks(k, mask)
    out = torch.zeros_like(q)
    queries, keys = q.shape[2], k.shape[2]
    begin, offset = mask.begin.tolist(), torch.arange(mask.size, device=q.device)
    for row in range(len(begin) - 1):
        place = (mask.blocks[begin[row] : begin[row + 1], None].long() * mask.size + offset).flatten()
        rows = slice(row * mask.size, min(queries, (row + 1) * mask.size))
        own = torch.arange(rows.start, rows.stop, device=q.device) + keys - queries
        place = place[place <= own[-1]]  # no query of the block sees more; and the last block may be short
        if not place.numel() or not q.numel():
            continue
        seen = place[None, :] <= own[:, None]  # (block, chosen keys)
        one = F.scaled_dot_product_attention(
            q[:, :, rows], k[:, :, place], v[:, :, place], attn_mask=seen, scale=scale, enable_gqa=True
        )
        out[:, :, rows] = one.masked_fill(~seen.any(dim=-1)[:, None], 0.0)  # some of torch's backends give NaN there
    return out


def check_sparse(q: Tensor, k: Tensor, v: Tensor, mask: BlockSparse) -> None:
    """Raises ValueError where shapes and mask do not fit."""
    check_ragged("block_sparse_attention", q, k, v)
    if len(mask.begin) - 1 != -(-q.shape[2] // mask.size):
        raise ValueError(
            f"block_sparse_attention: {q.shape[2]} queries in blocks of {mask.size} need "
            f"{-(-q.shape[2] // mask.size)} rows of the mask, got {len(mask.begin) - 1}"
        )


def check_blocks(k: Tensor, mask: BlockSparse) -> None:
    """Raises ValueError where the mask names keys that are not there. Waits for the GPU."""
    if mask.blocks.numel() and int(mask.blocks.max()) >= -(-k.shape[2] // mask.size):
        raise ValueError(f"block_sparse_attention: the mask names key block {int(mask.blocks.max())}, past the keys")
