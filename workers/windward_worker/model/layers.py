"""The layers of dense decoders: residual blocks of attention and SwiGLU, on `windward_kernels`.

Parameter names are Hugging Face's without the leading `model.`, so that a checkpoint needs no table of names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from windward_kernels import Causal, attention, linear, rms_norm, rope, swiglu
from windward_worker.model.cache import Cache
from windward_worker.model.config import ModelConfig


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

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None, layer: int) -> Tensor:
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

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, layer)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out
