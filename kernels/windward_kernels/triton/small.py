"""The operations between products, one pass over memory each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEST = 1 << 16  # columns that one program holds
ELEMENTS = 1024


@triton.jit
def _norm(
    x, residual, weight, total, out, cols, eps, x_row, r_row, TILE: tl.constexpr, RESIDUAL: tl.constexpr
):  # fmt: skip
    """One row: (x + residual) / rms * weight."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, TILE)
    there = at < cols
    given = tl.load(x + row * x_row + at, mask=there, other=0.0)
    if RESIDUAL:
        given = given + tl.load(residual + row * r_row + at, mask=there, other=0.0)
        tl.store(total + row * cols + at, given, mask=there)
    wide = given.to(tl.float32)
    by = 1 / tl.sqrt(tl.sum(wide * wide, 0) / cols + eps)
    normed = wide * by * tl.load(weight + at, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * cols + at, normed.to(out.dtype.element_ty), mask=there)


@triton.jit
def _rope(
    x, cos, sin, out, time, heads, x_row, x_head, x_at, o_row, o_head, o_at, table_row,
    HALF: tl.constexpr, TILE_HALF: tl.constexpr, TILE_H: tl.constexpr,
):  # fmt: skip
    """All heads of one token: their angles are loaded once."""
    at = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    head = tl.arange(0, TILE_H)
    pair = tl.arange(0, TILE_HALF)
    real = pair < HALF
    angle = row * table_row + at * HALF + pair
    turn_x = tl.load(cos + angle, mask=real, other=0.0)[None, :]  # (1, D/2)
    turn_y = tl.load(sin + angle, mask=real, other=0.0)[None, :]
    there = (head < heads)[:, None] & real[None, :]
    here = x + row * x_row + head[:, None] * x_head + at * x_at + pair[None, :]
    first = tl.load(here, mask=there, other=0.0).to(tl.float32)
    second = tl.load(here + HALF, mask=there, other=0.0).to(tl.float32)
    into = out + row * o_row + head[:, None] * o_head + at * o_at + pair[None, :]
    tl.store(into, (first * turn_x - second * turn_y).to(out.dtype.element_ty), mask=there)
    tl.store(into + HALF, (second * turn_x + first * turn_y).to(out.dtype.element_ty), mask=there)


@triton.jit
def _swiglu(gate, up, out, count, TILE: tl.constexpr):
    """silu(gate) * up."""
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    there = at < count
    g = tl.load(gate + at, mask=there, other=0.0).to(tl.float32)
    u = tl.load(up + at, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, (g * tl.sigmoid(g) * u).to(out.dtype.element_ty), mask=there)


def _normed(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    cols = x.shape[-1]
    if cols > WIDEST:
        raise ValueError(f"rms_norm: rows of {cols} are wider than {WIDEST}")
    flat = x.contiguous().view(-1, cols)
    other = flat if residual is None else residual.contiguous().view(-1, cols)
    out = torch.empty_like(flat)
    total = torch.empty_like(flat) if residual is not None else flat
    if flat.numel():
        _norm[(flat.shape[0],)](
            flat, other, weight, total, out, cols, eps, flat.stride(0), other.stride(0),
            TILE=triton.next_power_of_2(cols), RESIDUAL=residual is not None,
        )  # fmt: skip
    return total.view(x.shape), out.view(x.shape)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As `windward_kernels.rms_norm`."""
    return _normed(x, None, weight, eps)[1]


def residual_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """As `windward_kernels.residual_rms_norm`."""
    return _normed(x, residual, weight, eps)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `windward_kernels.rope`."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    batch, heads, time, head_dim = x.shape
    if x.numel():
        half = head_dim // 2
        _rope[(time, batch)](
            x, cos, sin, out, time, heads, *x.stride()[:3], *out.stride()[:3], time * half if cos.dim() == 3 else 0,
            HALF=half, TILE_HALF=triton.next_power_of_2(half), TILE_H=triton.next_power_of_2(heads),
        )  # fmt: skip
    return out


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """As `windward_kernels.swiglu`."""
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    if gate.numel():
        _swiglu[(triton.cdiv(gate.numel(), ELEMENTS),)](gate, up, out, gate.numel(), TILE=ELEMENTS)
    return out
