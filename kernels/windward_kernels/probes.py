"""What foreign kernels are proven on before they run: small calls on degenerate shapes, a few milliseconds an op.

Sizes of 0 and 1, odd ones, ones beside a vector's or a tile's length, and operands whose rows do not lie side by side:
where libraries switch kernels, and where those are wrong. Numbers come from a generator of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Calls = Iterator[tuple[tuple[Any, ...], dict[str, Any]]]


def draw(*shape: int, apart: bool = False) -> Tensor:
    """Normal numbers, the same for the same shape; `apart`: rows with a gap between them."""
    generator = torch.Generator().manual_seed(1 + sum(shape))
    if apart:
        return torch.randn((*shape[:-2], 2 * shape[-2], shape[-1]), generator=generator)[..., ::2, :]
    return torch.randn(shape, generator=generator)


def rows(*columns: int) -> Iterator[Tensor]:
    """Matrices of 0, 1 and more rows."""
    for count, width in itertools.product((0, 1, 2, 5), columns):
        yield draw(count, width)
        yield draw(count, width, apart=True)


def products(*, columns: tuple[int, ...], outputs: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor]]:
    """Left sides (M, K) and weights (N, K); the largest codes everywhere once, where 16-bit sums would overflow."""
    for count, width, height in itertools.product((0, 1, 3, 17), columns, outputs):
        yield draw(count, width, apart=width % 2 == 0), draw(height, width)
        yield torch.ones(count, width), torch.ones(height, width)


def heads() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Queries (1, Hq, Tq, D), keys and values (1, Hkv, Tk, D)."""
    shared = ((1, 1), (4, 2))
    for (of_q, of_kv), queries, past, size in itertools.product(shared, (0, 1, 17), (0, 1), (1, 8, 33)):
        k, v = (draw(1, of_kv, queries + past, size, apart=bool(past)) for _ in range(2))
        yield draw(1, of_q, queries, size), k, v + 0.5
