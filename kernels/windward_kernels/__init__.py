"""Fused operations for decoders: a reference in plain torch, fast paths held to it, and what each must cost.

Shapes stand in trailing comments: B batch, H heads, T time, D head size, C channels, F hidden size, V vocabulary.
"""

from windward_kernels.attention import Causal, attention
from windward_kernels.fused import linear, rms_norm, rope, rope_table, swiglu
from windward_kernels.registry import REGISTRY, Cost, FastPath, Op, device, op
from windward_kernels.sampling import sample

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
    "rms_norm",
    "rope",
    "rope_table",
    "sample",
    "swiglu",
]
