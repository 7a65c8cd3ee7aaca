"""The processes of one cluster: each with a log file, each dead when the test run is, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LOG_TAIL = 3000


class ProcessDied(RuntimeError):
    """A part of the cluster ended on its own; the message has the end of its log."""


@dataclass(frozen=True)
class Part:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:]


class Supervisor:
    """Starts long-running parts and ends them in reverse order; ends nothing that it did not start."""

    def __init__(self, logs: Path, prefix: Sequence[str] = ()) -> None:
        self.logs = logs
        self.prefix = list(prefix)
        self.parts: list[Part] = []

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Part:
        log = self.logs / f"{name}.log"
        with log.open("ab") as sink:
            popen = subprocess.Popen(
                # pdeathsig: a test run that is killed outright still takes its cluster with it.
                ["setpriv", "--pdeathsig", "KILL", "--", *self.prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C is pytest's to handle, in its order
            )
        part = Part(name, popen, log)
        self.parts.append(part)
        return part

    def check(self) -> None:
        for part in self.parts:
            if part.popen.poll() is not None:
                raise ProcessDied(f"{part.name} ended with {part.popen.returncode}; the end of its log:\n{part.tail()}")

    def until(self, what: str, ready: Callable[[], T | None], timeout_s: float) -> T:
        """Waits until `ready` returns something true; fails at once when a part dies meanwhile."""
        end = time.monotonic() + timeout_s
        while True:
            self.check()
            if answer := ready():
                return answer
            if time.monotonic() > end:
                tails = "\n".join(f"--- {part.name}\n{part.tail()}" for part in self.parts)
                raise TimeoutError(f"{what}: not within {timeout_s:.0f} s\n{tails}")
            time.sleep(0.1)

    def stop(self, patience_s: float = 5) -> None:
        for part in reversed(self.parts):
            with contextlib.suppress(ProcessLookupError):
                part.popen.send_signal(signal.SIGTERM)
        end = time.monotonic() + patience_s
        for part in reversed(self.parts):
            try:
                part.popen.wait(max(0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                part.popen.kill()
                part.popen.wait()
        self.parts.clear()
