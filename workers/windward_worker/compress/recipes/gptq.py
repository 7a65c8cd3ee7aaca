"""GPTQ: columns rounded one after another, each one's error made good by those that follow.

Frantar et al. 2022, arXiv 2210.17323, algorithm 1. The second moments H of the layer's inputs say how much a change of
one column can be offset by others; the Cholesky factor of H^-1 holds all that the loop needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from windward_worker.compress.calibrate import InputStatistics
from windward_worker.compress.grid import Quantised, grid, nearest, output_error, quantised_from, round_to_nearest
from windward_worker.compress.recipe import Recipe, Rounding

LAZY = 128  # columns whose errors are passed on to the rest in one product
DAMPING = 0.01  # of H's mean diagonal: keeps the inverse sound where inputs hardly vary


def inverse_factor(hessian: Tensor) -> Tensor:
    """Upper Cholesky factor of (H + damping)^-1, (C, C); more damping where H is not positive enough."""
    ridge = DAMPING * float(hessian.diagonal().mean()) or 1.0
    for _ in range(8):
        damped = hessian.double() + ridge * torch.eye(len(hessian), dtype=torch.float64)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
            return upper.float()
        ridge *= 10
    raise ArithmeticError("second moments of the inputs cannot be inverted: they are not finite")


def solve(weight: Tensor, upper: Tensor, bits: int, group: int) -> Quantised:
    """The loop itself. weight (F, C); upper (C, C) from `inverse_factor`."""
    rest = weight.clone()
    cols = weight.shape[1]
    codes = torch.empty_like(weight)
    scales, lows = [], []
    scale = torch.empty(0)
    low: Tensor | None = None
    for begin in range(0, cols, LAZY):
        end = min(begin + LAZY, cols)
        block = rest[:, begin:end]  # a view: changed in place
        errors = torch.zeros_like(block)
        for i in range(end - begin):
            if (begin + i) % group == 0:  # the grid spans the weights as they are now
                scale, low = grid(block[:, i : i + group], bits)
                scales.append(scale)
                if low is not None:
                    lows.append(low)
            code = nearest(block[:, i], scale, low)
            value = code * scale.float() + (0.0 if low is None else low.float())
            row = upper[begin + i, begin + i : end]
            errors[:, i] = (block[:, i] - value) / row[0]
            block[:, i + 1 :] -= errors[:, i, None] * row[None, 1:]
            codes[:, begin + i] = code
        rest[:, end:] -= errors @ upper[begin:end, end:]
    return quantised_from(codes, torch.stack(scales, 1), torch.stack(lows, 1) if lows else None, group)


def gptq(weight: Tensor, hessian: Tensor, upper: Tensor, bits: int, group: int) -> Quantised:
    """The better of GPTQ and plain rounding by the layer's own output error (plain wins where inputs hardly covary)."""
    plain = round_to_nearest(weight, bits, group)
    solved = solve(weight, upper, bits, group)
    if output_error(solved.dense() - weight, hessian) <= output_error(plain.dense() - weight, hessian):
        return solved
    return plain


class Gptq(Recipe):
    """`gptq` for every matrix; the factor of H^-1 is computed once for the matrices that share an input."""

    name = "gptq"

    def rounding(self, inputs: InputStatistics) -> Rounding:
        upper: Tensor | None = None

        def rounded(weight: Tensor, bits: int, group: int) -> Quantised:
            nonlocal upper
            if upper is None:
                upper = inverse_factor(inputs.hessian)
            return gptq(weight, inputs.hessian, upper, bits, group)

        return rounded
