"""The runner in plain torch: the definition that the compiled one is held to, and what runs on a GPU."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels import Causal, attention, linear, rope_table
from windward_worker.inference.block_manager import BLOCK_SIZE, HOLE
from windward_worker.inference.runner import SequenceInput
from windward_worker.model.decoder import Decoder
from windward_worker.model.families import family_of
from windward_worker.model.layers import Block

Floats = npt.NDArray[np.float32]


class TorchRunner:
    """A decoder over paged keys and values. Products see all tokens of a step; attention goes sequence by sequence."""

    def __init__(self, decoder: Decoder, *, blocks: int) -> None:
        self.config, self.blocks = decoder.config, blocks
        self._decoder = decoder
        weight = decoder.embed_tokens.weight
        state = family_of(self.config).state(self.config)
        size = (state.layers, blocks, BLOCK_SIZE, state.heads, state.head_dim)
        self._keys = torch.zeros(size, dtype=weight.dtype, device=weight.device)  # (L, blocks, BLOCK_SIZE, Hkv, D)
        self._values = torch.zeros_like(self._keys)

    @property
    def kv_bytes_per_token(self) -> float:
        return 2.0 * self._keys[:, 0, 0].numel() * self._keys.element_size()

    @torch.inference_mode()
    def step(self, inputs: Seq[SequenceInput]) -> Floats:
        head = self._decoder.embed_tokens if self._decoder.lm_head is None else self._decoder.lm_head
        logits: Floats = linear(self._states(inputs), head.weight).float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def hidden_states(self, inputs: Seq[SequenceInput]) -> Floats:
        states: Floats = self._states(inputs).float().cpu().numpy()
        return states

    def _states(self, inputs: Seq[SequenceInput]) -> Tensor:
        """States after the last norm of the places that want outputs, (outputs, C)."""
        device = self._keys.device
        tokens = torch.tensor([t for r in inputs for t in r.tokens], device=device)  # (T,)
        places = torch.tensor([p for r in inputs for p in range(r.position, r.position + len(r.tokens))], device=device)
        cos, sin = rope_table(places, self.config.head_dim, self.config.rope_theta)  # (T, D/2)
        x = F.embedding(tokens[None], self._decoder.embed_tokens.weight)  # (1, T, C)
        for index, block in enumerate(self._decoder.layers):
            assert isinstance(block, Block)
            x = x + self._attend(block, block.input_layernorm(x), cos, sin, inputs, index)
            x = x + block.mlp(block.post_attention_layernorm(x))
        output_places: list[int] = []
        end = 0
        for one in inputs:
            end += len(one.tokens)
            output_places += range(end - one.outputs, end)
        states: Tensor = self._decoder.norm(x[0, output_places])
        return states

    def _attend(
        self, block: Block, x: Tensor, cos: Tensor, sin: Tensor, inputs: Seq[SequenceInput], index: int
    ) -> Tensor:
        q, k, v = block.self_attn.project(x, cos, sin)  # (1, H, T, D)
        out, begin = torch.empty_like(q), 0
        keys, values = (
            self._keys[index].flatten(0, 1),
            self._values[index].flatten(0, 1),
        )  # (blocks * BLOCK_SIZE, Hkv, D)
        for one in inputs:
            own = slice(begin, begin + len(one.tokens))
            begin = own.stop
            last = one.position + len(one.tokens)
            first = (
                one.block_table.index(next(b for b in one.block_table if b != HOLE)) * BLOCK_SIZE
            )  # a window may have passed
            slots = torch.tensor(
                [one.block_table[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in range(first, last)],
                device=x.device,
            )
            keys[slots[one.position - first :]] = k[0, :, own].transpose(0, 1)
            values[slots[one.position - first :]] = v[0, :, own].transpose(0, 1)
            past = (t[slots].transpose(0, 1)[None] for t in (keys, values))  # (1, Hkv, Tk, D)
            out[:, :, own] = attention(q[:, :, own], *past, mask=Causal(window=self.config.sliding_window))
        mixed: Tensor = block.self_attn.o_proj(out.transpose(1, 2).flatten(2))
        return mixed
