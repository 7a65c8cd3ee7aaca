"""Where requests arrive: the one part of an engine that other threads may call."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from windward_worker.inference.sequence import Request, Sequence


class Intake:
    """Sequences that have arrived, and ids to abort, until the engine's next step takes them."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._arrived: list[Sequence] = []
        self._aborted: set[int] = set()
        self.draining = False

    def add(self, request: Request, max_length: int) -> int:
        """Take a request for at most `max_length` tokens, prompt included; returns its id.

        Raises ValueError once draining.
        """
        tokens = [*request.prompt, *request.generated]
        with self._lock:
            if self.draining:
                raise ValueError("the engine is draining: it takes no more requests")
            sequence = Sequence(next(self._ids), request, max_length, tokens, self._monotonic())
            self._arrived.append(sequence)
        return sequence.id

    def abort(self, identity: int) -> None:
        """End a request at the next step; unknown ids are ignored."""
        with self._lock:
            self._aborted.add(identity)

    def drain(self) -> None:
        """Take no more requests."""
        with self._lock:
            self.draining = True

    def take(self) -> tuple[list[Sequence], set[int]]:
        """What has arrived since the last call, by arrival, and the ids to abort."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
            aborted, self._aborted = self._aborted, set()
        return arrived, aborted

    @property
    def arrived(self) -> list[Sequence]:
        """Those that no step has taken yet; a copy."""
        with self._lock:
            return [*self._arrived]
