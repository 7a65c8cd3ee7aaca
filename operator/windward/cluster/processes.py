"""Processes of runs on this machine, found in Linux's /proc by the mark that each inherits: `WINDWARD_RUN`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from windward_api import contract

_PROC = Path("/proc")
PATIENCE_S = 5.0
_LOOK_S = 0.02


def started(pid: int) -> str | None:
    """Returns the start time of a process in ticks, which with the pid names it for good. None: gone, or a zombie."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def has_children(pid: int) -> bool:
    """Returns whether a process is the parent of any."""
    with suppress(OSError):
        return any(task.read_text().strip() for task in (_PROC / str(pid) / "task").glob("*/children"))
    return False


def supervisor_of(token: str) -> int | None:
    """Returns the process that supervises the run with this token."""
    for pid in _with_token(token):
        with suppress(OSError):
            if b"\0exec\0" in (_PROC / str(pid) / "cmdline").read_bytes():
                return pid
    return None


def end_run(token: str, patience_s: float = PATIENCE_S) -> tuple[int, list[int]]:
    """End every process of the run with this token; to be called when its supervisor is gone, or is to go.

    Returns:
        How many there were, and those that did not end in time.
    """
    ended, begun = set[int](), time.monotonic()
    while left := [pid for pid in _with_token(token) if pid != os.getpid()]:
        if time.monotonic() - begun > patience_s:
            return len(ended), left
        for pid in left:
            if _kill(pid, token):
                ended.add(pid)
        time.sleep(_LOOK_S)
    return len(ended), []


def _kill(pid: int, token: str) -> bool:
    """Kill a process, and no other that has its number by now."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _has_token(pid, token):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _with_token(token: str) -> Iterator[int]:
    """Our user's processes that run for this token; those that have ended, and the kernel's, have no environment."""
    if not _PROC.is_dir():
        return
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _has_token(int(entry.name), token):
            yield int(entry.name)


def _has_token(pid: int, token: str) -> bool:
    folder = _PROC / str(pid)
    with suppress(OSError):
        if folder.stat().st_uid == os.getuid():
            return f"\0{contract.ENV_RUN}={token}\0".encode() in b"\0" + (folder / "environ").read_bytes()
    return False
