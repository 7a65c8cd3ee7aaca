"""Products with weights of 4 or 8 bits: dequantised in registers (W4A16, W8A16), or in integers (W8A8)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from windward_kernels.grouped import GroupedWeight
from windward_kernels.products import RowWeight, check, quantise_tokens
from windward_kernels.triton.launch import LEAST, precision, tile, tuned, upcast


@triton.jit
def _product(
    x, codes, scale, low, out, rows, outputs, cols, groups, x_row,
    GROUP: tl.constexpr, BITS: tl.constexpr, TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of the output. A step takes TILE_K codes of one group a row; of 4-bit bytes, the lower halves meet the
    first 16 of every 32 columns and the upper halves the other 16, so that each byte is loaded once."""
    m = tl.program_id(1) * TILE_M + tl.arange(0, TILE_M)
    n = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    acc = tl.zeros((TILE_M, TILE_N), tl.float32)
    for step in range(0, cols, TILE_K):
        at = n * groups + step // GROUP
        by = tl.load(scale + at, mask=n < outputs, other=0.0).to(tl.float32)[None, :]  # (1, N)
        if BITS == 4:
            byte = tl.arange(0, TILE_K // 2)
            packed = tl.load(
                codes + n[None, :].to(tl.int64) * (cols // 2) + step // 2 + byte[:, None],
                mask=(n < outputs)[None, :], other=0,
            )  # (K / 2, N)  # fmt: skip
            least = tl.load(low + at, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
            col = step + byte // 16 * 32 + byte % 16
            here = x + m[:, None].to(tl.int64) * x_row + col[None, :]
            lower = tl.load(here, mask=(m < rows)[:, None], other=0.0)  # (M, K / 2)
            upper = tl.load(here + 16, mask=(m < rows)[:, None], other=0.0)
            if UPCAST:
                lower, upper = lower.to(tl.float32), upper.to(tl.float32)
            w_lower = ((packed & 15).to(tl.float32) * by + least).to(lower.dtype)
            w_upper = ((packed >> 4).to(tl.float32) * by + least).to(upper.dtype)
            acc += tl.dot(lower, w_lower, input_precision=PRECISION)
            acc += tl.dot(upper, w_upper, input_precision=PRECISION)
        else:
            col = step + tl.arange(0, TILE_K)
            code = tl.load(
                codes + n[None, :].to(tl.int64) * cols + col[:, None], mask=(n < outputs)[None, :], other=0
            )  # (K, N)
            given = tl.load(x + m[:, None].to(tl.int64) * x_row + col[None, :], mask=(m < rows)[:, None], other=0.0)
            if UPCAST:
                given = given.to(tl.float32)
            acc += tl.dot(given, (code.to(tl.float32) * by).to(given.dtype), input_precision=PRECISION)
    into = out + m[:, None].to(tl.int64) * outputs + n[None, :]
    tl.store(into, acc.to(out.dtype.element_ty), mask=(m < rows)[:, None] & (n < outputs)[None, :])


@triton.jit
def _integers(
    x, codes, x_scale, scale, out, rows, outputs, cols,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr,
):  # fmt: skip
    """A tile of the output: int8 times int8 summed in int32, both scales at the end. x (M, C) and codes (F, C) int8."""
    m = tl.program_id(1) * TILE_M + tl.arange(0, TILE_M)
    n = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    acc = tl.zeros((TILE_M, TILE_N), tl.int32)
    for step in range(0, cols, TILE_K):
        col = step + tl.arange(0, TILE_K)
        given = tl.load(
            x + m[:, None].to(tl.int64) * cols + col[None, :],
            mask=(m < rows)[:, None] & (col < cols)[None, :], other=0,
        )  # fmt: skip
        code = tl.load(
            codes + n[None, :].to(tl.int64) * cols + col[:, None],
            mask=(n < outputs)[None, :] & (col < cols)[:, None], other=0,
        )  # (K, N)  # fmt: skip
        acc += tl.dot(given, code, out_dtype=tl.int32)
    by_row = tl.load(x_scale + m, mask=m < rows, other=0.0)
    by_col = tl.load(scale + n, mask=n < outputs, other=0.0)
    product = acc.to(tl.float32) * by_row[:, None] * by_col[None, :]
    into = out + m[:, None].to(tl.int64) * outputs + n[None, :]
    tl.store(into, product.to(out.dtype.element_ty), mask=(m < rows)[:, None] & (n < outputs)[None, :])


def w8a8_linear(x: Tensor, weight: RowWeight) -> Tensor:
    """As `windward_kernels.w8a8_linear`."""
    check("w8a8_linear", x, weight, torch.int8)
    outputs, cols = weight.codes.shape
    out = torch.zeros((x.shape[0], outputs), dtype=x.dtype, device=x.device)
    if not out.numel() or not cols:
        return out
    given, x_scale = quantise_tokens(x)
    sizes = tuned("w8a8", cols, {"TILE_M": min(64, tile(len(x))), "TILE_N": min(64, tile(outputs)), "TILE_K": 64})
    grid = (triton.cdiv(outputs, sizes["TILE_N"]), triton.cdiv(len(x), sizes["TILE_M"]))
    _integers[grid](given, weight.codes, x_scale, weight.scale, out, len(x), outputs, cols, **sizes)
    return out


def grouped_linear(x: Tensor, weight: GroupedWeight) -> Tensor:
    """As `windward_kernels.grouped_linear`."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    outputs, cols = weight.shape
    out = torch.empty((x.shape[0], outputs), dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    sizes = tuned("grouped", cols, {"TILE_M": min(64, tile(x.shape[0])), "TILE_N": min(64, tile(outputs))})
    _product[(triton.cdiv(outputs, sizes["TILE_N"]), triton.cdiv(x.shape[0], sizes["TILE_M"]))](
        x, weight.codes, weight.scale, weight.scale if weight.low is None else weight.low, out,
        x.shape[0], outputs, cols, cols // weight.group, x.stride(0),
        GROUP=weight.group, BITS=weight.bits, **sizes,
        TILE_K=max(2 * LEAST, min(128, weight.group & -weight.group)),
        UPCAST=upcast(x), PRECISION=precision(x),
    )  # fmt: skip
    return out
