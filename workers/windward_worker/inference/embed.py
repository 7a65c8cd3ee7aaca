"""Vectors of texts from a decoder's states, each computed once: the cheapest token is the one not computed again.

A long text is computed in chunks, so that an engine can step between them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Generator
from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt

from windward_worker.inference.block_manager import BLOCK_SIZE, BlockManager
from windward_worker.inference.runner import Runner, SequenceInput

Floats = npt.NDArray[np.float32]


class Embedder:
    """The mean of the last states over a text's tokens, scaled to length one. Keeps the `keep` used last.

    A decoder's states are a serviceable measure of likeness, not a trained embedding's equal.
    """

    def __init__(self, runner: Runner, block_manager: BlockManager, *, keep: int = 4096, chunk: int = 512) -> None:
        """`chunk`: tokens that are computed at once."""
        self._chunk = chunk
        self._runner = runner
        self._block_manager = block_manager
        self._keep = keep
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def embed(self, tokens: Seq[int]) -> Floats:
        """(C,), read-only. Raises ValueError for no tokens, or more than the context or the free KV blocks hold."""
        work = self.steps(tokens)
        while True:
            try:
                next(work)
            except StopIteration as end:
                vector: Floats = end.value
                return vector

    def steps(self, tokens: Seq[int]) -> Generator[None, None, Floats]:
        """As `embed`, one chunk of the text a turn; closing it gives its blocks back."""
        digest = hashlib.blake2b(array("q", tokens).tobytes(), digest_size=16).digest()
        if digest in self._kept:
            self.hits += 1
            self._kept.move_to_end(digest)
            return self._kept[digest]
        if not 0 < len(tokens) <= self._runner.config.max_position_embeddings:
            raise ValueError(
                f"a text of {len(tokens)} tokens; this model takes 1 to {self._runner.config.max_position_embeddings}"
            )
        table: list[int] = []
        if not self._block_manager.allocate(table, len(tokens)):
            raise ValueError(
                f"a text of {len(tokens)} tokens needs {-(-len(tokens) // BLOCK_SIZE)} free KV blocks; try later"
            )
        total = np.zeros(self._runner.config.hidden_size, np.float64)
        try:
            for begin in range(0, len(tokens), self._chunk):
                if begin:
                    yield
                part = tokens[begin : begin + self._chunk]
                states = self._runner.hidden_states([SequenceInput(part, begin, table, outputs=len(part))])  # (T, C)
                total += states.sum(axis=0)
        finally:
            self._block_manager.release(table)
        mean = (total / len(tokens)).astype(np.float32)
        vector: Floats = mean / max(float(np.linalg.norm(mean)), 1e-12)
        vector.flags.writeable = False
        self.misses += 1
        self._kept[digest] = vector
        while len(self._kept) > self._keep:
            self._kept.popitem(last=False)
        return vector
