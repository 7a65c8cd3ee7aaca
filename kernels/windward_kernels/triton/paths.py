"""The kernels of this folder as fast paths of their operations.

A compiled kernel is tried once, when a call first wants it, on a small case against its definition: one that this GPU
or compiler does not run, or runs wrong, is passed over with a warning, and torch's own path serves instead.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from windward_kernels.attention import attention as _attention
from windward_kernels.fused import residual_rms_norm, rms_norm, rope, swiglu
from windward_kernels.grouped import GroupedWeight, grouped_linear
from windward_kernels.pages import Pages, kv_append, paged_decode
from windward_kernels.products import RowWeight, w8a8_linear
from windward_kernels.ragged import BlockSparse, block_sparse_attention, ragged_attention
from windward_kernels.registry import Op, device
from windward_kernels.sampling import sample
from windward_kernels.triton import choose, decode, flash, grouped, small

log = logging.getLogger("windward.kernels")
Case = Callable[[], tuple[Any, ...]]
KINDS = ("cuda", "interpreter")


def _draw(*shape: int) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    return values.to("cuda", torch.bfloat16)


def _pages() -> tuple[Any, ...]:
    pages = Pages.empty(4, 16, 2, 64, torch.bfloat16, "cuda")
    pages.keys.copy_(_draw(*pages.keys.shape))
    pages.values.copy_(_draw(*pages.values.shape))
    table = torch.tensor([[2, 1], [0, 3]], dtype=torch.int32, device="cuda")
    return _draw(2, 8, 64), pages, table, torch.tensor([29, 7], dtype=torch.int32, device="cuda")


def _weight() -> tuple[Any, ...]:
    codes = torch.arange(96 * 128, device="cuda").reshape(96, 128) % 16
    scale = _draw(96, 2).abs() * 0.1
    return _draw(5, 128), GroupedWeight.of(codes, scale, -8 * scale, 64)


def _logits() -> tuple[Any, ...]:
    logits = torch.tensor([[0.0, 4.0, 1.0], [2.0, -1.0, 0.0]], device="cuda").repeat(1, 700)
    return logits, 0.7, [torch.Generator().manual_seed(s) for s in range(2)]


def _ends(*ends: int) -> Tensor:
    return torch.tensor(ends, dtype=torch.int32, device="cuda")


def _error(got: Any, expected: Any) -> float:
    """Largest difference over the largest expected value; of several results the worst."""
    if isinstance(got, Pages):
        got, expected = (got.keys, got.values), (expected.keys, expected.values)
    if isinstance(got, tuple):
        return max(_error(a, b) for a, b in zip(got, expected, strict=True))
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-30))


def proven(op: Op[..., Any], run: Callable[..., Any], case: Case) -> bool:
    """Whether the kernel computes the case as its op defines it; says why not in a warning."""
    try:
        error = _error(run(*case()), op.reference(*case()))
    except Exception as problem:  # a compiler or driver may raise anything; there is another path
        log.warning("Triton's %s is passed over: %s: %s", op.name, type(problem).__name__, problem)
        return False
    limit = op.tolerance.get(torch.bfloat16, 2e-2)
    if not error <= limit:
        log.warning("Triton's %s is passed over: its error of %.1e is above %.0e", op.name, error, limit)
        return False
    return True


def _without_gradients(op: Op[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` where no derivative is asked for; these kernels have none, so else the path registered before."""
    before = op.fast_paths[-1].run if op.fast_paths else op.reference

    @functools.wraps(run)
    def choose(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            return before(*args, **kwargs)
        if args[0].dtype == torch.float64:
            return op.reference(*args, **kwargs)
        return run(*args, **kwargs)

    return choose


def _register(op: Op[..., Any], run: Callable[..., Any], case: Case) -> None:
    ready = functools.cache(lambda: device() == "interpreter" or proven(op, run, case))
    op.fast("triton", *KINDS, ready=ready)(_without_gradients(op, run))


_register(_attention, flash.attention, lambda: (_draw(2, 8, 70, 64), _draw(2, 2, 90, 64), _draw(2, 2, 90, 64)))
_register(
    ragged_attention,
    flash.ragged_attention,
    lambda: (_draw(70, 8, 64), _draw(90, 2, 64), _draw(90, 2, 64), _ends(0, 65, 70), _ends(0, 80, 90)),
)
_register(
    block_sparse_attention,
    flash.block_sparse_attention,
    lambda: (
        _draw(2, 8, 70, 64),
        _draw(2, 2, 70, 64),
        _draw(2, 2, 70, 64),
        BlockSparse(_ends(0, 1, 2, 4), _ends(0, 1, 0, 2), 32),
    ),
)
_register(paged_decode, decode.paged_decode, _pages)
_register(
    kv_append,
    decode.kv_append,
    lambda: (_draw(3, 2, 64), _draw(3, 2, 64), Pages.empty(4, 16, 2, 64, torch.bfloat16, "cuda"), _ends(5, -1, 60)),
)
_register(rms_norm, small.rms_norm, lambda: (_draw(3, 96), _draw(96), 1e-5))
_register(residual_rms_norm, small.residual_rms_norm, lambda: (_draw(3, 96), _draw(3, 96), _draw(96), 1e-5))
_register(rope, small.rope, lambda: (_draw(2, 3, 5, 64), _draw(5, 32).float(), _draw(5, 32).float()))
_register(swiglu, small.swiglu, lambda: (_draw(3, 97), _draw(3, 97)))
_register(grouped_linear, grouped.grouped_linear, _weight)
_register(w8a8_linear, grouped.w8a8_linear, lambda: (_draw(5, 96), RowWeight.of(_draw(70, 96))))
_register(sample, choose.sample, _logits)
