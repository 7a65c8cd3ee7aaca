"""The extension, loaded: C structs mirrored in ctypes, and its entry points. numpy alone, no torch.

abi.h is the other half of this file; field names and order are its.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p

from windward_kernels.cpp.build import Unavailable, library_path

F32, F16, BF16, Q4, Q8 = range(5)
KV_F32, KV_F16, KV_INT8, KV_INT4 = range(4)
PAGE = 16  # tokens of a KV page
KV_GROUP = 32  # columns of an int4 key or value that share a scale
GROUP = 32  # columns that share a scale
PANEL = 16  # output rows that lie interleaved
ENV_BACKEND = "WINDWARD_KERNELS"


class CWeight(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("rows", c_int32),
        ("cols", c_int32),
        ("reserved", c_int32),
        ("data", c_void_p),
        ("bias", c_void_p),
    ]


class CLinear(ctypes.Structure):
    _fields_ = [("parts", c_int32), ("rows", c_int32), ("part", CWeight * 3)]


class CLayer(ctypes.Structure):
    _fields_ = [
        ("attention_norm", c_void_p),
        ("ffn_norm", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("qkv", CLinear),
        ("output", CLinear),
        ("gate_up", CLinear),
        ("down", CLinear),
    ]


class CModel(ctypes.Structure):
    _fields_ = [
        ("num_hidden_layers", c_int32),
        ("hidden_size", c_int32),
        ("num_attention_heads", c_int32),
        ("num_key_value_heads", c_int32),
        ("head_dim", c_int32),
        ("intermediate_size", c_int32),
        ("vocab_size", c_int32),
        ("sliding_window", c_int32),
        ("eps", c_float),
        ("max_position_embeddings", c_int32),
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("layer", POINTER(CLayer)),
        ("final_norm", c_void_p),
        ("embedding", CWeight),
        ("head", CLinear),
    ]


class CKv(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("blocks", c_int32),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("key_scales", c_void_p),
        ("value_scales", c_void_p),
    ]


class CStep(ctypes.Structure):
    _fields_ = [
        ("tokens", c_int32),
        ("sequences", c_int32),
        ("outputs", c_int32),
        ("table_width", c_int32),
        ("token", c_void_p),
        ("position", c_void_p),
        ("first", c_void_p),
        ("table", c_void_p),
        ("output", c_void_p),
        ("logits", c_void_p),
        ("hidden_states", c_void_p),
    ]


SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "ww_isa": (ctypes.c_char_p, []),
    "ww_set_threads": (None, [c_int32]),
    "ww_threads": (c_int32, []),
    "ww_packed_bytes": (c_int64, [c_int32, c_int32, c_int32]),
    "ww_pack": (c_int32, [c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p, c_void_p]),
    "ww_linear": (None, [POINTER(CLinear), c_void_p, c_int32, c_int32, c_void_p]),
    "ww_quantise": (None, [c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_void_p]),
    "ww_rms_norm": (None, [c_void_p, c_void_p, c_float, c_int32, c_int32, c_void_p]),
    "ww_swiglu": (None, [c_void_p, c_void_p, c_int64, c_void_p]),
    "ww_rope": (None, [c_void_p, c_void_p, c_void_p, c_int32, c_int32]),
    "ww_row": (None, [POINTER(CWeight), c_int32, c_void_p]),
    "ww_append": (None, [POINTER(CKv), c_int32, c_int32, c_int32, POINTER(CStep), c_void_p, c_void_p]),
    "ww_attend": (
        None,
        [POINTER(CKv), *([c_int32] * 5), c_float, POINTER(CStep), c_void_p, c_void_p],
    ),
    "ww_step": (c_int32, [POINTER(CModel), POINTER(CKv), POINTER(CStep)]),
}


@functools.cache
def _load() -> ctypes.CDLL | Unavailable:
    if os.environ.get(ENV_BACKEND, "auto") == "reference":
        return Unavailable(f"{ENV_BACKEND}=reference asks for the definitions")
    try:
        loaded = ctypes.CDLL(str(library_path()))
    except (OSError, Unavailable) as error:
        return error if isinstance(error, Unavailable) else Unavailable(f"the extension does not load: {error}")
    for name, (result, arguments) in SIGNATURES.items():
        entry = getattr(loaded, name)
        entry.restype, entry.argtypes = result, arguments
    return loaded


def library() -> ctypes.CDLL:
    """The loaded extension, built first where it must be (seconds, once). Raises Unavailable.

    A call lets go of the interpreter's lock; the extension itself takes one caller at a time.
    """
    loaded = _load()
    if isinstance(loaded, Unavailable):
        raise loaded
    return loaded


def available() -> bool:
    """Whether `library()` works here; builds it at the first call."""
    return not isinstance(_load(), Unavailable)


def why_not() -> str:
    """Why there is no extension, in a sentence; empty where there is one."""
    loaded = _load()
    return str(loaded) if isinstance(loaded, Unavailable) else ""


def isa() -> str:
    """Instruction set in use: `avx512-vnni`, `avx2` or `plain`. WINDWARD_ISA names a lesser one, to compare."""
    return bytes(library().ww_isa()).decode()


def set_threads(count: int) -> None:
    """Threads that products and attention use, the caller's own included. Raises ValueError below 1 and above 1024."""
    if not 1 <= count <= 1024:
        raise ValueError(f"count is {count} threads; give 1 to 1024")
    library().ww_set_threads(count)
