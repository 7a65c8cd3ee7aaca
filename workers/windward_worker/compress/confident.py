"""Fewer bits of the keys where attention is sure of itself: how much less is read, and what that does to perplexity.

Keys are stored in int8, but so that the upper four bits can be read alone. A token's query meets those first. Where its
softmax already has one key with a share of `threshold` or more, the lower bits would hardly change it and are left in
memory; where the distribution is flat, small errors decide, and they are fetched and the scores computed anew. This is
progressive quantisation: Wang et al. 2021, SpAtten, arXiv 2012.09852, section III-D. Query heads that share a key head
must all be sure.

Memory is int8's; what falls is traffic. The runner here computes in torch and counts what would be read: it shows what
a kernel could save and at what price, not a speed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from windward_kernels import Causal, Pages
from windward_worker.compress.paged import PagedRunner
from windward_worker.compress.perplexity import blocks_needed, perplexity
from windward_worker.model.decoder import Decoder

log = logging.getLogger("windward.pareto")
Choice = Callable[
    [Tensor], Tensor
]  # largest share of a key (Hkv, T), the least of a group's heads -> who is sure: bool
NEVER = 1.01  # a threshold above every share


def confident(threshold: float) -> Choice:
    """Sure where one key has at least this share."""
    return lambda peak: peak >= threshold


def drawn(share: float, seed: int = 0) -> Choice:
    """The control: as many, drawn by lot."""
    generator = torch.Generator().manual_seed(seed)
    return lambda peak: torch.rand(peak.shape, generator=generator) < share


def upper(codes: Tensor) -> Tensor:
    """What the upper four bits of int8 codes say: the middle of the 16 codes that share them."""
    return (codes >> 4).float() * 16 + 7.5


class ConfidentRunner(PagedRunner):
    """Over int8 pages, whose keys are read with four bits where `choice` says so."""

    def __init__(self, decoder: Decoder, *, blocks: int, choice: Choice) -> None:
        super().__init__(decoder, blocks=blocks, kind="int8")
        self._choice = choice
        self.read = self.sure = 0.0  # keys read, each once for the heads that share it, and those with four bits

    def _one(self, q: Tensor, pages: Pages, table: Tensor, length: int) -> Tensor:
        (codes, scale), (values, by) = (_stored(side, table, length) for side in pages.sides())
        queries, keys = q.shape[1], length
        seen = Causal(window=self.config.sliding_window).visible(queries, keys, q.device)  # (T, Tk)
        grouped = q.reshape(codes.shape[0], -1, *q.shape[1:])  # (Hkv, G, T, D)

        def shares(read: Tensor) -> Tensor:
            scores = grouped @ (read * scale)[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])
            return scores.masked_fill(~seen, float("-inf")).softmax(-1)  # (Hkv, G, T, Tk)

        coarse = shares(upper(codes))
        sure = self._choice(coarse.amax(-1).amin(1))  # (Hkv, T)
        weight = torch.where(sure[:, None, :, None], coarse, shares(codes.float()))
        self.read += float(seen.sum() * codes.shape[0])
        self.sure += float((seen.sum(-1) * sure).sum())
        out: Tensor = weight @ (values.float() * by)[:, None]
        return out.flatten(0, 1)


def _stored(side: tuple[Tensor, Tensor | None, Tensor | None], table: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Codes (Hkv, Tk, D) int8 and scales (Hkv, Tk, 1) float32 of a sequence's keys or values."""
    codes, scales, _ = side
    assert scales is not None, "int8 pages have scales"
    place = torch.arange(length)
    at = table[place // codes.shape[1]].long(), place % codes.shape[1]
    return codes[at].transpose(0, 1), scales[at].T[..., None].float()


@dataclass(frozen=True, slots=True)
class Confidence:
    """A threshold's result. `key_bits`: read of a key's number; `drawn`: perplexity where as many chose by lot."""

    threshold: float
    share: float
    key_bits: float
    perplexity: float
    drawn: float


def measure_confidence(decoder: Decoder, ids: Sequence[int], thresholds: Sequence[float]) -> list[Confidence]:
    """Each threshold, and its control, over the same tokens. Above 1: int8 throughout; 0: four bits throughout."""
    measured = []
    for threshold in thresholds:
        log.info("sure from %g", threshold)
        runner = ConfidentRunner(decoder, blocks=blocks_needed(), choice=confident(threshold))
        reached = perplexity(runner, ids)
        share = runner.sure / runner.read
        control = reached
        if 0 < share < 1:  # else there is nothing to choose
            control = perplexity(ConfidentRunner(decoder, blocks=blocks_needed(), choice=drawn(share)), ids)
        measured.append(Confidence(threshold, round(share, 4), round(8 - 4 * share, 3), reached, control))
    return measured


def table(measured: Sequence[Confidence]) -> str:
    """For people: the change is against int8 throughout, the row of a threshold above 1."""
    whole = next((c.perplexity for c in measured if c.share == 0), measured[0].perplexity)
    rows = [f"{'sure from':>10}{'sure of':>10}{'bits a key':>12}{'perplexity':>12}{'change':>10}{'by lot':>10}"]
    for c in measured:
        name = "never" if c.threshold > 1 else f"{c.threshold:g}"
        change, control = (f"{100 * (p / whole - 1):+.2f} %" for p in (c.perplexity, c.drawn))
        rows.append(f"{name:>10}{c.share:>10.1%}{c.key_bits:>12.2f}{c.perplexity:>12.3f}{change:>10}{control:>10}")
    return "\n".join(
        [*rows, "sure of: share of key reads that need no lower bits; by lot: change where as many are drawn at random"]
    )
