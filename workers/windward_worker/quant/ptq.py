"""A decoder, quantised after training: block by block, each seeing what the quantised ones before it make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block, Matrix
from windward_worker.quant.calibrate import SHARED, CalibrationPass, InputStatistics, blocks_of, part_of
from windward_worker.quant.gptq import gptq, inverse_factor
from windward_worker.quant.grid import Quantised, fitting_group, output_error, round_to_nearest
from windward_worker.quant.scaling import migrate, search
from windward_worker.quant.sensitivity import assign, losses, matrices

METHODS = ("rtn", "gptq", "awq", "smoothquant", "mixed")
OUTER_GROUP = 32  # of embedding and head, which always have 8 bits


@dataclass(frozen=True, slots=True)
class Scheme:
    """How to quantise. `budget`: mean stored bits a weight of the blocks that `mixed` may spend."""

    method: str
    bits: int = 4
    group: int = 32
    budget: float = 6.0


@dataclass(slots=True)
class QuantisationResult:
    """The quantised matrices by name, each one's relative output error, and the names of those left in float."""

    matrices: dict[str, Quantised] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    layer_bits: dict[int, int] = field(default_factory=dict)

    @property
    def mean_bits(self) -> float:
        """Stored bits a quantised weight of the blocks, scales included."""
        inner = [m for n, m in self.matrices.items() if n.startswith("layers.")]
        return 8 * sum(m.nbytes for m in inner) / max(1, sum(m.codes.numel() for m in inner))


def quantise(
    decoder: Decoder, windows: Tensor, scheme: Scheme, progress: Callable[[int], None] = lambda layer: None
) -> QuantisationResult:
    """Quantise `decoder` in place (its weights become what the codes stand for). windows (N, T): calibration tokens.

    `awq` and `smoothquant` also change norms, and awq the rows of some matrices. Calls `progress` after each layer.
    """
    result = QuantisationResult(layer_bits=dict.fromkeys(range(decoder.config.num_hidden_layers), scheme.bits))
    if scheme.method == "mixed":
        sizes = {i: sum(w.numel() for w in matrices(b).values()) for i, b in blocks_of(decoder)}
        suffering = dict(enumerate(losses(decoder, windows, scheme.group)))
        result.layer_bits = assign(suffering, sizes, scheme.group, scheme.budget)
    calibration = CalibrationPass(decoder, windows)
    for index, block in blocks_of(decoder):
        inputs = calibration.inputs(block)
        if scheme.method in ("awq", "smoothquant"):
            _rescale(decoder, block, inputs, scheme)
        for name, (members, _) in SHARED.items():
            _round(block, index, members, inputs[name], scheme, result)
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


def _rescale(decoder: Decoder, block: Block, inputs: dict[str, InputStatistics], scheme: Scheme) -> None:
    """Move scales between each input and its source, in place; `inputs` then describe the scaled ones."""
    grouped = decoder.config.num_attention_heads != decoder.config.num_key_value_heads
    for name, (members, source) in SHARED.items():
        weights = [part_of(block, m).weight for m in members]
        into = part_of(block, source)
        if name == "output" and grouped:
            continue  # several query heads read one row of v: no scale of its own for each
        if scheme.method == "smoothquant":
            if name in ("output", "down"):
                continue  # as published: only what a norm feeds
            scale = migrate([w.data for w in weights], inputs[name])
        else:
            group = fitting_group(weights[0].shape[1], scheme.group)
            if group is None:
                continue
            scale = search([w.data for w in weights], inputs[name], scheme.bits, group)
        for weight in weights:
            weight.data = weight.data * scale
        into.weight.data = into.weight.data / (scale if into.weight.dim() == 1 else scale[:, None])
        if isinstance(into, Matrix) and into.bias is not None:
            into.bias.data = into.bias.data / scale
        inputs[name] = inputs[name].scaled(scale)


def _round(
    block: Block,
    index: int,
    members: tuple[str, ...],
    inputs: InputStatistics,
    scheme: Scheme,
    result: QuantisationResult,
) -> None:
    """Round the matrices that share an input, in place."""
    bits = result.layer_bits[index]
    upper: Tensor | None = None
    for member in members:
        weight = part_of(block, member).weight
        name = f"layers.{index}.{member}.weight"
        group = fitting_group(weight.shape[1], scheme.group)
        if group is None:
            result.left.append(name.removesuffix(".weight"))
            continue
        if scheme.method in ("gptq", "mixed"):
            upper = inverse_factor(inputs.hessian) if upper is None else upper
            rounded = gptq(weight.data, inputs.hessian, upper, bits, group)
        else:
            rounded = round_to_nearest(weight.data, bits, group)
        size = output_error(weight.data, inputs.hessian)
        result.errors[name] = output_error(rounded.dense() - weight.data, inputs.hessian) / max(size, 1e-30)
        result.matrices[name] = rounded
        weight.data = rounded.dense()


def w8a8_error(weight: Tensor, x: Tensor) -> float:
    """Relative error of W x with both rounded to 8 bits, activations by token: what SmoothQuant is to lower."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    rounded = (x / scale.clamp_min(1e-12)).round() * scale
    exact = x @ weight.T
    got = rounded @ round_to_nearest(weight, 8, OUTER_GROUP).dense().T
    return float(torch.linalg.vector_norm(got - exact) / torch.linalg.vector_norm(exact).clamp_min(1e-30))
