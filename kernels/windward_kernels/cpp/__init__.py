"""The compiled extension: quantised products, paged attention and a decoder's whole step, for CPUs. No torch."""

from windward_kernels.cpp.build import Unavailable
from windward_kernels.cpp.library import available, isa, library, set_threads, why_not
from windward_kernels.cpp.paged import PagePool, SequenceInput, Step
from windward_kernels.cpp.weights import (
    PackedWeight,
    aligned,
    blocks_int4,
    linear,
    pack,
    quantise_int4,
    quantise_int8,
)

__all__ = [
    "PackedWeight",
    "PagePool",
    "SequenceInput",
    "Step",
    "Unavailable",
    "aligned",
    "available",
    "blocks_int4",
    "isa",
    "library",
    "linear",
    "pack",
    "quantise_int4",
    "quantise_int8",
    "set_threads",
    "why_not",
]
