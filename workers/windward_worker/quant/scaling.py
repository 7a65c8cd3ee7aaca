"""Scales moved between a layer and what feeds it, before rounding: AWQ's search, and SmoothQuant's.

W x = (W s) (x / s) for any positive s, one for each column; 1 / s is folded into the norm or the matrix that makes x,
so the model computes the same and costs the same. What changes is what rounding does to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from windward_worker.quant.calibrate import InputStatistics
from windward_worker.quant.grid import output_error, round_to_nearest

STEPS = 20  # of the exponent's search
MIGRATION = 0.5  # SmoothQuant's alpha


def _centred(scale: Tensor) -> Tensor:
    """Around 1 (geometric mean of the extremes), and within what float16 scales can take up."""
    scale = scale.clamp_min(1e-4)
    return (scale / (scale.max() * scale.min()).sqrt()).clamp(1e-2, 1e2)


def search(weights: Sequence[Tensor], inputs: InputStatistics, bits: int, group: int) -> Tensor:
    """AWQ: scales mean|x|^a with the a in [0, 1) whose rounding errs least over all weights (F, C) that see x; (C,).

    Lin et al. 2023, arXiv 2306.00978, eq. 4 and 5. a = 0, plain rounding, is among those tried: never worse than it.
    """
    best, least = torch.ones_like(inputs.mean), float("inf")
    for step in range(STEPS):
        scale = _centred(inputs.mean ** (step / STEPS)) if step else torch.ones_like(inputs.mean)
        error = 0.0
        for weight in weights:
            rounded = round_to_nearest(weight * scale, bits, group).dense() / scale
            error += output_error(rounded - weight, inputs.hessian)
        if error < least:
            best, least = scale, error
    return best


def migrate(weights: Sequence[Tensor], inputs: InputStatistics) -> Tensor:
    """SmoothQuant: scales max|x|^a / max|w|^(1 - a) that share the range between activations and weights; (C,).

    Xiao et al. 2022, arXiv 2211.10438, eq. 4.
    """
    peak = torch.stack([w.abs().amax(0) for w in weights]).amax(0).clamp_min(1e-5)
    return _centred(inputs.peak.clamp_min(1e-5) ** MIGRATION / peak ** (1 - MIGRATION))
