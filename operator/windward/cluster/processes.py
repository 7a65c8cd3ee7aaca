"""Processes of runs on this machine, found by the mark that each inherits in its environment: `WINDWARD_RUN`.

A number names a process only until it ends, so a process is known by its number and start time. On Linux the start time
is derived from the machine's clock, which may be set meanwhile: where the times differ, the mark decides. Some systems
hide the environment of some programs; there the times alone decide.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from windward_api import contract

PATIENCE_S = 5.0
_POLL_S = 0.02


def started(pid: int) -> str | None:
    """Returns the start time of a process, which with its number names it. None: it has ended, or is a zombie."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return repr(process.create_time())
    return None


def is_same(pid: int, noted: str | None, token: str) -> bool:
    """Returns whether process `pid` lives and is the one of the run with this token whose start time was noted."""
    now = started(pid)
    if now is None:
        return False
    with suppress(psutil.Error):
        return now == noted or _has_token(psutil.Process(pid), token)
    return False


def has_children(pid: int) -> bool:
    """Returns whether a process is the parent of any."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).children())
    return False


def supervisor_of(token: str) -> int | None:
    """Returns the process that supervises the run with this token."""
    for process in of_run(token):
        with suppress(psutil.Error):
            if "exec" in process.cmdline():
                return int(process.pid)
    return None


def of_run(token: str) -> Iterator[psutil.Process]:
    """Yields our user's processes that run for this token; one that has ended has no environment."""
    for process in psutil.process_iter():
        if _has_token(process, token):
            yield process


def kill_tree(pid: int) -> None:
    """Kill a process, and then its descendants: so it sees none of them end and reports nothing."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            _kill(member)


def end_run(token: str, patience_s: float = PATIENCE_S) -> tuple[int, list[int]]:
    """End every process of the run with this token; to be called when its supervisor is gone, or is to go.

    Returns:
        How many there were, and those that did not end in time.
    """
    ended, begun = set[int](), time.monotonic()
    while left := [process for process in of_run(token) if process.pid != os.getpid()]:
        if time.monotonic() - begun > patience_s:
            return len(ended), [process.pid for process in left]
        ended.update(process.pid for process in left if _kill(process))
        time.sleep(_POLL_S)
    return len(ended), []


def _kill(process: psutil.Process) -> bool:
    """Kill a process, and no other that has its number by now. Returns whether it was there."""
    try:
        process.kill()
    except psutil.Error:
        return False
    return True


def _has_token(process: psutil.Process, token: str) -> bool:
    with suppress(psutil.Error, OSError):
        ours = process.uids().effective == os.getuid() and process.status() != psutil.STATUS_ZOMBIE
        return bool(ours and process.environ().get(contract.ENV_RUN) == token)
    return False
