"""Mixed precision: 8 bits for the layers that suffer most from 4, within a budget.

How much a layer suffers is measured: what its rounding alone adds to the calibration text's cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels import linear
from windward_worker.compress.calibrate import CalibrationPass, blocks_of
from windward_worker.compress.grid import fitting_group, round_to_nearest
from windward_worker.compress.recipe import QuantisationResult, Scheme
from windward_worker.compress.recipes.gptq import Gptq
from windward_worker.control import Refused
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block


def matrices(block: Block) -> dict[str, Tensor]:
    """The block's matrices by name, such as `mlp.up_proj`."""
    return {n.removesuffix(".weight"): p for n, p in block.named_parameters() if p.dim() == 2}


def bits_of(bits: int, group: int) -> float:
    """Stored bits of a weight, its share of scale and low included."""
    return bits + 16 * (2 if bits == 4 else 1) / group


def losses(decoder: Decoder, windows: Tensor, group: int) -> list[float]:
    """Nats per token that rounding each layer to 4 bits adds, all others left alone. windows (N, T)."""
    calibration = CalibrationPass(decoder, windows)
    starts = []
    for _, block in blocks_of(decoder):
        starts.append(calibration.states)
        calibration.advance(block)
    whole = _entropy(decoder, calibration.states, windows)
    added = []
    for index, block in blocks_of(decoder):
        kept = {name: weight.data for name, weight in matrices(block).items()}
        for name, weight in matrices(block).items():
            size = fitting_group(weight.shape[1], group)
            weight.data = round_to_nearest(kept[name], 4, size).dense() if size else kept[name]
        calibration.states = starts[index]
        for later, each in blocks_of(decoder):
            if later >= index:
                calibration.advance(each)
        added.append(_entropy(decoder, calibration.states, windows) - whole)
        for name, weight in matrices(block).items():
            weight.data = kept[name]
    return added


def _entropy(decoder: Decoder, states: Tensor, windows: Tensor) -> float:
    """Mean cross-entropy of the next tokens, nats. states (N, T, C) after the last block."""
    head = decoder.embed_tokens if decoder.lm_head is None else decoder.lm_head
    total = 0.0
    with torch.no_grad():
        for one, tokens in zip(states, windows, strict=True):
            logits = linear(decoder.norm(one[:-1]), head.weight).float()
            total += float(F.cross_entropy(logits, tokens[1:]))
    return total / len(windows)


def assign(suffering: Mapping[int, float], sizes: Mapping[int, int], group: int, budget: float) -> dict[int, int]:
    """Bits of each layer: 8 first where a weight suffers most, as long as the mean stays within `budget` bits.

    sizes: weights of each layer. Budget and mean count scales (`bits_of`). Below 4 bits' own mean all layers get 4.
    """
    chosen = dict.fromkeys(sizes, 4)
    room = budget * sum(sizes.values()) - sum(bits_of(4, group) * n for n in sizes.values())
    for layer in sorted(suffering, key=lambda i: suffering[i] / sizes[i], reverse=True):
        more = (bits_of(8, group) - bits_of(4, group)) * sizes[layer]
        if more <= room + 1e-6 and suffering[layer] > 0:
            chosen[layer] = 8
            room -= more
    return chosen


class Mixed(Gptq):
    """GPTQ with 4 or 8 bits for each layer, as `assign` spends the budget."""

    name = "mixed"
    chooses_bits = True

    def check(self, scheme: Scheme) -> None:
        if not 4 <= scheme.budget <= 9:
            raise Refused(
                f"--budget: {scheme.budget:g} stored bits a weight; give 4 to 9 (4 bits in groups of 32 take 5)"
            )

    def layer_bits(self, decoder: Decoder, windows: Tensor, scheme: Scheme) -> dict[int, int]:
        sizes = {i: sum(w.numel() for w in matrices(b).values()) for i, b in blocks_of(decoder)}
        suffering = dict(enumerate(losses(decoder, windows, scheme.group)))
        return assign(suffering, sizes, scheme.group, scheme.budget)

    def describe(self, scheme: Scheme, result: QuantisationResult) -> dict[str, Any]:
        bits = [result.layer_bits[i] for i in sorted(result.layer_bits)]
        return {"budget": scheme.budget, "layer_bits": bits}
