"""Perplexity of a runner over tokens, in the very engine that serves. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

import numpy as np

from windward_worker.inference.block_manager import BLOCK_SIZE
from windward_worker.inference.runner import Runner, SequenceInput

WINDOW = 512  # tokens that a window's last ones see before them, at most
PIECE = 128  # tokens a step: bounds the logits held at once


def blocks_needed() -> int:
    """KV blocks that `perplexity` uses."""
    return WINDOW // BLOCK_SIZE + 1


def perplexity(runner: Runner, ids: Seq[int]) -> float:
    """exp of the mean cross-entropy of each token given those before it in its window; windows do not overlap.

    Raises ValueError for fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError("perplexity needs two tokens or more")
    window = min(WINDOW, runner.config.max_position_embeddings)
    table, nats, count = list(range(blocks_needed())), 0.0, 0
    for begin in range(0, len(ids) - 1, window):
        context = ids[begin : min(begin + window, len(ids) - 1)]
        for at in range(0, len(context), PIECE):
            piece = context[at : at + PIECE]
            logits = runner.step([SequenceInput(piece, at, table, outputs=len(piece))]).astype(np.float64)  # (T, V)
            targets = ids[begin + at + 1 : begin + at + 1 + len(piece)]
            peak = logits.max(axis=1)
            total = np.log(np.exp(logits - peak[:, None]).sum(axis=1)) + peak
            nats += float((total - logits[np.arange(len(piece)), list(targets)]).sum())
            count += len(piece)
    return math.exp(min(nats / count, 700.0))
