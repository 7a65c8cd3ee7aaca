"""Inference: continuous batching over a paged KV cache, and the batch door that resumes by line.

engine.py is the cycle; scheduler.py, blocks.py, sequence.py and pace.py are pure; orders.py is what the
pod is told; runner.py computes (torch_runner.py in plain torch); run.py is the `infer` command.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.inference.blocks import Blocks
    from windward_worker.inference.embed import Embedder
    from windward_worker.inference.engine import Answer, Engine, Event
    from windward_worker.inference.open import Opened, open_runner
    from windward_worker.inference.orders import Orders, read_orders
    from windward_worker.inference.pace import Pace, pace_for
    from windward_worker.inference.run import infer
    from windward_worker.inference.runner import CpuRunner, Rows, Runner
    from windward_worker.inference.scheduler import Limits, Scheduler
    from windward_worker.inference.sequence import Ended, Request
    from windward_worker.inference.torch_runner import TorchRunner

_HOMES = {
    "Answer": "engine",
    "Blocks": "blocks",
    "CpuRunner": "runner",
    "Embedder": "embed",
    "Ended": "sequence",
    "Engine": "engine",
    "Event": "engine",
    "Limits": "scheduler",
    "Opened": "open",
    "Orders": "orders",
    "Pace": "pace",
    "Request": "sequence",
    "Rows": "runner",
    "Runner": "runner",
    "Scheduler": "scheduler",
    "TorchRunner": "torch_runner",
    "infer": "run",
    "open_runner": "open",
    "pace_for": "pace",
    "read_orders": "orders",
}

__all__ = [
    "Answer",
    "Blocks",
    "CpuRunner",
    "Embedder",
    "Ended",
    "Engine",
    "Event",
    "Limits",
    "Opened",
    "Orders",
    "Pace",
    "Request",
    "Rows",
    "Runner",
    "Scheduler",
    "TorchRunner",
    "infer",
    "open_runner",
    "pace_for",
    "read_orders",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
