"""Keys and values of one layer in pages on a device: appended to, and read by one query a sequence.

The compiled CPU decoder keeps its own pages (`cpp.PagePool`); these are torch's, for GPUs. Paged KV: Kwon et al. 2023,
arXiv 2309.06180.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from windward_kernels.ragged import ATTENTION_TOLERANCE
from windward_kernels.registry import Cost, op


@dataclass(frozen=True, slots=True)
class Pages:
    """One layer's cache: keys, values (blocks, P, Hkv, D) float or int8; int8 has scales (blocks, P, Hkv) float16."""

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    @classmethod
    def empty(
        cls, blocks: int, page: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: str = "cpu"
    ) -> Pages:
        """All zero. `dtype`: float32, float16, bfloat16 or int8."""
        size = (blocks, page, kv_heads, head_dim)
        made = [torch.zeros(size, dtype=dtype, device=device) for _ in range(2)]
        if dtype != torch.int8:
            return cls(*made)
        return cls(*made, *(torch.zeros(size[:3], dtype=torch.float16, device=device) for _ in range(2)))

    @property
    def page(self) -> int:
        """Tokens of a page."""
        return self.keys.shape[1]

    def dense(self, table: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` keys and values of a sequence with blocks `table`, dequantised, (length, Hkv, D)."""
        chosen = table[: -(-length // self.page)].long().clamp_min(0)
        made = []
        for codes, scales in ((self.keys, self.key_scales), (self.values, self.value_scales)):
            one = codes[chosen].flatten(0, 1)[:length]
            made.append(one if scales is None else one.float() * scales[chosen].flatten(0, 1)[:length, :, None].float())
        return made[0], made[1]


def quantise_heads(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 (T, H, D) and float16 scales (T, H): scale = max |x| / 127 of each head, rounded half up."""
    scale = (x.float().abs().amax(dim=-1) / 127).half()
    wide = scale.float()[..., None]
    codes = torch.where(wide > 0, x.float() / torch.where(wide > 0, wide, 1.0), 0.0)
    return (codes + 0.5).floor().clamp(-127, 127).to(torch.int8), scale


@op(
    cost=lambda k, v, pages, slots: Cost(
        4.0 * k.numel(), 2.0 * k.numel() * (k.element_size() + pages.keys.element_size())
    ),
    tolerance={torch.float32: 2e-2, torch.float16: 2e-2},  # where rounding decides, a code may be the next one
)
def kv_append(k: Tensor, v: Tensor, pages: Pages, slots: Tensor) -> Pages:
    """Store keys and values (T, Hkv, D) in slots (T,) = block * P + place; a negative slot is left out.

    Writes into `pages` and returns it. int8 pages keep codes and scales as `quantise_heads` makes them.
    """
    kept = slots >= 0
    into = slots[kept].long()
    for x, codes, scales in ((k, pages.keys, pages.key_scales), (v, pages.values, pages.value_scales)):
        flat = codes.flatten(0, 1)  # (blocks * P, Hkv, D)
        if scales is None:
            flat[into] = x[kept].to(flat.dtype)
        else:
            flat[into], scales.flatten(0, 1)[into] = quantise_heads(x[kept])
    return pages


def _decode_cost(
    q: Tensor, pages: Pages, table: Tensor, lengths: Tensor, *, window: int | None = None, scale: float | None = None
) -> Cost:
    seen = float((lengths.clamp_max(window) if window else lengths).sum())
    each = (
        2 * pages.keys.shape[2] * (pages.keys.shape[3] * pages.keys.element_size() + 2 * (pages.key_scales is not None))
    )
    return Cost(4.0 * seen * q.shape[1] * q.shape[2], seen * each + 2.0 * q.numel() * q.element_size())


@op(cost=_decode_cost, tolerance=ATTENTION_TOLERANCE)
def paged_decode(
    q: Tensor, pages: Pages, table: Tensor, lengths: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """One query of each sequence against its stored keys, its own included. q (S, Hq, D); returns (S, Hq, D).

    table (S, blocks) int32, entries behind the window may be anything; lengths (S,) int32, 0: an empty sequence,
    which yields zero. `window`: keys that a query sees at most.
    """
    if q.shape[-1] != pages.keys.shape[-1] or q.shape[1] % pages.keys.shape[2] or len(table) != len(q) != len(lengths):
        raise ValueError(
            f"paged_decode: q {tuple(q.shape)}, pages {tuple(pages.keys.shape)}, table {tuple(table.shape)} do not fit"
        )
    out = torch.zeros_like(q)
    by = scale or 1 / math.sqrt(q.shape[-1])
    group = q.shape[1] // pages.keys.shape[2]
    for s, length in enumerate(lengths.tolist()):
        if not length:
            continue
        k, v = (t.to(q.dtype).transpose(0, 1).repeat_interleave(group, 0) for t in pages.dense(table[s], length))
        begin = max(0, length - window) if window else 0
        scores = (k[:, begin:] @ q[s, :, :, None])[..., 0] * by  # (Hq, T)
        out[s] = (scores.softmax(dim=-1)[:, None] @ v[:, begin:])[:, 0]
    return out
