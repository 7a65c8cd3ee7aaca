"""Fused operations for decoders: a reference in plain torch, fast paths held to it, and what each must cost.

Shapes stand in trailing comments: B batch, H heads, T time, D head size, C channels, F hidden size, V vocabulary.

Names are imported when first used: `windward_kernels.cpp`, which serves without torch, must not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_kernels.attention import Causal, attention
    from windward_kernels.fused import linear, rms_norm, rope, rope_table, swiglu
    from windward_kernels.packed import packed_linear, paged_attention, quantise_rows
    from windward_kernels.registry import REGISTRY, Cost, FastPath, Op, device, op
    from windward_kernels.sampling import sample

_HOMES = {
    "attention": ("Causal", "attention"),
    "fused": ("linear", "rms_norm", "rope", "rope_table", "swiglu"),
    "packed": ("packed_linear", "paged_attention", "quantise_rows"),
    "registry": ("REGISTRY", "Cost", "FastPath", "Op", "device", "op"),
    "sampling": ("sample",),
}

__all__ = [
    "REGISTRY",
    "Causal",
    "Cost",
    "FastPath",
    "Op",
    "attention",
    "device",
    "linear",
    "op",
    "packed_linear",
    "paged_attention",
    "quantise_rows",
    "rms_norm",
    "rope",
    "rope_table",
    "sample",
    "swiglu",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for home in _HOMES:  # all at once, so that REGISTRY is whole whoever asks for it
        module = importlib.import_module(f"{__name__}.{home}")
        globals().update({each: getattr(module, each) for each in _HOMES[home]})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
