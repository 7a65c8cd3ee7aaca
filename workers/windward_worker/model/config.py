"""The shape of a decoder, and its `config.json` in Hugging Face's words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from windward_worker.control import Refused

INT32_END = 1 << 31
FLOAT_END = 3e38
LARGEST = 1 << 22  # of any size, and of the context
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
    more_eos: tuple[int, ...] = ()  # further tokens that end an answer, such as that of a turn
    window: int | None = None  # a token sees this many, itself included; None: all before it
    qkv_bias: bool = False
    qk_norm: bool = False  # RMSNorm of each query and key head

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.width, self.layers, self.heads, self.kv_heads, self.head_dim, self.hidden)
        if min(*sizes, self.context) < 1 or max(*sizes, self.context) > LARGEST:
            raise Refused(f"model shape {self} has a size out of range; the file is damaged or no decoder")
        if not (0 < self.rope_base < FLOAT_END and 0 <= self.norm_eps < 1):  # both go into C floats
            raise Refused(
                f"rope base {self.rope_base} or norm epsilon {self.norm_eps} is out of range; export it again"
            )
        for name, token in (("bos", self.bos), ("eos", self.eos), *(("eos", t) for t in self.more_eos)):
            if token is not None and not 0 <= token < self.vocabulary:
                raise Refused(f"{name} token {token} is outside the vocabulary of {self.vocabulary}; export it again")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise Refused(
                f"{self.heads} heads cannot share {self.kv_heads} key-value heads, or an odd head size; export it again"
            )
        if self.window is not None and not 1 <= self.window < INT32_END:
            raise Refused(f"sliding window of {self.window} tokens; give 1 to {INT32_END - 1}, or none")
        if (self.window is not None) + self.qkv_bias + self.qk_norm > 1:
            raise Refused(
                "sliding window, bias and norm of q, k, v do not go together in a known family; use another model"
            )

    @property
    def ends(self) -> frozenset[int]:
        """All tokens that end an answer."""
        return frozenset(t for t in (self.eos, *self.more_eos) if t is not None)

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
            "eos_token_id": [self.eos, *self.more_eos] if self.more_eos else self.eos,
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


def whole(name: str, value: Any) -> int:
    """An integer as a file gives it. Raises ValueError for what is none: text, a fraction, true."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1 << 62:
        raise ValueError(f"{name} {value!r}, which is no integer")
    if int(value) != value:
        raise ValueError(f"{name} {value!r}, which is no integer")
    return int(value)


def real(name: str, value: Any) -> float:
    """A number as a file gives it. Raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} {value!r}, which is no number")
    return float(value)


def tokens(name: str, value: Any) -> tuple[int, ...]:
    """None, a token or a list of them; a negative one, as some write it, is none. Raises ValueError."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    found = (whole(name, each) for each in listed)
    return tuple(dict.fromkeys(token for token in found if token >= 0))


def flag(name: str, value: Any) -> bool:
    """true or false. Raises ValueError for anything else: `"false"` would be true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} {value!r}, which is neither true nor false")
    return value


def _window(kind: str, document: Mapping[str, Any], rope: Mapping[str, Any]) -> Any:
    """The sliding window as the file gives it. Raises Refused for what this decoder does not compute."""
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
    return window


def from_hf(document: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> ModelConfig:
    """Read a `config.json`, and the end tokens of a `generation_config.json`, which go before its own.

    Raises Refused where it asks for something that this decoder does not compute.
    """
    kind = document.get("model_type")
    if kind not in FAMILIES:
        raise Refused(f"model_type {kind!r} is not supported; give a model of type {', '.join(FAMILIES)}")
    rope = document.get("rope_parameters") or document.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise Refused(f"config.json lacks or garbles rope_parameters {rope!r}; export the model again")
    window = _window(str(kind), document, rope)
    generation = generation or {}
    try:
        heads, width = (whole(n, document[n]) for n in ("num_attention_heads", "hidden_size"))
        bos = tokens("bos_token_id", document.get("bos_token_id"))
        eos = tokens("eos_token_id", generation.get("eos_token_id", document.get("eos_token_id")))

        def size(name: str, default: int) -> int:
            value = document.get(name)
            return default if value is None else whole(name, value)

        return ModelConfig(
            vocabulary=whole("vocab_size", document["vocab_size"]),
            width=width,
            layers=whole("num_hidden_layers", document["num_hidden_layers"]),
            heads=heads,
            kv_heads=size("num_key_value_heads", heads),
            head_dim=size("head_dim", width // heads),
            hidden=whole("intermediate_size", document["intermediate_size"]),
            context=min(LARGEST, size("max_position_embeddings", 2048)),
            rope_base=real("rope_theta", document.get("rope_theta") or rope.get("rope_theta", 10000.0)),
            norm_eps=real("rms_norm_eps", document.get("rms_norm_eps", 1e-6)),
            tied=flag("tie_word_embeddings", document.get("tie_word_embeddings") or False),
            bos=bos[0] if bos else None,
            eos=eos[0] if eos else None,
            more_eos=eos[1:],
            window=None if window is None else whole("sliding_window", window),
            qkv_bias=kind == "qwen2",
            qk_norm=kind == "qwen3",
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise Refused(f"config.json lacks or garbles {error}; export the model again") from error
