"""Inference: continuous batching over a paged KV cache, and the batch door that resumes by line.

engine.py is the cycle; scheduler.py, block_manager.py, sequence.py and batch_policy.py are pure; signals.py is what the
pod is told; runner.py computes (torch_runner.py in plain torch); run.py is the `infer` command.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.inference.batch_policy import BatchPolicy, batch_policy_for
    from windward_worker.inference.block_manager import BlockManager
    from windward_worker.inference.embed import Embedder
    from windward_worker.inference.engine import Answer, Engine, EngineEvent
    from windward_worker.inference.open import OpenedModel, open_runner
    from windward_worker.inference.run import infer
    from windward_worker.inference.runner import CpuRunner, Runner, SequenceInput
    from windward_worker.inference.scheduler import BatchLimits, Scheduler
    from windward_worker.inference.sequence import FinishReason, Request
    from windward_worker.inference.signals import RuntimeSignals, read_signals
    from windward_worker.inference.torch_runner import TorchRunner

_HOMES = {
    "Answer": "engine",
    "BlockManager": "block_manager",
    "CpuRunner": "runner",
    "Embedder": "embed",
    "FinishReason": "sequence",
    "Engine": "engine",
    "EngineEvent": "engine",
    "BatchLimits": "scheduler",
    "OpenedModel": "open",
    "RuntimeSignals": "signals",
    "BatchPolicy": "batch_policy",
    "Request": "sequence",
    "SequenceInput": "runner",
    "Runner": "runner",
    "Scheduler": "scheduler",
    "TorchRunner": "torch_runner",
    "infer": "run",
    "open_runner": "open",
    "batch_policy_for": "batch_policy",
    "read_signals": "signals",
}

__all__ = [
    "Answer",
    "BatchLimits",
    "BatchPolicy",
    "BlockManager",
    "CpuRunner",
    "Embedder",
    "Engine",
    "EngineEvent",
    "FinishReason",
    "OpenedModel",
    "Request",
    "Runner",
    "RuntimeSignals",
    "Scheduler",
    "SequenceInput",
    "TorchRunner",
    "batch_policy_for",
    "infer",
    "open_runner",
    "read_signals",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
