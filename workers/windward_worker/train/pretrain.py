"""Training a decoder on text from random weights: model, loss, and how well it predicts text that it has not seen."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_api.workload import TrainSpec
from windward_worker.model import END_OF_TEXT, Decoder, decoder_config, token_bytes
from windward_worker.train.corpus import Corpus, Windows
from windward_worker.train.trainer import Hook, Schedule, Trainer

EVAL_TOKENS = 16384


class NextTokenLoss:
    """Mean cross-entropy in nats per token for windows (B, T + 1), in float32 or with bfloat16 products."""

    def __init__(self, precision: str) -> None:
        self._bfloat16 = precision == "bfloat16"

    def __call__(self, model: Decoder, windows: Tensor) -> Tensor:
        with self._cast(windows.device):
            logits = model(windows[:, :-1])  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())

    def _cast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        if self._bfloat16:
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


class _WindowBatches:
    """`Windows` as tensors."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def batch(self, first: int, size: int) -> Tensor:
        return torch.from_numpy(self._windows.batch(first, size))


def schedule_of(spec: TrainSpec) -> Schedule:
    """The steps that a TrainSpec asks for."""
    return Schedule(spec.steps, spec.batch_size, spec.accumulation, spec.learning_rate_micro * 1e-6)


def tokens_per_step(spec: TrainSpec) -> int:
    """Tokens that one optimiser step reads."""
    return spec.batch_size * spec.accumulation * spec.model.context


def pretraining(spec: TrainSpec, corpus: Corpus, device: torch.device, hooks: Sequence[Hook] = ()) -> Trainer[Decoder]:
    """A trainer of the decoder that the spec names, its weights drawn by the spec's seed."""
    sizes = spec.model
    end = corpus.tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None, "learn_bpe makes it token 0"
    model = Decoder(decoder_config(sizes.layers, sizes.width, sizes.vocabulary, sizes.context, end))
    model.initialise(spec.seed)
    model.to(device)
    torch.manual_seed(spec.seed)
    batches = _WindowBatches(Windows(corpus.train, sizes.context, spec.seed))
    return Trainer(model, NextTokenLoss(spec.precision), batches, schedule_of(spec), hooks)


@torch.no_grad()
def bits_per_byte(model: Decoder, corpus: Corpus, spec: TrainSpec, check: Callable[[], None]) -> float:
    """Cross-entropy on the text that was held out, in bits per byte of it: comparable across vocabularies.

    Calls `check` before each batch; it may raise.
    """
    context, loss, device = spec.model.context, NextTokenLoss(spec.precision), model.embed_tokens.weight.device
    sizes = torch.tensor(token_bytes(corpus.tokenizer))
    held_out = torch.from_numpy(corpus.held_out[: EVAL_TOKENS + 1].astype("int64"))
    windows = held_out[: (len(held_out) - 1) // context * context + 1].unfold(0, context + 1, context)
    nats, length = 0.0, 0
    for batch in torch.split(windows, spec.batch_size):
        check()
        nats += loss(model, batch.to(device)).item() * batch[:, 1:].numel()
        length += int(sizes[batch[:, 1:]].sum())
    return nats / math.log(2) / max(1, length)
