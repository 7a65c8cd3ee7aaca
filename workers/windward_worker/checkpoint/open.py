"""The checkpoint store of a run, as its environment names it."""

from __future__ import annotations

from windward_worker.checkpoint.store import CheckpointStore, FolderStore
from windward_worker.control import RunEnv


def open_store(env: RunEnv) -> CheckpointStore:
    """Returns the store in the object store or folder of this job. Raises Refused where neither is named or usable."""
    if env.checkpoint_uri is None:
        return FolderStore(env.need_checkpoint_dir())
    from windward_worker.checkpoint.object_store import ObjectStore
    from windward_worker.checkpoint.objects import Objects

    return ObjectStore(Objects(env.checkpoint_uri))
