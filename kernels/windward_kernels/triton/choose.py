"""The next token of each row: a draw from its softmax, in three passes over the logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from windward_kernels.sampling import sample as _sample

TILE = 1024


@triton.jit
def _draw(logits, draws, out, columns, row_stride, by, TILE: tl.constexpr):
    """One row: its peak, its sum, and the first token at which the running sum passes the draw's share of it."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, TILE)
    here = logits + row * row_stride + at
    peak = float("-inf")
    for first in range(0, columns, TILE):
        x = tl.load(here + first, mask=first + at < columns, other=float("-inf")).to(tl.float32)
        peak = tl.maximum(peak, tl.max(x, 0))
    total = 0.0
    for first in range(0, columns, TILE):
        x = tl.load(here + first, mask=first + at < columns, other=float("-inf")).to(tl.float32)
        total += tl.sum(tl.exp((x - peak) * by), 0)
    point = tl.load(draws + row) * total
    passed = 0.0
    chosen = 0
    for first in range(0, columns, TILE):
        x = tl.load(here + first, mask=first + at < columns, other=float("-inf")).to(tl.float32)
        weight = tl.exp((x - peak) * by)
        running = passed + tl.cumsum(weight, 0)
        chosen += tl.sum(((running <= point) & (first + at < columns)).to(tl.int32), 0)
        passed += tl.sum(weight, 0)
    tl.store(out + row, tl.minimum(chosen, columns - 1).to(tl.int64))


def sample(logits: Tensor, temperature: float, generators: Sequence[torch.Generator]) -> Tensor:
    """As `windward_kernels.sample`; sums are float32: a draw within their rounding of a border may fall beyond it."""
    if temperature <= 0 or len(generators) != len(logits) or not logits.numel():
        return _sample.reference(logits, temperature, generators)
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    draws = torch.stack([torch.rand((), dtype=torch.float64, generator=g) for g in generators])
    out = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    _draw[(len(logits),)](
        logits, draws.float().to(logits.device), out, logits.shape[1], logits.stride(0), 1 / temperature, TILE=TILE
    )  # fmt: skip
    return out
