"""What each layer sees: second moments and sizes of its inputs over a calibration text, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windward_kernels import rope_table
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block, Matrix, RMSNorm

SHARED = {  # the matrices that see one input, and whence it comes: the matrix or norm whose output it is
    "qkv": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "input_layernorm"),
    "output": (("self_attn.o_proj",), "self_attn.v_proj"),
    "gate_up": (("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm"),
    "down": (("mlp.down_proj",), "mlp.up_proj"),
}


@dataclass(slots=True)
class InputStatistics:
    """Sums over the inputs x (C,) of one place: hessian = mean of x x^T (C, C), mean |x| and max |x| (C,)."""

    hessian: Tensor
    mean: Tensor
    peak: Tensor
    count: int = 0

    @classmethod
    def of(cls, cols: int) -> InputStatistics:
        return cls(torch.zeros(cols, cols), torch.zeros(cols), torch.zeros(cols))

    def add(self, x: Tensor) -> None:
        """x (..., C)."""
        flat = x.reshape(-1, x.shape[-1]).float()
        share = len(flat) / (self.count + len(flat))
        self.hessian.lerp_(flat.T @ flat / len(flat), share)
        self.mean.lerp_(flat.abs().mean(0), share)
        self.peak = torch.maximum(self.peak, flat.abs().amax(0))
        self.count += len(flat)

    def scaled(self, scale: Tensor) -> InputStatistics:
        """Of x / scale."""
        hessian = self.hessian / (scale[:, None] * scale[None, :])
        return InputStatistics(hessian, self.mean / scale, self.peak / scale, self.count)


def part_of(model: nn.Module, name: str) -> Matrix | RMSNorm:
    """The matrix or norm of this name inside a block or decoder."""
    part = model.get_submodule(name)
    assert isinstance(part, Matrix | RMSNorm)
    return part


class CalibrationPass:
    """The calibration text's states before one block after another, (N, T, C)."""

    def __init__(self, decoder: Decoder, windows: Tensor) -> None:
        """windows (N, T) token ids."""
        config = decoder.config
        place = torch.arange(windows.shape[1])
        self._turn = rope_table(place, config.head_dim, config.rope_theta)
        self.states = F.embedding(windows, decoder.embed_tokens.weight)

    def inputs(self, block: Block) -> dict[str, InputStatistics]:
        """Of the block's matrices, by the names of SHARED."""
        statistics: dict[str, InputStatistics] = {}
        hooks = []
        for name, (matrices, _) in SHARED.items():
            module = part_of(block, matrices[0])
            statistics[name] = InputStatistics.of(module.weight.shape[1])

            def note(_: nn.Module, inputs: tuple[Tensor, ...], into: InputStatistics = statistics[name]) -> None:
                into.add(inputs[0])

            hooks.append(module.register_forward_pre_hook(note))
        try:
            self._through(block)
        finally:
            for hook in hooks:
                hook.remove()
        return statistics

    def advance(self, block: Block) -> None:
        """The block, as it is now, is done: its outputs are the next one's inputs."""
        self.states = self._through(block)

    def _through(self, block: Block) -> Tensor:
        with torch.no_grad():
            return torch.cat([block(one[None], *self._turn, None, 0) for one in self.states])


def windows_of(ids: list[int], length: int, count: int) -> Tensor:
    """`count` windows of `length` tokens spread evenly over the text, (count, length)."""
    last = len(ids) - length
    starts = [round(i * last / max(1, count - 1)) for i in range(count)]
    return torch.tensor([ids[s : s + length] for s in starts])


def blocks_of(decoder: Decoder) -> Iterator[tuple[int, Block]]:
    """The decoder's blocks by index."""
    for index, block in enumerate(decoder.layers):
        assert isinstance(block, Block)
        yield index, block
