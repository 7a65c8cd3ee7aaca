"""Weight-only quantised products: float activations meet weights of 4 or 8 bits in groups along their columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from windward_kernels.registry import Cost, op

BLOCK = 32  # columns whose 4-bit codes share 16 bytes: byte j holds column j below, column j + 16 above


@dataclass(frozen=True, slots=True)
class GroupedWeight:
    """A matrix (F, C) as codes: w = scale * code + low, a scale and a low for each row and group of columns.

    bits 4: codes uint8 (F, C / 2), 0..15, two a byte; bits 8: codes int8 (F, C), `low` None. scale, low (F, C / group)
    float16. `group` is a multiple of 32 and divides C.
    """

    codes: Tensor
    scale: Tensor
    low: Tensor | None
    group: int

    @classmethod
    def of(cls, codes: Tensor, scale: Tensor, low: Tensor | None, group: int) -> GroupedWeight:
        """From one code a byte, (F, C). Raises ValueError where the groups do not fit."""
        rows, cols = codes.shape
        if group % BLOCK or cols % group or scale.shape != (rows, cols // group):
            raise ValueError(f"grouped weight: {rows} x {cols} with scales {tuple(scale.shape)} in groups of {group}")
        if low is None:
            return cls(codes.to(torch.int8), scale.half(), None, group)
        blocks = codes.to(torch.uint8).reshape(rows, -1, 2, BLOCK // 2)
        return cls((blocks[:, :, 0] | blocks[:, :, 1] << 4).reshape(rows, cols // 2), scale.half(), low.half(), group)

    @property
    def bits(self) -> int:
        return 8 if self.low is None else 4

    @property
    def shape(self) -> tuple[int, int]:
        """(F, C)."""
        return self.codes.shape[0], self.codes.shape[1] * (8 // self.bits)

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.codes, self.scale, self.low) if t is not None)

    def dense(self) -> Tensor:
        """Dequantised, (F, C) float32."""
        rows, cols = self.shape
        codes = self.codes
        if self.low is not None:
            pairs = codes.reshape(rows, -1, BLOCK // 2)
            codes = torch.stack((pairs & 15, pairs >> 4), dim=2).reshape(rows, cols)
        wide = codes.float().reshape(rows, -1, self.group) * self.scale.float()[..., None]
        if self.low is not None:
            wide = wide + self.low.float()[..., None]
        return wide.reshape(rows, cols)


def _cost(x: Tensor, weight: GroupedWeight) -> Cost:
    rows = x.numel() // x.shape[-1]
    moved = (x.numel() + rows * weight.shape[0]) * x.element_size() + weight.nbytes
    return Cost(2.0 * rows * weight.shape[0] * weight.shape[1], float(moved))


@op(cost=_cost, tolerance={torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2})
def grouped_linear(x: Tensor, weight: GroupedWeight) -> Tensor:
    """x W^T, W dequantised to x's type (W4A16, W8A16). x (M, C); returns (M, F)."""
    return x @ weight.dense().to(x.dtype).T
