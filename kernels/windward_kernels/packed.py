"""Operations on packed weights and paged caches: what the compiled decoder does in one call, piece by piece.

The references are the definitions in torch; the `cpp` paths are the very kernels that the decoder's step runs. They
serve inference alone: no gradients.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from windward_kernels import cpp
from windward_kernels.attention import Causal, attention
from windward_kernels.cpp.library import GROUP, PAGE, Q4
from windward_kernels.cpp.paged import PagePool, Step
from windward_kernels.cpp.weights import PackedWeight, linear
from windward_kernels.registry import Cost, op


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (M, K) int8 and scales (M, K / 32): in groups of 32, scale = max |x| / 127, rounded to nearest even."""
    groups = x.float().reshape(x.shape[0], x.shape[1] // GROUP, GROUP)  # (M, K / 32, 32)
    peak = groups.abs().amax(dim=-1, keepdim=True)
    codes = (groups * torch.where(peak > 0, 127 / peak, 0.0)).round()
    return codes.to(torch.int8).reshape(x.shape), peak.squeeze(-1) / 127


def _linear_cost(x: Tensor, weight: PackedWeight) -> Cost:
    rows = x.numel() // weight.cols
    moved = 4 * (x.numel() + rows * weight.rows) + weight.nbytes
    return Cost(2.0 * rows * weight.rows * weight.cols, float(moved))


@op(cost=_linear_cost, tolerance={torch.float32: 1e-5})
def packed_linear(x: Tensor, weight: PackedWeight) -> Tensor:
    """x W^T + b for a weight as it is stored. x (M, K) float32; returns (M, rows) float32.

    int4 and int8 weights meet activations rounded to int8 in groups of 32 (W4A8, W8A8: what GGML's Q8_1 does); float
    weights meet them as they are. The path's error is that of adding in float32; rounding belongs to the definition.
    """
    wide = x.double()
    if weight.kind >= Q4 and x.numel():
        codes, scale = quantise_rows(x)
        wide = (codes.reshape(x.shape[0], x.shape[1] // GROUP, GROUP).double() * scale.double()[..., None]).reshape(
            x.shape
        )
    out = wide @ torch.from_numpy(weight.dense()).double().T
    if weight.bias is not None:
        out = out + torch.from_numpy(weight.bias[: weight.rows])
    return out.float()


@packed_linear.fast("cpp", "cpu", ready=cpp.available)
def packed_linear_cpp(x: Tensor, weight: PackedWeight) -> Tensor:
    """vpdpbusd or vpmaddubsw on 16 interleaved rows; FMA for float weights."""
    return torch.from_numpy(linear(x.detach().float().contiguous().numpy(), [weight]))


def _paged_cost(
    q: Tensor, pool: PagePool, layer: int, step: Step, *, window: int | None = None, scale: float | None = None
) -> Cost:
    seen = step.position.astype(np.int64) + 1
    pairs = int((np.minimum(seen, window) if window else seen).sum())
    last = [int(seen[end - 1]) for begin, end in zip(step.first, step.first[1:], strict=False) if end > begin]
    moved = sum(min(n, window) if window else n for n in last) * pool.bytes_per_token / pool.layers
    return Cost(4.0 * pairs * q.shape[1] * q.shape[2], float(moved + 8 * q.numel()))


@op(cost=_paged_cost, tolerance={torch.float32: 2e-5})
def paged_attention(
    q: Tensor, pool: PagePool, layer: int, step: Step, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """Each token of a step against its sequence's stored past, its own place included. q (T, H, D); returns (T, H, D).

    The step's own keys and values must be in the pool. `window`: keys that a token sees at most.
    """
    out = torch.zeros(q.shape)
    for s, (begin, end) in enumerate(zip(step.first, step.first[1:], strict=False)):
        if begin == end:
            continue
        first, last = int(step.position[begin]), int(step.position[end - 1])
        oldest = max(0, first - window + 1) // PAGE * PAGE if window else 0
        k, v = (torch.from_numpy(x).transpose(0, 1)[None] for x in pool.read(layer, step.table[s], oldest, last + 1))
        own = q[begin:end].float().transpose(0, 1)[None]  # (1, H, T, D)
        out[begin:end] = attention.reference(own, k, v, mask=Causal(window=window), scale=scale)[0].transpose(0, 1)
    return out


@paged_attention.fast("cpp", "cpu", ready=cpp.available)
def paged_attention_cpp(
    q: Tensor, pool: PagePool, layer: int, step: Step, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """An online softmax over pages in chunks of 128 keys, the heads of a group together."""
    by = scale or q.shape[-1] ** -0.5
    return torch.from_numpy(pool.attend(layer, step, q.detach().float().contiguous().numpy(), window=window, scale=by))
