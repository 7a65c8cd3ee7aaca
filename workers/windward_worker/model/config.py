"""The shape of a decoder, and its `config.json` in Hugging Face's words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windward_worker.control import Refused

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama-style decoder: grouped-query attention, RMSNorm, rotary positions, SwiGLU."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int  # of the feed-forward part
    context: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True  # output matrix = embedding
    bos: int | None = None
    eos: int | None = None
    window: int | None = None  # a token sees this many, itself included; None: all before it
    qkv_bias: bool = False
    qk_norm: bool = False  # RMSNorm of each query and key head

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.width, self.layers, self.heads, self.kv_heads, self.head_dim, self.hidden)
        if min(*sizes, self.context) < 1 or max(sizes) > 1 << 22:
            raise Refused(f"model shape {self} has a size out of range; the file is damaged or no decoder")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise Refused(f"{self.heads} heads cannot share {self.kv_heads} key-value heads, or head size is odd")
        if self.window is not None and self.window < 1:
            raise Refused(f"sliding window of {self.window} tokens; give 1 or more, or none")
        if (self.window is not None) + self.qkv_bias + self.qk_norm > 1:
            raise Refused("sliding window, bias of q, k, v and norm of q, k do not go together in a known family")

    @property
    def family(self) -> str:
        """transformers' `model_type`."""
        if self.qk_norm:
            return "qwen3"
        if self.qkv_bias:
            return "qwen2"
        return "llama" if self.window is None else "mistral"

    @property
    def parameters(self) -> int:
        """Number of weights."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        block = attention + 3 * self.width * self.hidden + 2 * self.width
        block += self.head_dim * (2 * self.qk_norm + (self.heads + 2 * self.kv_heads) * self.qkv_bias)
        return self.layers * block + self.width + self.vocabulary * self.width * (1 if self.tied else 2)

    def to_hf(self) -> dict[str, Any]:
        """`config.json` of transformers' model of this family (5.x words; 4.x reads `rope_theta`, kept beside)."""
        return {
            "architectures": [f"{self.family.title()}ForCausalLM"],
            "model_type": self.family,
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.hidden,
            "max_position_embeddings": self.context,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_base},
            "rope_theta": self.rope_base,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "dtype": "float32",
            **({"sliding_window": self.window} if self.window is not None else {}),
        }


def shape(layers: int, width: int, vocabulary: int, context: int, eos: int) -> ModelConfig:
    """The decoder that a TrainSpec names: heads of 32; key-value heads the largest divisor of at most half of them."""
    heads = width // 32
    kv_heads = max(n for n in range(1, max(1, heads // 2) + 1) if heads % n == 0)
    hidden = 8 * math.ceil(width / 3)
    return ModelConfig(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=32,
        hidden=hidden,
        context=context,
        bos=eos,
        eos=eos,
    )


def from_hf(document: Mapping[str, Any]) -> ModelConfig:
    """Read a `config.json`. Raises Refused where it asks for something that this decoder does not compute."""
    kind = document.get("model_type")
    if kind not in FAMILIES:
        raise Refused(f"model_type {kind!r} is not supported; give a model of type {', '.join(FAMILIES)}")
    rope = document.get("rope_parameters") or document.get("rope_scaling") or {}
    unsupported = [
        name
        for name, plain in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False))
        if document.get(name, plain) != plain
    ]
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        unsupported.append("rope scaling")
    window = document.get("sliding_window")
    if kind.startswith("qwen"):
        if document.get("use_sliding_window"):
            unsupported.append("use_sliding_window in part of the layers")
        window = None  # named in the file, but switched off
    elif window is not None and kind != "mistral":
        unsupported.append("sliding_window")
    if unsupported:
        raise Refused(
            f"config.json sets {', '.join(unsupported)}, which this decoder does not compute; use another model"
        )
    eos = document.get("eos_token_id")
    try:
        heads, width = int(document["num_attention_heads"]), int(document["hidden_size"])
        return ModelConfig(
            vocabulary=int(document["vocab_size"]),
            width=width,
            layers=int(document["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(document.get("num_key_value_heads") or heads),
            head_dim=int(document.get("head_dim") or width // heads),
            hidden=int(document["intermediate_size"]),
            context=int(document.get("max_position_embeddings", 2048)),
            rope_base=float(document.get("rope_theta") or rope.get("rope_theta", 10000.0)),
            norm_eps=float(document.get("rms_norm_eps", 1e-6)),
            tied=bool(document.get("tie_word_embeddings", False)),
            bos=document.get("bos_token_id"),
            eos=eos[0] if isinstance(eos, list) else eos,
            window=None if window is None else int(window),
            qkv_bias=kind == "qwen2",
            qk_norm=kind == "qwen3",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Refused(f"config.json lacks or garbles {error}; export the model again") from error
