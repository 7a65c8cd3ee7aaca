"""torch's runner over the kernels' own pages: what an int4 or int8 cache costs in perplexity, with any weights. CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from windward_kernels import INT4, Causal, Pages, attention, kv_append
from windward_worker.inference.block_manager import BLOCK_SIZE
from windward_worker.inference.runner import SequenceInput
from windward_worker.inference.torch_runner import TorchRunner
from windward_worker.model.decoder import Decoder
from windward_worker.model.families import family_of
from windward_worker.model.layers import Block

KINDS = {"int8": torch.int8, "int4": INT4}


class PagedRunner(TorchRunner):
    """Keys and values are rounded as they are stored (`kv_append`) and dequantised to be read."""

    def __init__(self, decoder: Decoder, *, blocks: int, kind: str = "int8") -> None:
        super().__init__(decoder, blocks=blocks)
        state = family_of(self.config).state(self.config)
        size = (blocks, BLOCK_SIZE, state.heads, state.head_dim)
        self._pages = [Pages.empty(*size, KINDS[kind]) for _ in range(state.layers)]

    @property
    def kv_bytes_per_token(self) -> float:
        """Scales and lows included."""
        parts = [part for side in self._pages[0].sides() for part in side if part is not None]
        each = sum(part[0, 0].numel() * part.element_size() for part in parts)
        return float(self.config.num_hidden_layers * each)

    def _attend(
        self, block: Block, x: Tensor, cos: Tensor, sin: Tensor, inputs: Sequence[SequenceInput], index: int
    ) -> Tensor:
        q, k, v = block.self_attn.project(x, cos, sin)  # (1, H, T, D)
        out, begin = torch.empty_like(q), 0
        for one in inputs:
            own = slice(begin, begin + len(one.tokens))
            begin = own.stop
            last = one.position + len(one.tokens)
            slots = torch.tensor(
                [one.block_table[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in range(one.position, last)]
            )
            new_k, new_v = (t[0, :, own].transpose(0, 1) for t in (k, v))  # (T, Hkv, D)
            kv_append(new_k, new_v, self._pages[index], slots)
            out[0, :, own] = self._one(q[0, :, own], self._pages[index], torch.tensor(one.block_table), last)
        mixed: Tensor = block.self_attn.o_proj(out.transpose(1, 2).flatten(2))
        return mixed

    def _one(self, q: Tensor, pages: Pages, table: Tensor, length: int) -> Tensor:
        """One sequence: queries (Hq, T, D) over the first `length` tokens of its blocks; returns (Hq, T, D)."""
        past_k, past_v = (t.transpose(0, 1)[None] for t in pages.dense(table, length))  # (1, Hkv, Tk, D)
        out: Tensor = attention(q[None], past_k, past_v, mask=Causal(window=self.config.sliding_window))[0]
        return out
