"""AWQ: columns that see loud inputs are scaled up before rounding, by as much as a search finds best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from windward_worker.compress.calibrate import InputStatistics
from windward_worker.compress.grid import fitting_group, output_error, round_to_nearest
from windward_worker.compress.recipe import Recipe, Scheme
from windward_worker.compress.scaling import centred, move_scales
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block

STEPS = 20  # of the exponent's search


def search(weights: Sequence[Tensor], inputs: InputStatistics, bits: int, group: int) -> Tensor:
    """AWQ: scales mean|x|^a with the a in [0, 1) whose rounding errs least over all weights (F, C) that see x; (C,).

    Lin et al. 2023, arXiv 2306.00978, eq. 4 and 5. a = 0, plain rounding, is among those tried: never worse than it.
    """
    best, least = torch.ones_like(inputs.mean), float("inf")
    for step in range(STEPS):
        scale = centred(inputs.mean ** (step / STEPS)) if step else torch.ones_like(inputs.mean)
        error = 0.0
        for weight in weights:
            rounded = round_to_nearest(weight * scale, bits, group).dense() / scale
            error += output_error(rounded - weight, inputs.hessian)
        if error < least:
            best, least = scale, error
    return best


class Awq(Recipe):
    """`search` for every input, then rounding to nearest."""

    name = "awq"

    def prepare(self, decoder: Decoder, block: Block, inputs: dict[str, InputStatistics], scheme: Scheme) -> None:
        def scales(place: str, weights: list[Tensor], seen: InputStatistics) -> Tensor | None:
            group = fitting_group(weights[0].shape[1], scheme.group)
            return None if group is None else search(weights, seen, scheme.bits, group)

        move_scales(decoder, block, inputs, scales)
