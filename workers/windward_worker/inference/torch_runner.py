"""The runner in plain torch: the definition that the compiled one is held to, and what runs on a GPU."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels import Causal, attention, linear, rope_table
from windward_worker.inference.blocks import HOLE, PAGE
from windward_worker.inference.runner import Rows
from windward_worker.model.decoder import Block, Decoder

Floats = npt.NDArray[np.float32]


class TorchRunner:
    """A decoder over paged keys and values. Products see all tokens of a step; attention goes sequence by sequence."""

    def __init__(self, decoder: Decoder, *, blocks: int) -> None:
        self.config, self.blocks = decoder.config, blocks
        self._decoder = decoder
        weight = decoder.embed_tokens.weight
        size = (self.config.layers, blocks, PAGE, self.config.kv_heads, self.config.head_dim)
        self._keys = torch.zeros(size, dtype=weight.dtype, device=weight.device)  # (L, blocks, PAGE, Hkv, D)
        self._values = torch.zeros_like(self._keys)

    @property
    def kv_bytes_per_token(self) -> float:
        return 2.0 * self._keys[:, 0, 0].numel() * self._keys.element_size()

    @torch.inference_mode()
    def step(self, rows: Seq[Rows]) -> Floats:
        head = self._decoder.embed_tokens if self._decoder.lm_head is None else self._decoder.lm_head
        made: Floats = linear(self._states(rows), head.weight).float().cpu().numpy()
        return made

    @torch.inference_mode()
    def hidden(self, rows: Seq[Rows]) -> Floats:
        made: Floats = self._states(rows).float().cpu().numpy()
        return made

    def _states(self, rows: Seq[Rows]) -> Tensor:
        """States after the last norm of the places that want outputs, (outputs, C)."""
        device = self._keys.device
        tokens = torch.tensor([t for r in rows for t in r.tokens], device=device)  # (T,)
        places = torch.tensor([p for r in rows for p in range(r.place, r.place + len(r.tokens))], device=device)
        cos, sin = rope_table(places, self.config.head_dim, self.config.rope_base)  # (T, D/2)
        x = F.embedding(tokens[None], self._decoder.embed_tokens.weight)  # (1, T, C)
        for index, block in enumerate(self._decoder.layers):
            assert isinstance(block, Block)
            x = x + self._attend(block, block.input_layernorm(x), cos, sin, rows, index)
            x = x + block.mlp(block.post_attention_layernorm(x))
        wanted: list[int] = []
        end = 0
        for row in rows:
            end += len(row.tokens)
            wanted += range(end - row.outputs, end)
        states: Tensor = self._decoder.norm(x[0, wanted])
        return states

    def _attend(self, block: Block, x: Tensor, cos: Tensor, sin: Tensor, rows: Seq[Rows], index: int) -> Tensor:
        q, k, v = block.self_attn.project(x, cos, sin)  # (1, H, T, D)
        out, begin = torch.empty_like(q), 0
        keys, values = self._keys[index].flatten(0, 1), self._values[index].flatten(0, 1)  # (blocks * PAGE, Hkv, D)
        for row in rows:
            own = slice(begin, begin + len(row.tokens))
            begin = own.stop
            last = row.place + len(row.tokens)
            first = row.table.index(next(b for b in row.table if b != HOLE)) * PAGE  # a window may have passed
            slots = torch.tensor([row.table[p // PAGE] * PAGE + p % PAGE for p in range(first, last)], device=x.device)
            keys[slots[row.place - first :]] = k[0, :, own].transpose(0, 1)
            values[slots[row.place - first :]] = v[0, :, own].transpose(0, 1)
            past = (t[slots].transpose(0, 1)[None] for t in (keys, values))  # (1, Hkv, Tk, D)
            out[:, :, own] = attention(q[:, :, own], *past, mask=Causal(window=self.config.window))
        mixed: Tensor = block.self_attn.o_proj(out.transpose(1, 2).flatten(2))
        return mixed
