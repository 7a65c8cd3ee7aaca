"""Checkpoints: complete or absent, verified when read, written only by the newest claimant.

Names are imported when first used: claims need no torch, which the store brings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.checkpoint.claims import Claim, Claims
    from windward_worker.checkpoint.store import Checkpoint, CheckpointStore, FolderStore, Loaded

__all__ = ["Checkpoint", "CheckpointStore", "Claim", "Claims", "FolderStore", "Loaded"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "claims" if name in ("Claim", "Claims") else "store"
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
