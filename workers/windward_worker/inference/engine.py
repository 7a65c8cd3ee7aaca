"""A batch of prompts, answered together with a shared KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from windward_kernels import sample
from windward_worker.model import Decoder, KVCache


@dataclass(slots=True)
class Answer:
    """The tokens made for one prompt so far, without an end token; `done` once there will be no more."""

    tokens: list[int] = field(default_factory=list)
    done: bool = False


class Batch:
    """Prompts that are continued together, one token each per `step`.

    Shorter prompts are padded on the left and the padding is hidden, so a row's answer is what it would be alone (up
    to the rounding of other matrix shapes). Rows that are done leave the cache and cost nothing more.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> None:
        """Prompts are token ids, none empty, each shorter than the context. `seeds`: one per prompt, if sampling."""
        context = decoder.config.context
        lengths = [len(p) for p in prompts]
        assert min(lengths) > 0 and max(lengths) < context, "the caller sorts out prompts that do not fit"
        self.answers = [Answer() for _ in prompts]
        self._decoder = decoder
        self._limits = [min(max_tokens, context - n) for n in lengths]
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._rows = list(range(len(prompts)))  # of the cache -> of the answers
        weight = decoder.embed_tokens.weight
        longest = max(lengths)
        padded = [[0] * (longest - len(p)) + list(p) for p in prompts]
        self._next: Tensor = torch.tensor(padded, device=weight.device)  # (B, T): what the decoder has not seen yet
        ragged = min(lengths) < longest
        first_key = torch.tensor([longest - n for n in lengths], device=weight.device) if ragged else None
        self._cache = KVCache(
            decoder.config,
            len(prompts),
            longest + max(self._limits),
            dtype=weight.dtype,
            device=weight.device,
            first_key=first_key,
        )

    @property
    def done(self) -> bool:
        return not self._rows

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row that is not done."""
        logits = self._decoder(self._next, self._cache, last_only=True)[:, -1].float()  # (B, V)
        generators = [self._generators[row] for row in self._rows] if self._temperature > 0 else []
        chosen = sample(logits, self._temperature, generators)  # (B,)
        kept = []
        for place, (row, token) in enumerate(zip(self._rows, chosen.tolist(), strict=True)):
            answer = self.answers[row]
            if token == self._decoder.config.eos:
                answer.done = True
                continue
            answer.tokens.append(token)
            answer.done = len(answer.tokens) >= self._limits[row]
            if not answer.done:
                kept.append(place)
        if len(kept) < len(self._rows):
            places = torch.tensor(kept, dtype=torch.int64, device=chosen.device)
            self._rows = [self._rows[place] for place in kept]
            self._cache.keep(places)
            chosen = chosen[places]
        self._next = chosen[:, None]
