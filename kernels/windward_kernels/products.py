"""Products of 8-bit weights with activations rounded to 8 bits on the way: W8A8 in integers, and FP8.

Activations have one scale for each token, weights one for each row, so that both stand outside the sum:
y[m, n] = s_x[m] s_w[n] sum_k a[m, k] w[n, k] (Xiao et al. 2022, arXiv 2211.10438, eq. 2; formats of FP8: Micikevicius
et al. 2022, arXiv 2209.05433). The rounding of the activations belongs to the definition; paths may only
add otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from windward_kernels.probes import Calls, products
from windward_kernels.registry import Cost, op

FP8 = torch.float8_e4m3fn
TOP = {torch.int8: 127.0, FP8: 448.0}  # the largest code
LEAST_ROWS = 32  # torch's CUDA product of int8 wants more than 16
FP8_CAPABILITY = (8, 9)  # Ada, Hopper and later multiply FP8


@dataclass(frozen=True, slots=True)
class RowWeight:
    """A matrix (F, C) as codes, int8 or float8_e4m3fn (F, C), and a float32 scale for each row (F,)."""

    codes: Tensor
    scale: Tensor

    @classmethod
    def of(cls, weight: Tensor, dtype: torch.dtype = torch.int8) -> RowWeight:
        """Round each row of a float matrix to its own largest value."""
        return cls(*quantise_tokens(weight, dtype))

    @property
    def nbytes(self) -> int:
        return self.codes.numel() + 4 * self.scale.numel()

    def dense(self) -> Tensor:
        """Dequantised, (F, C) float32."""
        return self.codes.float() * self.scale[:, None]


def quantise_tokens(x: Tensor, dtype: torch.dtype = torch.int8) -> tuple[Tensor, Tensor]:
    """Codes (M, C) and float32 scales (M,): scale = max |x| over the largest code, rounded to nearest, half to even."""
    wide = x.float()
    scale = wide.abs().amax(dim=-1) / TOP[dtype] if x.shape[-1] else wide.new_zeros(len(x))
    by = torch.where(scale > 0, scale, 1.0)[:, None]
    codes = (wide / by).clamp(-TOP[dtype], TOP[dtype])
    return (codes.round() if dtype == torch.int8 else codes).to(dtype), scale


def _cost(x: Tensor, weight: RowWeight) -> Cost:
    rows, outputs = x.shape[0], weight.codes.shape[0]
    moved = (x.numel() + rows * outputs) * x.element_size() + weight.nbytes
    return Cost(2.0 * rows * weight.codes.numel(), float(moved))


def check(what: str, x: Tensor, weight: RowWeight, dtype: torch.dtype) -> None:
    """Raises ValueError where they do not fit each other."""
    if x.dim() != 2 or x.shape[-1] != weight.codes.shape[-1] or weight.codes.dtype != dtype:
        raise ValueError(f"{what}: x {tuple(x.shape)} and {weight.codes.dtype} {tuple(weight.codes.shape)} do not fit")


def _defined(x: Tensor, weight: RowWeight, dtype: torch.dtype) -> Tensor:
    codes, scale = quantise_tokens(x, dtype)
    summed = codes.double() @ weight.codes.double().T
    return (summed * scale.double()[:, None] * weight.scale.double()[None, :]).to(x.dtype)


def _probe() -> Calls:
    for x, weight in products(columns=(1, 2, 3, 8, 31, 33, 64), outputs=(1, 2, 17)):
        yield (x, RowWeight.of(weight)), {}


def _probe_fp8() -> Calls:
    for x, weight in products(columns=(1, 16, 33, 64), outputs=(1, 16)):
        yield (x, RowWeight.of(weight, FP8)), {}


PRODUCT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@op(cost=_cost, tolerance=PRODUCT_TOLERANCE, probe=_probe)
def w8a8_linear(x: Tensor, weight: RowWeight) -> Tensor:
    """x W^T with both in int8 and integer sums. x (M, C); returns (M, F) of x's type."""
    check("w8a8_linear", x, weight, torch.int8)
    return _defined(x, weight, torch.int8)


@w8a8_linear.fast("torch-float", "cpu")
def w8a8_float(x: Tensor, weight: RowWeight) -> Tensor:
    """The codes multiplied as float32, which holds each product, and their sum up to 2^24, exactly."""
    check("w8a8_linear", x, weight, torch.int8)
    codes, scale = quantise_tokens(x)
    summed = codes.float() @ weight.codes.float().T
    return (summed * scale[:, None] * weight.scale[None, :]).to(x.dtype)


def integers_here() -> bool:
    """Whether int8 products are worth it: a GPU, or a CPU with VNNI (without, torch's take 30 times float32's time)."""
    return torch.cuda.is_available() or torch.cpu._is_vnni_supported()


@w8a8_linear.fast("torch-int-mm", "cpu", "cuda", ready=integers_here)
def w8a8_int_mm(x: Tensor, weight: RowWeight) -> Tensor:
    """torch's integer product (VNNI on a CPU that has it, IMMA on CUDA, which takes multiples of 8 alone).

    On CPUs, torch 2.11's is garbage where the inner size is 1.
    """
    check("w8a8_linear", x, weight, torch.int8)
    rows, (outputs, cols) = x.shape[0], weight.codes.shape
    if not x.numel() or not outputs or cols == 1 or (x.is_cuda and (cols % 8 or outputs % 8)):
        return _defined(x, weight, torch.int8)
    codes, scale = quantise_tokens(x)
    if x.is_cuda and rows < LEAST_ROWS:
        codes = torch.nn.functional.pad(codes, (0, 0, 0, LEAST_ROWS - rows))
    summed = torch._int_mm(codes, weight.codes.T)[:rows]
    return (summed.float() * scale[:, None] * weight.scale[None, :]).to(x.dtype)


@op(
    cost=_cost,
    tolerance={**PRODUCT_TOLERANCE, torch.float32: 2e-3, torch.float64: 2e-3, torch.float16: 4e-3},
    probe=_probe_fp8,
)
def fp8_linear(x: Tensor, weight: RowWeight) -> Tensor:
    """x W^T with both in float8_e4m3fn. x (M, C); returns (M, F) of x's type.

    float32's tolerance is that of the tensor core's accumulator, which keeps about 14 bits (DeepSeek-AI 2024,
    arXiv 2412.19437, section 3.3.2).
    """
    check("fp8_linear", x, weight, FP8)
    return _defined(x, weight, FP8)


def fp8_here() -> bool:
    """Whether this GPU multiplies FP8."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= FP8_CAPABILITY


@fp8_linear.fast("torch-scaled-mm", "cuda", ready=fp8_here)
def fp8_scaled_mm(x: Tensor, weight: RowWeight) -> Tensor:
    """torch's FP8 product, which takes multiples of 16 alone, with scales of 1: ours are applied to its sums."""
    check("fp8_linear", x, weight, FP8)
    outputs, cols = weight.codes.shape
    if not x.numel() or not outputs or cols % 16 or outputs % 16:
        return _defined(x, weight, FP8)
    codes, scale = quantise_tokens(x, FP8)
    one = torch.ones((), device=x.device)
    summed = torch._scaled_mm(codes, weight.codes.T, scale_a=one, scale_b=one, out_dtype=torch.float32)
    return (summed * scale[:, None] * weight.scale[None, :]).to(x.dtype)
