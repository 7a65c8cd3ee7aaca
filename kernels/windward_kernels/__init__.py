"""Fused operations for decoders: a reference in plain torch, fast paths held to it, and what each must cost.

Shapes stand in trailing comments: B batch, H heads, T time, D head size, C channels, F intermediate size, V vocabulary.

Names are imported when first used: `windward_kernels.cpp`, which serves without torch, must not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_kernels.attention import Causal, attention
    from windward_kernels.fused import linear, residual_rms_norm, rms_norm, rope, rope_table, swiglu
    from windward_kernels.grouped import GroupedWeight, grouped_linear
    from windward_kernels.packed import packed_linear, paged_attention, quantise_rows
    from windward_kernels.pages import INT4, Pages, kv_append, paged_decode, quantise_heads, quantise_heads4
    from windward_kernels.products import RowWeight, fp8_linear, quantise_tokens, w8a8_linear
    from windward_kernels.ragged import BlockSparse, block_sparse_attention, ragged_attention
    from windward_kernels.registry import REGISTRY, Cost, FastPath, Op, device, op
    from windward_kernels.sampling import sample

_HOMES = {
    "attention": ("Causal", "attention"),
    "fused": ("linear", "residual_rms_norm", "rms_norm", "rope", "rope_table", "swiglu"),
    "grouped": ("GroupedWeight", "grouped_linear"),
    "packed": ("packed_linear", "paged_attention", "quantise_rows"),
    "pages": ("INT4", "Pages", "kv_append", "paged_decode", "quantise_heads", "quantise_heads4"),
    "products": ("RowWeight", "fp8_linear", "quantise_tokens", "w8a8_linear"),
    "ragged": ("BlockSparse", "block_sparse_attention", "ragged_attention"),
    "registry": ("REGISTRY", "Cost", "FastPath", "Op", "device", "op"),
    "sampling": ("sample",),
}

__all__ = [
    "INT4",
    "REGISTRY",
    "BlockSparse",
    "Causal",
    "Cost",
    "FastPath",
    "GroupedWeight",
    "Op",
    "Pages",
    "RowWeight",
    "attention",
    "block_sparse_attention",
    "device",
    "fp8_linear",
    "grouped_linear",
    "kv_append",
    "linear",
    "op",
    "packed_linear",
    "paged_attention",
    "paged_decode",
    "quantise_heads",
    "quantise_heads4",
    "quantise_rows",
    "quantise_tokens",
    "ragged_attention",
    "residual_rms_norm",
    "rms_norm",
    "rope",
    "rope_table",
    "sample",
    "swiglu",
    "w8a8_linear",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for home in _HOMES:  # all at once, so that REGISTRY is whole whoever asks for it
        module = importlib.import_module(f"{__name__}.{home}")
        globals().update({each: getattr(module, each) for each in _HOMES[home]})
    from windward_kernels.registry import triton_here

    if triton_here():  # decided once; elsewhere triton is never imported
        importlib.import_module(f"{__name__}.triton")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
