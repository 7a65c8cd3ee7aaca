"""The storage that jobs share, as a folder: a mounted one, or a scratch copy of what a run needs of an object store."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from windward_worker.control import Refused, RunEnv

if TYPE_CHECKING:
    from windward_worker.checkpoint.objects import Objects


class SharedStorage:
    """Inputs and results of a run.

    On a volume `fetch` and `publish` do nothing. For an object store the folder is a scratch one that ends with the
    process; caches in it are made anew by each run.

    Attributes:
        env: the run's environment, whose storage is the folder.
    """

    def __init__(self, env: RunEnv) -> None:
        """Raises Refused where no storage is named or usable."""
        self._objects: Objects | None = None
        if env.storage_uri is None:
            env.need_storage_dir()
            self.env = env
            return
        from windward_worker.checkpoint.objects import Objects

        self._objects = Objects(env.storage_uri)
        self._scratch = tempfile.TemporaryDirectory(prefix="windward-storage-")
        self.env = replace(env, storage_dir=Path(self._scratch.name))

    def fetch(self, relative: str) -> None:
        """Bring a file or folder into the folder. Raises Refused where there is none, OSError."""
        if self._objects is None:
            return
        paths = list(self._objects.list(relative)) or [relative]
        for path in paths:
            target = self.env.inside_storage(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.write_bytes(self._objects.get(path))
            except FileNotFoundError as error:
                raise Refused(f"{error}; put it there, or name another path") from error

    def publish(self, relative: str) -> None:
        """Keep a folder of results. Each file is whole or absent; a set of them is for readers who come later."""
        if self._objects is None:
            return
        root = self.env.inside_storage(relative)
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            self._objects.put(f"{relative}/{path.relative_to(root).as_posix()}", path.read_bytes())

    def holds(self, relative: str) -> bool:
        """Whether there is a folder of results."""
        if self._objects is None:
            return self.env.inside_storage(relative).is_dir()
        return bool(self._objects.list(relative))
