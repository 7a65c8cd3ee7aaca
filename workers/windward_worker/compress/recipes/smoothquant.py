"""SmoothQuant: the range of activations moved into the weights, for products with both sides in int8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from windward_worker.compress.calibrate import InputStatistics
from windward_worker.compress.recipe import Recipe, Scheme
from windward_worker.compress.scaling import centred, move_scales
from windward_worker.control import Refused
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block

MIGRATION = 0.5  # alpha


def migrate(weights: Sequence[Tensor], inputs: InputStatistics) -> Tensor:
    """SmoothQuant: scales max|x|^a / max|w|^(1 - a) that share the range between activations and weights; (C,).

    Xiao et al. 2022, arXiv 2211.10438, eq. 4.
    """
    peak = torch.stack([w.abs().amax(0) for w in weights]).amax(0).clamp_min(1e-5)
    return centred(inputs.peak.clamp_min(1e-5) ** MIGRATION / peak ** (1 - MIGRATION))


class SmoothQuant(Recipe):
    """`migrate` for what a norm feeds, as published, then rounding to nearest."""

    name = "smoothquant"
    default_bits = 8

    def check(self, scheme: Scheme) -> None:
        if scheme.bits != 8:
            raise Refused(
                "--bits: smoothquant is for weights and activations of 8 bits; give --bits 8, or another method"
            )

    def prepare(self, decoder: Decoder, block: Block, inputs: dict[str, InputStatistics], scheme: Scheme) -> None:
        def scales(place: str, weights: list[Tensor], seen: InputStatistics) -> Tensor | None:
            return None if place in ("output", "down") else migrate(weights, seen)

        move_scales(decoder, block, inputs, scales)
