"""The shape of a decoder, in the words of transformers' `config.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from windward_worker.control import Refused

INT32_END = 1 << 31
FLOAT_END = 3e38
LARGEST = 1 << 22  # of any size, and of the context


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
