"""Keys and values of one layer in pages on a device: appended to, and read by one query a sequence.

The compiled CPU decoder keeps its own pages (`cpp.PagePool`); these are torch's, for GPUs. Paged KV: Kwon et al. 2023,
arXiv 2309.06180.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_kernels.probes import Calls, draw
from windward_kernels.ragged import ATTENTION_TOLERANCE
from windward_kernels.registry import Cost, op

INT4 = torch.uint8  # the type of pages of 4-bit codes, two a byte


@dataclass(frozen=True, slots=True)
class Pages:
    """One layer's cache: keys, values (blocks, P, Hkv, D) float or int8, or uint8 (blocks, P, Hkv, D / 2): int4.

    int8 and int4 have scales, int4 also lows, (blocks, P, Hkv) float16: x = scale * code + low. Byte j of int4 holds
    column j below and column j + D / 2 above.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None
    key_lows: Tensor | None = None
    value_lows: Tensor | None = None

    @classmethod
    def empty(
        cls, blocks: int, page: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: str = "cpu"
    ) -> Pages:
        """All zero. `dtype`: float32, float16, bfloat16, int8, or `INT4`, which needs an even head."""
        if dtype == INT4 and head_dim % 2:
            raise ValueError(f"int4 pages keep two codes a byte; heads of {head_dim} have an odd size")
        size = (blocks, page, kv_heads, head_dim // 2 if dtype == INT4 else head_dim)
        more = {INT4: 4, torch.int8: 2}.get(dtype, 0)
        sides = [torch.zeros(size, dtype=dtype, device=device) for _ in range(2)]
        return cls(*sides, *(torch.zeros(size[:3], dtype=torch.float16, device=device) for _ in range(more)))

    @property
    def page(self) -> int:
        """Tokens of a page."""
        return self.keys.shape[1]

    @property
    def head_dim(self) -> int:
        """D."""
        return self.keys.shape[3] * (2 if self.keys.dtype == INT4 else 1)

    def sides(self) -> tuple[tuple[Tensor, Tensor | None, Tensor | None], ...]:
        """Codes, scales and lows of keys, then of values."""
        return (self.keys, self.key_scales, self.key_lows), (self.values, self.value_scales, self.value_lows)

    def dense(self, table: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` keys and values of a sequence with blocks `table`, dequantised, (length, Hkv, D)."""
        chosen = table[: -(-length // self.page)].long().clamp_min(0)
        sides = []
        for codes, scales, lows in self.sides():
            one = codes[chosen].flatten(0, 1)[:length]
            if lows is not None:
                one = torch.cat((one & 15, one >> 4), dim=-1)
            if scales is not None:
                one = one.float() * scales[chosen].flatten(0, 1)[:length, :, None].float()
            if lows is not None:
                one = one + lows[chosen].flatten(0, 1)[:length, :, None].float()
            sides.append(one)
        return sides[0], sides[1]


def quantise_heads(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 (T, H, D) and float16 scales (T, H): scale = max |x| / 127 of each head, rounded half up."""
    scale = (x.float().abs().amax(dim=-1) / 127).half()
    return _codes(x.float(), scale).clamp(-127, 127).to(torch.int8), scale


def quantise_heads4(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes uint8 (T, H, D / 2), two a byte, float16 scales and lows (T, H): 15 steps from each head's least to most.

    By token, as Liu et al. 2024 (KIVI, arXiv 2402.02750) do for values; keys by token too, so that a token is done
    when it is stored.
    """
    wide = x.float()
    low = wide.amin(dim=-1).half()
    scale = ((wide.amax(dim=-1) - low.float()) / 15).clamp_min(0).half()
    first, second = _codes(wide - low.float()[..., None], scale).clamp(0, 15).to(torch.uint8).chunk(2, dim=-1)
    return first | second << 4, scale, low


def _codes(x: Tensor, scale: Tensor) -> Tensor:
    """x / scale, rounded half up; 0 where the scale is 0."""
    wide = scale.float()[..., None]
    return (torch.where(wide > 0, x / torch.where(wide > 0, wide, 1.0), 0.0) + 0.5).floor()


def _append_cost(k: Tensor, v: Tensor, pages: Pages, slots: Tensor) -> Cost:
    """Read both, write their codes, and what a code needs beside it; quantising takes four operations a number."""
    heads = k.shape[0] * k.shape[1]
    beside = sum(2 for _, scales, lows in pages.sides() for part in (scales, lows) if part is not None)
    stored = 2 * pages.keys.shape[3] * pages.keys.element_size() + beside
    work = 8.0 * k.numel() if pages.key_scales is not None else 0.0
    return Cost(work, 2.0 * k.numel() * k.element_size() + heads * stored)


@op(
    cost=_append_cost,
    tolerance={torch.float32: 2e-2, torch.float16: 2e-2},  # where rounding decides, a code of int8 may be the next one
)
def kv_append(k: Tensor, v: Tensor, pages: Pages, slots: Tensor) -> Pages:
    """Store keys and values (T, Hkv, D) in slots (T,) = block * P + place; a negative slot is left out.

    Writes into `pages` and returns it: int8 as `quantise_heads`, int4 as `quantise_heads4` makes them.
    """
    kept = slots >= 0
    into = slots[kept].long()
    for x, (codes, scales, lows) in zip((k, v), pages.sides(), strict=True):
        flat = codes.flatten(0, 1)  # (blocks * P, Hkv, D)
        if scales is None:
            flat[into] = x[kept].to(flat.dtype)
        elif lows is None:
            flat[into], scales.flatten(0, 1)[into] = quantise_heads(x[kept])
        else:
            flat[into], scales.flatten(0, 1)[into], lows.flatten(0, 1)[into] = quantise_heads4(x[kept])
    return pages


def _decode_cost(
    q: Tensor, pages: Pages, table: Tensor, lengths: Tensor, *, window: int | None = None, scale: float | None = None
) -> Cost:
    """Two products over the keys seen, each read once for all heads that share it, with its scale and low."""
    seen = float((lengths.clamp_max(window) if window else lengths).sum())
    beside = 2 * sum(part is not None for part in (pages.key_scales, pages.key_lows))
    each = 2 * pages.keys.shape[2] * (pages.keys.shape[3] * pages.keys.element_size() + beside)
    return Cost(4.0 * seen * q.shape[1] * q.shape[2], seen * each + 2.0 * q.numel() * q.element_size())


def check_pages(q: Tensor, pages: Pages, table: Tensor, lengths: Tensor) -> None:
    """Raises ValueError where they do not fit each other."""
    if q.shape[-1] != pages.head_dim or q.shape[1] % pages.keys.shape[2] or not len(table) == len(q) == len(lengths):
        raise ValueError(
            f"paged_decode: q {tuple(q.shape)}, pages {tuple(pages.keys.shape)}, table {tuple(table.shape)}, "
            f"lengths {tuple(lengths.shape)} do not fit"
        )


def _probe_decode() -> Calls:
    lengths = torch.tensor([0, 1, 4, 5, 9], dtype=torch.int32)
    table = torch.arange(15, dtype=torch.int32).reshape(5, 3).flip(0)
    for (of_q, of_kv), size, window in itertools.product(((1, 1), (3, 1), (4, 2)), (1, 8, 33), (None, 1, 4)):
        pages = Pages(draw(15, 4, of_kv, size), draw(15, 4, of_kv, size) + 0.5)
        yield (draw(5, of_q, size, apart=bool(window)), pages, table, lengths), {"window": window}


@op(cost=_decode_cost, tolerance=ATTENTION_TOLERANCE, probe=_probe_decode)
def paged_decode(
    q: Tensor, pages: Pages, table: Tensor, lengths: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """One query of each sequence against its stored keys, its own included. q (S, Hq, D); returns (S, Hq, D).

    table (S, blocks) int32, entries behind the window may be anything; lengths (S,) int32, 0: an empty sequence,
    which yields zero. `window`: keys that a query sees at most.
    """
    check_pages(q, pages, table, lengths)
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


@paged_decode.fast("torch-sdpa", "cpu", "cuda")
def paged_decode_sdpa(
    q: Tensor, pages: Pages, table: Tensor, lengths: Tensor, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """torch's fused kernel, a sequence at a time, on the keys that its window shows, dequantised."""
    check_pages(q, pages, table, lengths)
    out = torch.zeros_like(q)
    for s, length in enumerate(lengths.tolist()):
        if not length:
            continue
        begin = max(0, length - window) if window else 0
        first = begin // pages.page
        past = pages.dense(table[s, first:], length - first * pages.page)
        k, v = (t[begin - first * pages.page :].to(q.dtype).transpose(0, 1)[None] for t in past)  # (1, Hkv, T, D)
        out[s] = F.scaled_dot_product_attention(q[s, None, :, None], k, v, scale=scale, enable_gqa=True)[0, :, 0]
    return out
