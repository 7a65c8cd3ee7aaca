"""Choosing the next token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from windward_kernels.registry import Cost, op


def _cost(logits: Tensor, temperature: float, generators: Sequence[torch.Generator]) -> Cost:
    return Cost(4.0 * logits.numel(), float(logits.numel() * logits.element_size()))


@op(cost=_cost)
def sample(logits: Tensor, temperature: float, generators: Sequence[torch.Generator]) -> Tensor:
    """One token per row: the likeliest at temperature 0, else a draw from softmax(logits / temperature).

    logits (B, V); returns (B,) int64. Each row draws one uniform number from its own CPU generator and inverts the
    cumulative distribution, so a row's tokens do not depend on which other rows stand in its batch. `generators`
    may be empty at temperature 0.
    """
    if temperature <= 0 or not len(logits):
        return logits.argmax(dim=-1)
    if len(generators) != logits.shape[0]:
        raise ValueError(f"sample: {logits.shape[0]} rows need as many generators, got {len(generators)}")
    weight = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)  # (B, V)
    draw = torch.stack([torch.rand((), dtype=torch.float64, generator=g) for g in generators])
    point = (draw.to(weight.device) * weight[:, -1])[:, None]  # (B, 1)
    return torch.searchsorted(weight, point, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
