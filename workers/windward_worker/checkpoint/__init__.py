"""Checkpoints: complete or absent, verified when read, written only by the newest claimant."""

from windward_worker.checkpoint.claims import Claim, Claims
from windward_worker.checkpoint.store import Checkpoint, CheckpointStore, FolderStore, Loaded

__all__ = ["Checkpoint", "CheckpointStore", "Claim", "Claims", "FolderStore", "Loaded"]
