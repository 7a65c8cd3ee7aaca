"""SIGTERM asks for a pause; the work answers at its next safe point."""

from __future__ import annotations

import signal
from types import FrameType

from windward_worker.control.errors import PauseRequested


class PauseRequest:
    """A flag that SIGTERM, or a first Ctrl-C, raises. A second Ctrl-C interrupts as usual."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> PauseRequest:
        """Take over the signals of this process; call it in the main thread before any heavy import."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raises PauseRequested once a pause was asked for; call it where nothing would be lost."""
        if self.requested:
            raise PauseRequested
