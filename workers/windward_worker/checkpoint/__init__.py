"""Checkpoints: complete or absent, verified when read, written only by the newest claimant.

Names are imported when first used: claims need no torch, which the stores bring.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.checkpoint.claims import Claim, Claims
    from windward_worker.checkpoint.content import Checkpoint, Loaded
    from windward_worker.checkpoint.object_store import ObjectStore
    from windward_worker.checkpoint.open import open_store
    from windward_worker.checkpoint.shared import SharedStorage
    from windward_worker.checkpoint.store import CheckpointStore, FolderStore

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Claim",
    "Claims",
    "FolderStore",
    "Loaded",
    "ObjectStore",
    "SharedStorage",
    "open_store",
]
_HOMES = {
    "Checkpoint": "content",
    "CheckpointStore": "store",
    "Claim": "claims",
    "Claims": "claims",
    "FolderStore": "store",
    "Loaded": "content",
    "ObjectStore": "object_store",
    "SharedStorage": "shared",
    "open_store": "open",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
