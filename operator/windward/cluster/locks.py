"""Locks on this machine: which job is driven by which process, and one admission at a time.

The system drops a lock when the process that holds it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ATTEMPTS = 3  # a process that only looks (`driven`) holds a lock for a moment
_RETRY_S = 0.02


class Locks:
    """Which jobs this process drives: an exclusive lock for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def take(self, uid: str) -> bool:
        """Take the lock of the job `uid`. Returns whether this process drives the job, from now on or already."""
        if uid in self._held:
            return True
        fd = self._open(uid)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt == _ATTEMPTS:
                    os.close(fd)
                    return False
                time.sleep(_RETRY_S)
            else:
                break
        self._held[uid] = fd
        return True

    def driven(self, uid: str) -> bool:
        """Returns whether any process drives the job `uid`."""
        if uid in self._held:
            return True
        try:
            fd = os.open(self._folder / f"{uid}.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Hold the lock under which one process at a time decides which job gets a name."""
        fd = self._open("admission")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def drop(self, uid: str) -> None:
        """Release the lock of one job."""
        if (fd := self._held.pop(uid, None)) is not None:
            os.close(fd)

    def release(self) -> None:
        """Release all locks that this process holds."""
        for uid in list(self._held):
            self.drop(uid)
