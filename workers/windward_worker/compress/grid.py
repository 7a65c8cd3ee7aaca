"""Codes on a grid: rounding a matrix to 4 or 8 bits in groups of columns, and how far that is from the matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BITS = (4, 8)
GROUPS = (32, 64, 128)
BLOCK = 32  # columns of a block of the packed layout: byte j holds column j below, column j + 16 above


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix (F, C) as codes and, for each row and group of columns, scale and low: w = scale * code + low.

    4 bits: codes 0..15 and a low; 8 bits: codes -127..127, `low` None. scale, low (F, C / group) float16.
    """

    codes: Tensor  # (F, C) uint8 or int8
    scale: Tensor
    low: Tensor | None
    group: int

    @property
    def bits(self) -> int:
        return 8 if self.low is None else 4

    @property
    def nbytes(self) -> int:
        """As stored, scales included."""
        halves = self.scale.numel() + (self.low.numel() if self.low is not None else 0)
        return self.codes.numel() * self.bits // 8 + 2 * halves

    def dense(self) -> Tensor:
        """What the codes stand for, (F, C) float32."""
        wide = self.codes.float().reshape(*self.scale.shape, self.group) * self.scale.float()[..., None]
        if self.low is not None:
            wide = wide + self.low.float()[..., None]
        return wide.reshape(self.codes.shape)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What a file keeps for the matrix of this name: two 4-bit codes a byte."""
        if self.low is None:
            return {f"{name}_codes": self.codes, f"{name}_scale": self.scale}
        blocks = self.codes.reshape(self.codes.shape[0], -1, 2, BLOCK // 2)
        packed = (blocks[:, :, 0] | blocks[:, :, 1] << 4).reshape(self.codes.shape[0], -1)
        return {f"{name}_codes": packed.contiguous(), f"{name}_scale": self.scale, f"{name}_low": self.low}


def fitting_group(cols: int, largest: int) -> int | None:
    """The largest group up to `largest` that divides the columns; None: the matrix must stay as it is."""
    return next((g for g in sorted(GROUPS, reverse=True) if g <= largest and cols % g == 0), None)


def grid(groups: Tensor, bits: int) -> tuple[Tensor, Tensor | None]:
    """Scale and low, (...,) float16, that span groups (..., g): 4 bits least to greatest, 8 bits around zero."""
    if bits == 8:
        return (groups.abs().amax(-1) / 127).half(), None
    low = groups.amin(-1).half()
    return ((groups.amax(-1) - low.float()) / 15).clamp_min(0).half(), low


def nearest(weight: Tensor, scale: Tensor, low: Tensor | None) -> Tensor:
    """The codes nearest to the weights, as float32; scale and low broadcast over them. A scale of 0 has code 0."""
    wide = scale.float()
    shifted = weight if low is None else weight - low.float()
    codes = torch.where(wide > 0, shifted / torch.where(wide > 0, wide, 1.0), 0.0).round()
    return codes.clamp(-127, 127) if low is None else codes.clamp(0, 15)


def quantised_from(codes: Tensor, scale: Tensor, low: Tensor | None, group: int) -> Quantised:
    """From float codes (F, C)."""
    return Quantised(codes.to(torch.int8 if low is None else torch.uint8), scale, low, group)


def round_to_nearest(weight: Tensor, bits: int, group: int) -> Quantised:
    """Each weight to the nearest code of its group's grid. weight (F, C) float32, C a multiple of `group`."""
    groups = weight.reshape(weight.shape[0], -1, group)  # (F, C / group, group)
    scale, low = grid(groups, bits)
    codes = nearest(groups, scale[..., None], None if low is None else low[..., None])
    return quantised_from(codes.reshape(weight.shape), scale, low, group)


def output_error(difference: Tensor, hessian: Tensor) -> float:
    """Sum of squares of (difference x) over the inputs whose second moments `hessian` (C, C) holds: tr(D H D^T)."""
    return float(((difference @ hessian) * difference).sum())
