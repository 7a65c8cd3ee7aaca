"""The decoder: residual blocks of attention and SwiGLU, on `windward_kernels`.

Parameter names are Hugging Face's without the leading `model.`, so that a checkpoint needs no table of names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windward_kernels import Causal, attention, linear, rms_norm, rope, rope_table, swiglu
from windward_worker.model.config import ModelConfig


class KVCache:
    """Keys and values of the tokens so far, for a batch whose rows end at the same place (pad on the left).

    `first_key` (B,) is where each row's real tokens begin; None: nothing is padded.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        first_key: Tensor | None = None,
    ) -> None:
        size = (config.num_hidden_layers, batch, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = torch.zeros(size, dtype=dtype, device=device)  # (L, B, Hkv, Tmax, D)
        self.values = torch.zeros(size, dtype=dtype, device=device)
        self.length = 0
        self.first_key = first_key

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, Hkv, T, D) behind the past; returns all keys and values so far (B, Hkv, length + T, D)."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows of the batch but these."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        if self.first_key is not None:
            self.first_key = self.first_key[rows]


class Matrix(nn.Module):
    """A weight (rows, columns), not yet filled: `nn.Linear` would draw numbers that a loaded model throws away."""

    def __init__(self, rows: int, columns: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns))
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = linear(x, self.weight)
        return out if self.bias is None else out + self.bias


class RMSNorm(nn.Module):
    """Scale to unit mean square, then by a learned weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self._eps)


class Attention(nn.Module):
    """Grouped-query causal attention with rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._head_dim = config.head_dim
        self._window = config.sliding_window
        inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = Matrix(inner, config.hidden_size, bias=config.qkv_bias)
        self.k_proj = Matrix(shared, config.hidden_size, bias=config.qkv_bias)
        self.v_proj = Matrix(shared, config.hidden_size, bias=config.qkv_bias)
        self.o_proj = Matrix(config.hidden_size, inner)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self._head_dim).transpose(1, 2)  # (B, H, T, D)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        q, k, v = self.project(x, cos, sin)
        first_key = None
        if cache is not None:
            k, v = cache.append(layer, k, v)
            first_key = cache.first_key
        out = attention(q, k, v, mask=Causal(first_key, self._window))  # (B, Hq, T, D)
        mixed: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return mixed

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, Hq, T, D), keys and values (B, Hkv, T, D) of x (B, T, C), rotated."""
        q, k = self._heads(self.q_proj(x)), self._heads(self.k_proj(x))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return rope(q, cos, sin), rope(k, cos, sin), self._heads(self.v_proj(x))


class FeedForward(nn.Module):
    """SwiGLU between two widths."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Matrix(config.intermediate_size, config.hidden_size)
        self.up_proj = Matrix(config.intermediate_size, config.hidden_size)
        self.down_proj = Matrix(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = swiglu(self.gate_proj(x), self.up_proj(x))  # (B, T, F)
        out: Tensor = self.down_proj(gated)
        return out


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Tokens in, logits out."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are unset until `initialise` or a load."""
        super().__init__()
        self.config = config
        self.embed_tokens = Matrix(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = None if config.tie_word_embeddings else Matrix(config.vocab_size, config.hidden_size)

    def initialise(self, seed: int) -> None:
        """Draw the weights: normal, 0.02; those that write into the residual stream smaller by sqrt(2 layers)."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 1:
                    weight.fill_(0.0 if name.endswith("bias") else 1.0)
                    continue
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                deviation = 0.02 / math.sqrt(2 * self.config.num_hidden_layers) if residual else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)

    def forward(self, tokens: Tensor, cache: KVCache | None = None, *, last_only: bool = False) -> Tensor:
        """Logits (B, T, V), or (B, 1, V) of the last place, for tokens (B, T) that follow those in `cache`.

        Padding stands on the left, before the cache's `first_key`; its logits mean nothing. Without a cache the
        sequence stands alone. Raises IndexError where a token is outside the vocabulary.
        """
        past = cache.length if cache is not None else 0
        place = torch.arange(past, past + tokens.shape[1], device=tokens.device)  # (T,)
        if cache is not None and cache.first_key is not None:
            place = (place[None, :] - cache.first_key[:, None]).clamp_min(0)  # (B, T)
        cos, sin = rope_table(place, self.config.head_dim, self.config.rope_theta)
        x = F.embedding(tokens, self.embed_tokens.weight)  # (B, T, C)
        for index, block in enumerate(self.layers):
            x = block(x, cos, sin, cache, index)
        if cache is not None:
            cache.length += tokens.shape[1]
        x = self.norm(x[:, -1:] if last_only else x)
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        return linear(x, head.weight)
