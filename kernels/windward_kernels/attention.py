"""Causal attention with grouped queries.

Reference: Vaswani et al. 2017, arXiv 1706.03762, eq. 1; grouped queries: Ainslie et al. 2023, arXiv 2305.13245.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels.probes import Calls, heads
from windward_kernels.registry import Cost, op

BAND = 64  # least queries that torch's kernel is given at once where a window is narrow


@dataclass(frozen=True, slots=True)
class Causal:
    """A query sees the keys up to its own place; the last query stands at the last key (bottom-right aligned).

    `first_key`, (B,): keys before it are padding and seen by nobody. `window`: a query sees at most this many keys, its
    own included (sliding window: Beltagy et al. 2020, arXiv 2004.05150). A query that sees no key yields zero.
    """

    first_key: Tensor | None = None
    window: int | None = None

    def visible(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Which query sees which key: bool, (Tq, Tk), or (B, 1, Tq, Tk) with padding."""
        place = torch.arange(keys, device=device)  # (Tk,)
        own = torch.arange(keys - queries, keys, device=device)  # (Tq,)
        seen = place[None, :] <= own[:, None]  # (Tq, Tk)
        if self.window is not None:
            seen &= place[None, :] > own[:, None] - self.window
        if self.first_key is None:
            return seen
        real = place[None, :] >= self.first_key[:, None]  # (B, Tk)
        return seen[None, None] & real[:, None, None, :]  # (B, 1, Tq, Tk)


def attention_cost(q: Tensor, k: Tensor, v: Tensor, *, mask: Causal | None = None, scale: float | None = None) -> Cost:
    """Two products over the visible pairs; q, k, v and the output cross memory once."""
    batch, heads, queries, head_dim = q.shape
    keys, mask = k.shape[2], mask or Causal()
    own = torch.arange(keys - queries, keys)[None, :]  # (1, Tq)
    first = torch.zeros(batch, 1) if mask.first_key is None else mask.first_key.cpu()[:, None]
    seen = (own + 1 - first).clamp_min(0)  # (B, Tq)
    pairs = float((seen if mask.window is None else seen.clamp_max(mask.window)).sum())
    flops = 4.0 * heads * pairs * head_dim
    return Cost(flops, float((2 * q.numel() + k.numel() + v.numel()) * q.element_size()))


def check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raises ValueError where q, k and v do not fit each other."""
    if q.shape[1] % k.shape[1] or k.shape != v.shape or q.shape[-1] != k.shape[-1] or k.shape[2] < q.shape[2]:
        raise ValueError(
            f"attention: shapes q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} do not fit; give k and v "
            "one shape, query heads a multiple of key heads, and at least as many keys as queries"
        )


def _probe() -> Calls:
    for i, (q, k, v) in enumerate(heads()):
        padding = torch.tensor([k.shape[2] // 2]) if i % 3 == 0 else None
        yield (q, k, v), {"mask": Causal(padding, (None, 1, 4)[i % 4 % 3]), "scale": 0.3 if i % 2 else None}
    q, k, v = (torch.linspace(-1, 1, n * 150 * 8).reshape(1, n, 150, 8).sin() for n in (2, 1, 1))
    yield (q, k, v), {"mask": Causal(window=5)}  # bands


@op(
    cost=attention_cost,
    tolerance={torch.float64: 1e-12, torch.float32: 5e-6, torch.float16: 3e-3, torch.bfloat16: 3e-2},
    probe=_probe,
)
def attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Causal | None = None, scale: float | None = None) -> Tensor:
    """softmax(q k^T scale) v over the visible keys.

    q (B, Hq, Tq, D); k, v (B, Hkv, Tk, D) with Hq a multiple of Hkv and Tk >= Tq: the first Tk - Tq keys are the past
    (a KV cache). `scale` defaults to 1/sqrt(D). Returns (B, Hq, Tq, D).
    """
    check_shapes(q, k, v)
    if not q.numel():
        return torch.zeros_like(q)
    mask = mask or Causal()
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)  # (B, Hq, Tk, D)
    v = v.repeat_interleave(group, dim=1)
    scores = (q @ k.transpose(-2, -1)) * (scale or 1 / math.sqrt(q.shape[-1]))  # (B, Hq, Tq, Tk)
    hidden = ~mask.visible(q.shape[2], k.shape[2], q.device)
    scores = scores.masked_fill(hidden, float("-inf"))
    peak = scores.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    weight = (scores - peak).exp()
    total = weight.sum(dim=-1, keepdim=True)
    return (weight / total.clamp_min(torch.finfo(scores.dtype).tiny)) @ v


@attention.fast("torch-sdpa", "cpu", "cuda")
def attention_sdpa(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Causal | None = None, scale: float | None = None
) -> Tensor:
    """torch's fused kernel; a mask is built only where its own `is_causal` (top-left aligned) means something else."""
    check_shapes(q, k, v)
    mask = mask or Causal()
    grouped = q.shape[1] != k.shape[1]
    square = q.shape[2] == k.shape[2]
    narrow = mask.window is not None and mask.window < k.shape[2]
    if mask.first_key is None and not narrow and (square or q.shape[2] == 1):
        return F.scaled_dot_product_attention(q, k, v, is_causal=square, scale=scale, enable_gqa=grouped)
    if mask.first_key is None and mask.window is not None and q.shape[2] >= 2 * max(BAND, mask.window):
        return _banded(q, k, v, mask.window, scale)
    seen = mask.visible(q.shape[2], k.shape[2], q.device)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    if mask.first_key is None:
        return out
    return out.masked_fill(~seen.any(dim=-1, keepdim=True), 0.0)  # some of torch's backends give NaN there


def _banded(q: Tensor, k: Tensor, v: Tensor, window: int, scale: float | None) -> Tensor:
    """A narrow window over many queries: bands of them, each with only the keys that it can see."""
    queries, past, step = q.shape[2], k.shape[2] - q.shape[2], max(BAND, window)
    bands = []
    for begin in range(0, queries, step):
        end = min(begin + step, queries)
        first = max(0, past + begin - window + 1)
        seen = Causal(window=window).visible(end - begin, past + end - first, q.device)
        some_k, some_v = (t[:, :, first : past + end] for t in (k, v))
        bands.append(
            F.scaled_dot_product_attention(
                q[:, :, begin:end], some_k, some_v, attn_mask=seen, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
            )
        )
    return torch.cat(bands, dim=2)
