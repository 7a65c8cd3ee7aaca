"""What a supervised command leaves behind: a process that detached itself is still the run's, and ends with it.

In a pod the end of the container ends all of it; elsewhere the supervisor does. Linux only; on other systems nothing is
found. Source: prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 2.0  # from SIGTERM to SIGKILL
_LOOK_S = 0.02


def become_subreaper() -> None:
    """Make this process the parent of all descendants whose own parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """Process ids of the children of this process, ended ones that nobody waited for included."""
    pids: list[int] = []
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            pids += [int(pid) for pid in task.read_text().split()]
    return pids


def reap(but: Set[int]) -> None:
    """Wait for adopted descendants that have ended; `but`, which others hold, are left to them."""
    for pid in children():
        if pid not in but:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_descendants(but: Set[int], grace_s: float = GRACE_S) -> int:
    """End whatever of the command runs on after it: SIGTERM, and SIGKILL after `grace_s`. Returns how many there were.

    Children of one that ends become ours and are ended in turn.

    Args:
        but: the command itself, and children that are not of it.
    """
    begun, seen = time.monotonic(), set[int]()
    while True:
        reap(but)
        left = [pid for pid in children() if pid not in but]
        late = time.monotonic() - begun >= grace_s
        if not left or time.monotonic() - begun >= 2 * grace_s:
            return len(seen)
        for pid in left:
            if pid not in seen or late:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        seen.update(left)
        time.sleep(_LOOK_S)


def wait_for_exit(pid: int, timeout_s: float) -> None:
    """Return when the child `pid` has ended, at once, or after `timeout_s`; it is not waited for."""
    if sys.platform != "linux":
        time.sleep(timeout_s)
        return
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # waited for already, or a kernel without
        time.sleep(_LOOK_S)
        return
    try:
        select.select([fd], [], [], timeout_s)
    finally:
        os.close(fd)
