"""A model packed for the compiled extension: no torch, weights in the kind that the file has or that is asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from windward_kernels.cpp import PackedWeight, pack, quantise_int4, quantise_int8
from windward_kernels.cpp.library import GROUP, PAGE, CLayer, CModel
from windward_kernels.cpp.weights import linear_struct
from windward_worker.control import Refused
from windward_worker.model.config import ModelConfig
from windward_worker.model.families import tensor_shapes
from windward_worker.model.gguf import q4_k_as_q4_1
from windward_worker.model.stored import ModelFile, StoredTensor

Floats = npt.NDArray[np.float32]
Scheme = Callable[[str, StoredTensor], StoredTensor]  # a matrix's name and what the file holds -> what is packed


def as_stored(name: str, weight: StoredTensor) -> StoredTensor:
    """Each matrix as the file has it."""
    if weight.encoding == "Q4_K":
        return replace(weight, encoding="Q4_1", raw=q4_k_as_q4_1(weight.raw))
    return weight


def as_float32(name: str, weight: StoredTensor) -> StoredTensor:
    """Every matrix dequantised: the exact model, four bytes a weight."""
    return StoredTensor("F32", np.ascontiguousarray(weight.floats()).reshape(-1).view(np.uint8), weight.shape)


def as_int8(name: str, weight: StoredTensor) -> StoredTensor:
    """Rounded to int8 in groups of 32 (a matrix whose rows do not divide by 32 stays as it is)."""
    if weight.shape[1] % GROUP:
        return as_stored(name, weight)
    return StoredTensor("Q8_0", quantise_int8(weight.floats()), weight.shape)


def as_int4(name: str, weight: StoredTensor) -> StoredTensor:
    """The blocks' matrices rounded to int4 in groups of 32, embedding and head to int8."""
    if weight.shape[1] % GROUP or not name.startswith("layers."):
        return as_int8(name, weight)
    return StoredTensor("Q4_1", quantise_int4(weight.floats()), weight.shape)


SCHEMES: dict[str, Scheme] = {"stored": as_stored, "float32": as_float32, "int8": as_int8, "int4": as_int4}


def rope_tables(positions: int, head_dim: int, base: float) -> tuple[Floats, Floats]:
    """Cosines and sines of the rotary angles, (positions, D/2): as `windward_kernels.rope_table`, in numpy."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    rates = (1.0 / np.power(np.float32(base), exponent)).astype(np.float32)
    angle = np.arange(positions, dtype=np.float32)[:, None] * rates  # (positions, D/2)
    return np.cos(angle), np.sin(angle)


def fits_cpu_kernels(config: ModelConfig) -> bool:
    """Whether the extension's attention takes this shape: whole vectors of a head, a group within its tile."""
    return config.head_dim % PAGE == 0 and config.num_attention_heads // config.num_key_value_heads <= 24


class PackedModel:
    """The weights in the extension's layout, and the C struct that points at them."""

    def __init__(self, file: ModelFile, scheme: str | Scheme = "stored", *, context: int | None = None) -> None:
        """`context`: most tokens of a sequence, if less than the model's. Raises Refused, Unavailable."""
        config = file.config
        if not fits_cpu_kernels(config):
            raise Refused(f"{file.name}: heads of {config.head_dim} do not fit the CPU kernels; use the torch runner")
        if isinstance(scheme, str) and scheme not in SCHEMES:
            raise Refused(f"weights {scheme!r} are not known; give one of {', '.join(SCHEMES)}")
        self.config = replace(
            config,
            max_position_embeddings=min(context or config.max_position_embeddings, config.max_position_embeddings),
        )
        self._file = file
        self._scheme = SCHEMES[scheme] if isinstance(scheme, str) else scheme
        self._shapes = tensor_shapes(config)
        self._kept: list[object] = []
        self.weights: dict[str, PackedWeight] = {}
        self.c = self._build()

    @property
    def nbytes(self) -> int:
        """Bytes of all packed matrices."""
        return sum(w.nbytes for w in self.weights.values())

    def _vector(self, name: str) -> Floats:
        vector = np.ascontiguousarray(self._file.get(name).floats(), np.float32)
        self._kept.append(vector)
        return vector

    def _matrix(self, name: str) -> PackedWeight:
        source = self._file.get(f"{name}.weight")
        bias = self._vector(f"{name}.bias") if f"{name}.bias" in self._shapes else None
        try:
            stored = self._scheme(name, source)
            rows, cols = stored.shape
            packed = pack(stored.encoding, stored.raw, rows, cols, order=stored.order, bias=bias)
        except ValueError as error:
            raise Refused(f"{self._file.name}: {name}: {error}; load it with weights float32") from error
        self.weights[name] = packed
        return packed

    def _layer(self, index: int) -> CLayer:
        at, config = f"layers.{index}.", self.config
        norms = [self._vector(f"{at}{n}_layernorm.weight").ctypes.data for n in ("input", "post_attention")]
        heads = [self._vector(f"{at}self_attn.{n}_norm.weight").ctypes.data if config.qk_norm else None for n in "qk"]
        groups = (
            [f"{at}self_attn.{n}_proj" for n in "qkv"],
            [f"{at}self_attn.o_proj"],
            [f"{at}mlp.{n}_proj" for n in ("gate", "up")],
            [f"{at}mlp.down_proj"],
        )
        return CLayer(*norms, *heads, *(linear_struct([self._matrix(name) for name in group]) for group in groups))

    def _build(self) -> CModel:
        config = self.config
        layers = (CLayer * config.num_hidden_layers)(*(self._layer(i) for i in range(config.num_hidden_layers)))
        cos, sin = rope_tables(config.max_position_embeddings, config.head_dim, config.rope_theta)
        self._kept += [layers, cos, sin]
        embedding = self._matrix("embed_tokens")
        head = embedding if config.tie_word_embeddings else self._matrix("lm_head")
        return CModel(
            num_hidden_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            intermediate_size=config.intermediate_size,
            vocab_size=config.vocab_size,
            sliding_window=config.sliding_window or 0,
            eps=config.rms_norm_eps,
            max_position_embeddings=config.max_position_embeddings,
            cos=cos.ctypes.data,
            sin=sin.ctypes.data,
            layer=ctypes.cast(layers, ctypes.POINTER(CLayer)),
            final_norm=self._vector("norm.weight").ctypes.data,
            embedding=embedding.as_c(),
            head=linear_struct([head]),
        )
