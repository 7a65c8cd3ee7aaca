"""What a block keeps of the tokens before: the protocol that blocks see, and keys and values as its implementation."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from windward_worker.model.config import ModelConfig


class Cache(Protocol):
    """State of a batch between calls of a decoder. `length` tokens are stored for every row.

    `first_key` (B,) is where each row's real tokens begin; None: nothing is padded.
    """

    length: int
    first_key: Tensor | None

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, Hkv, T, D) behind the past; returns all keys and values so far (B, Hkv, length + T, D)."""


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
        self.first_key: Tensor | None = first_key

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows of the batch but these."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        if self.first_key is not None:
            self.first_key = self.first_key[rows]
