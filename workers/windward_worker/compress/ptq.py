"""A decoder, quantised after training: block by block, each seeing what the quantised ones before it make."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from windward_worker.compress.calibrate import SHARED, CalibrationPass, blocks_of, part_of
from windward_worker.compress.grid import fitting_group, output_error, round_to_nearest
from windward_worker.compress.recipe import QuantisationResult, Rounding, Scheme
from windward_worker.compress.recipes import RECIPES
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block

OUTER_GROUP = 32  # of embedding and head, which always have 8 bits


def quantise(
    decoder: Decoder, windows: Tensor, scheme: Scheme, progress: Callable[[int], None] = lambda layer: None
) -> QuantisationResult:
    """Quantise `decoder` in place (its weights become what the codes stand for). windows (N, T): calibration tokens.

    Some recipes also change norms, and the rows of some matrices. Calls `progress` after each layer.
    """
    recipe = RECIPES[scheme.method]
    result = QuantisationResult(layer_bits=recipe.layer_bits(decoder, windows, scheme))
    calibration = CalibrationPass(decoder, windows)
    for index, block in blocks_of(decoder):
        inputs = calibration.inputs(block)
        recipe.prepare(decoder, block, inputs, scheme)
        for name, (members, _) in SHARED.items():
            rounding = recipe.rounding(inputs[name])
            for member in members:
                _round(block, f"layers.{index}.{member}", rounding, inputs[name].hessian, scheme, result)
        calibration.advance(block)
        progress(index)
    for name in ("embed_tokens", *(["lm_head"] if decoder.lm_head is not None else [])):
        weight = part_of(decoder, name).weight
        if fitting_group(weight.shape[1], OUTER_GROUP) is None:
            result.left.append(name)
            continue
        result.matrices[f"{name}.weight"] = round_to_nearest(weight.data, 8, OUTER_GROUP)
        weight.data = result.matrices[f"{name}.weight"].dense()
    return result


def _round(
    block: Block, name: str, rounding: Rounding, hessian: Tensor, scheme: Scheme, result: QuantisationResult
) -> None:
    """Round one matrix of a block, in place. `name`: its own in the decoder, such as `layers.3.mlp.up_proj`."""
    _, layer, member = name.split(".", 2)
    weight = part_of(block, member).weight
    group = fitting_group(weight.shape[1], scheme.group)
    if group is None:
        result.left.append(name)
        return
    rounded = rounding(weight.data, result.layer_bits[int(layer)], group)
    size = output_error(weight.data, hessian)
    result.errors[f"{name}.weight"] = output_error(rounded.dense() - weight.data, hessian) / max(size, 1e-30)
    result.matrices[f"{name}.weight"] = rounded
    weight.data = rounded.dense()


def w8a8_error(weight: Tensor, x: Tensor) -> float:
    """Relative error of W x with both rounded to 8 bits, activations by token: what SmoothQuant is to lower."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    rounded = (x / scale.clamp_min(1e-12)).round() * scale
    exact = x @ weight.T
    got = rounded @ round_to_nearest(weight, 8, OUTER_GROUP).dense().T
    return float(torch.linalg.vector_norm(got - exact) / torch.linalg.vector_norm(exact).clamp_min(1e-30))
