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

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int  # of the feed-forward part
    max_position_embeddings: int
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True  # output matrix = embedding
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    extra_eos_token_ids: tuple[int, ...] = ()  # further tokens that end an answer, such as that of a turn
    sliding_window: int | None = None  # a token sees this many, itself included; None: all before it
    qkv_bias: bool = False
    qk_norm: bool = False  # RMSNorm of each query and key head

    def __post_init__(self) -> None:
        sizes = (
            self.vocab_size,
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.num_key_value_heads,
            self.head_dim,
            self.intermediate_size,
        )
        if min(*sizes, self.max_position_embeddings) < 1 or max(*sizes, self.max_position_embeddings) > LARGEST:
            raise Refused(f"model shape {self} has a size out of range; the file is damaged or no decoder")
        if not (0 < self.rope_theta < FLOAT_END and 0 <= self.rms_norm_eps < 1):  # both go into C floats
            raise Refused(
                f"rope base {self.rope_theta} or norm epsilon {self.rms_norm_eps} is out of range; export it again"
            )
        for name, token in (
            ("bos", self.bos_token_id),
            ("eos", self.eos_token_id),
            *(("eos", t) for t in self.extra_eos_token_ids),
        ):
            if token is not None and not 0 <= token < self.vocab_size:
                raise Refused(f"{name} token {token} is outside the vocabulary of {self.vocab_size}; export it again")
        if self.num_attention_heads % self.num_key_value_heads or self.head_dim % 2:
            raise Refused(
                f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key-value heads, "
                "or an odd head size; export it again"
            )
        if self.sliding_window is not None and not 1 <= self.sliding_window < INT32_END:
            raise Refused(f"sliding window of {self.sliding_window} tokens; give 1 to {INT32_END - 1}, or none")
        if (self.sliding_window is not None) + self.qkv_bias + self.qk_norm > 1:
            raise Refused(
                "sliding window, bias and norm of q, k, v do not go together in a known family; use another model"
            )

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """All tokens that end an answer."""
        return frozenset(t for t in (self.eos_token_id, *self.extra_eos_token_ids) if t is not None)

    @property
    def family(self) -> str:
        """transformers' `model_type`."""
        if self.qk_norm:
            return "qwen3"
        if self.qkv_bias:
            return "qwen2"
        return "llama" if self.sliding_window is None else "mistral"

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        attention = 2 * self.hidden_size * self.head_dim * (self.num_attention_heads + self.num_key_value_heads)
        block = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        block += self.head_dim * (
            2 * self.qk_norm + (self.num_attention_heads + 2 * self.num_key_value_heads) * self.qkv_bias
        )
        return (
            self.num_hidden_layers * block
            + self.hidden_size
            + self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        )

    def to_hf(self) -> dict[str, Any]:
        """`config.json` of transformers' model of this family (5.x words; 4.x reads `rope_theta`, kept beside)."""
        return {
            "architectures": [f"{self.family.title()}ForCausalLM"],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": [self.eos_token_id, *self.extra_eos_token_ids]
            if self.extra_eos_token_ids
            else self.eos_token_id,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "dtype": "float32",
            **({"sliding_window": self.sliding_window} if self.sliding_window is not None else {}),
        }


def decoder_config(layers: int, width: int, vocabulary: int, context: int, eos: int) -> ModelConfig:
    """The decoder that a TrainSpec names: heads of 32; key-value heads the largest divisor of at most half of them."""
    heads = width // 32
    kv_heads = max(n for n in range(1, max(1, heads // 2) + 1) if heads % n == 0)
    hidden = 8 * math.ceil(width / 3)
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=32,
        intermediate_size=hidden,
        max_position_embeddings=context,
        bos_token_id=eos,
        eos_token_id=eos,
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
    ids = (whole(name, each) for each in listed)
    return tuple(dict.fromkeys(token for token in ids if token >= 0))


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
            vocab_size=whole("vocab_size", document["vocab_size"]),
            hidden_size=width,
            num_hidden_layers=whole("num_hidden_layers", document["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=size("num_key_value_heads", heads),
            head_dim=size("head_dim", width // heads),
            intermediate_size=whole("intermediate_size", document["intermediate_size"]),
            max_position_embeddings=min(LARGEST, size("max_position_embeddings", 2048)),
            rope_theta=real("rope_theta", document.get("rope_theta") or rope.get("rope_theta", 10000.0)),
            rms_norm_eps=real("rms_norm_eps", document.get("rms_norm_eps", 1e-6)),
            tie_word_embeddings=flag("tie_word_embeddings", document.get("tie_word_embeddings") or False),
            bos_token_id=bos[0] if bos else None,
            eos_token_id=eos[0] if eos else None,
            extra_eos_token_ids=eos[1:],
            sliding_window=None if window is None else whole("sliding_window", window),
            qkv_bias=kind == "qwen2",
            qk_norm=kind == "qwen3",
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise Refused(f"config.json lacks or garbles {error}; export the model again") from error
