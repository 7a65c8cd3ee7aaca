"""The decoder: an embedding, the blocks of its family, a last norm and a head.

Parameter names are Hugging Face's without the leading `model.`, so that a checkpoint needs no table of names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windward_kernels import linear, rope_table
from windward_worker.model.cache import Cache
from windward_worker.model.config import ModelConfig
from windward_worker.model.families import family_of
from windward_worker.model.layers import Matrix, RMSNorm


class Decoder(nn.Module):
    """Tokens in, logits out."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are unset until `initialise` or a load."""
        super().__init__()
        self.config = config
        family = family_of(config)
        self.embed_tokens = Matrix(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(family.block(config) for _ in range(config.num_hidden_layers))
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

    def forward(self, tokens: Tensor, cache: Cache | None = None, *, last_only: bool = False) -> Tensor:
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
