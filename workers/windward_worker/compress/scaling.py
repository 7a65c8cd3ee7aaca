"""Scales moved between a layer and what feeds it, before rounding.

W x = (W s) (x / s) for any positive s, one for each column; 1 / s is folded into the norm or the matrix that makes x,
so the model computes the same and costs the same. What changes is what rounding does to it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from windward_worker.compress.calibrate import SHARED, InputStatistics, part_of
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block, Matrix

# Place (a name of SHARED), the matrices (F, C) that see it, and its inputs -> scales (C,); None: leave it alone.
Scales = Callable[[str, list[Tensor], InputStatistics], Tensor | None]


def centred(scale: Tensor) -> Tensor:
    """Around 1 (geometric mean of the extremes), and within what float16 scales can take up."""
    scale = scale.clamp_min(1e-4)
    return (scale / (scale.max() * scale.min()).sqrt()).clamp(1e-2, 1e2)


def move_scales(decoder: Decoder, block: Block, inputs: dict[str, InputStatistics], scales: Scales) -> None:
    """Move scales between each input and its source, in place; `inputs` then describe the scaled ones."""
    grouped = decoder.config.num_attention_heads != decoder.config.num_key_value_heads
    for name, (members, source) in SHARED.items():
        if name == "output" and grouped:
            continue  # several query heads read one row of v: no scale of its own for each
        weights = [part_of(block, m).weight for m in members]
        scale = scales(name, [w.data for w in weights], inputs[name])
        if scale is None:
            continue
        for weight in weights:
            weight.data = weight.data * scale
        into = part_of(block, source)
        into.weight.data = into.weight.data / (scale if into.weight.dim() == 1 else scale[:, None])
        if isinstance(into, Matrix) and into.bias is not None:
            into.bias.data = into.bias.data / scale
        inputs[name] = inputs[name].scaled(scale)
