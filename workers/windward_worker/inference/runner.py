"""What computes a step: the face that the engine sees, and the runner of the compiled extension."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Seq
from typing import Protocol

import numpy as np
import numpy.typing as npt

from windward_kernels.cpp import library, set_threads
from windward_kernels.cpp.paged import CACHE_KINDS, PagePool, SequenceInput, Step
from windward_worker.control import Refused
from windward_worker.model.config import ModelConfig
from windward_worker.model.families import family_of
from windward_worker.model.packed import PackedModel

Floats = npt.NDArray[np.float32]

__all__ = ["CpuRunner", "Runner", "SequenceInput"]


class Runner(Protocol):
    """Computes steps over a pool of KV blocks that it holds. One caller at a time."""

    config: ModelConfig
    blocks: int

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of keys and values that one token takes, over all layers."""

    def step(self, inputs: Seq[SequenceInput]) -> Floats:
        """Store the tokens' keys and values; logits (sum of outputs, V), in the order of `inputs`.

        The array may be the runner's own: it holds until the next call.
        """

    def hidden_states(self, inputs: Seq[SequenceInput]) -> Floats:
        """As `step`, but the states after the last norm, (sum of outputs, C)."""


class CpuRunner:
    """A packed model on the compiled extension: one call into it a step."""

    def __init__(self, model: PackedModel, *, blocks: int, kv: str = "float16", threads: int = 1) -> None:
        """`kv`: float32, float16, or int8 and int4 with scales for each token and head. Raises Refused, Unavailable."""
        if kv not in CACHE_KINDS:
            raise Refused(f"KV cache {kv!r} is not known; give one of {', '.join(CACHE_KINDS)}")
        self.config, self.blocks, self.kv = model.config, blocks, kv
        self._model = model
        self._library = library()
        set_threads(threads)
        state = family_of(self.config).state(self.config)
        sizes = {"layers": state.layers, "kv_heads": state.heads, "head_dim": state.head_dim}
        self._pool = PagePool(kv, blocks=blocks, **sizes)
        self._out = np.empty(0, np.float32)

    @property
    def kv_bytes_per_token(self) -> float:
        return self._pool.bytes_per_token

    def step(self, inputs: Seq[SequenceInput]) -> Floats:
        return self._run(inputs, self.config.vocab_size, "logits")

    def hidden_states(self, inputs: Seq[SequenceInput]) -> Floats:
        return self._run(inputs, self.config.hidden_size, "hidden_states")

    def _run(self, inputs: Seq[SequenceInput], width: int, output: str) -> Floats:
        step = Step.of(inputs)
        out = self._room(len(step.output), width)
        setattr(step.c, output, out.ctypes.data)
        if self._library.ww_step(ctypes.byref(self._model.c), ctypes.byref(self._pool.c), ctypes.byref(step.c)):
            raise ValueError("a step names a token, place or block that the model or its pool does not have")
        return out

    def _room(self, outputs: int, width: int) -> Floats:
        """(outputs, width), the same memory each time: megabytes, of which the system would clear fresh pages."""
        if self._out.size < outputs * width:
            self._out = np.empty(outputs * width, np.float32)
        room: Floats = self._out[: outputs * width].reshape(outputs, width)
        return room
