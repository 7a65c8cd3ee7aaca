"""The small operations between the matrix products, and the linear layer itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels.probes import Calls, products, rows
from windward_kernels.registry import Cost, op


def _elementwise(flops_each: float, *tensors: Tensor, writes: int = 1) -> Cost:
    moved = sum(t.numel() * t.element_size() for t in tensors) + writes * tensors[0].numel() * tensors[0].element_size()
    return Cost(flops_each * tensors[0].numel(), float(moved))


def _probe_norm() -> Calls:
    for x in rows(1, 2, 7, 33):
        yield (x, torch.linspace(-1, 1, x.shape[-1]), 1e-5), {}


def _probe_residual() -> Calls:
    for (x, weight, eps), _ in _probe_norm():
        yield (x, 1 - x, weight, eps), {}


def _probe_gate() -> Calls:
    for x in rows(1, 2, 7, 33):
        yield (x, 1 - x), {}


def _probe_linear() -> Calls:
    for pair in products(columns=(1, 2, 7, 33), outputs=(1, 2, 17)):
        yield pair, {}


@op(cost=lambda x, weight, eps: _elementwise(4, x, weight), probe=_probe_norm)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32 inside. x (..., C), weight (C,).

    Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    scaled = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (scaled * weight.to(wide.dtype)).to(x.dtype)


@rms_norm.fast("torch-fused", "cpu", "cuda")
def rms_norm_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """torch's own: one pass on CUDA, fewer temporaries on the CPU."""
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


@op(cost=lambda x, residual, weight, eps: _elementwise(5, x, residual, weight, writes=2), probe=_probe_residual)
def residual_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The new residual stream x + residual, and its `rms_norm`, in one pass over memory. (..., C) each."""
    total = x + residual
    return total, rms_norm.reference(total, weight, eps)


@residual_rms_norm.fast("torch-fused", "cpu", "cuda")
def residual_rms_norm_torch(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum, then torch's own norm."""
    total = x + residual
    return total, F.rms_norm(total, (x.shape[-1],), weight.to(x.dtype), eps)


def rope_table(positions: Tensor, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (..., D/2), float32, for integer positions (...).

    Pair i turns by position * base^(-2i/D): Su et al. 2021, arXiv 2104.09864, section 3.2.2.
    """
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angle = positions[..., None].float() * base**-exponent  # (..., D/2)
    return angle.cos(), angle.sin()


@op(cost=lambda x, cos, sin: _elementwise(3, x, cos, sin))
def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + D/2]) by their angles: the half-split order of Hugging Face checkpoints.

    x (B, H, T, D); cos, sin (T, D/2) or (B, T, D/2). Weights in adjacent-pair order (GGUF) are permuted when loaded,
    so that only one order ever runs.
    """
    if cos.dim() == 3:
        cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, D/2)
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


@op(cost=lambda gate, up: _elementwise(5, gate, up), probe=_probe_gate)
def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, both (..., F). Shazeer 2020, arXiv 2002.05202, eq. 6."""
    return gate * torch.sigmoid(gate) * up


@swiglu.fast("torch-silu", "cpu", "cuda")
def swiglu_torch(gate: Tensor, up: Tensor) -> Tensor:
    """One temporary less, and its derivative fused."""
    return F.silu(gate) * up


def _linear_cost(x: Tensor, weight: Tensor) -> Cost:
    rows = x.numel() // x.shape[-1]
    moved = x.numel() + weight.numel() + rows * weight.shape[0]
    return Cost(2.0 * rows * weight.numel(), float(moved * x.element_size()))


@op(cost=_linear_cost, probe=_probe_linear)
def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T. x (..., C), weight (F, C); returns (..., F)."""
    return x @ weight.transpose(0, 1)


@linear.fast("torch-linear", "cpu", "cuda")
def linear_torch(x: Tensor, weight: Tensor) -> Tensor:
    """The same through `F.linear`, which picks a matrix-vector kernel for one row."""
    return F.linear(x, weight)
