"""Logs that a stranger cannot flood: of each warning, so many in a while; then their number."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

MOST, WINDOW_S = 10, 10.0
KINDS = 1024  # templates that are remembered


class Limited(logging.Filter):
    """Lets `most` records of a template pass in `window_s`; the first after them tells how many were left out.

    Records below WARNING pass: those are written for work that was admitted. Put it on a handler.
    """

    def __init__(
        self, most: int = MOST, window_s: float = WINDOW_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._most = most
        self._window_s = window_s
        self._monotonic = monotonic
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # template -> begin of its window, records in it

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key, now_s = (record.name, str(record.msg)[:256]), self._monotonic()
        if key not in self._seen and len(self._seen) >= KINDS:
            self._seen.clear()
        begun_s, count = self._seen.get(key, (now_s, 0))
        if now_s - begun_s < self._window_s:
            self._seen[key] = (begun_s, count + 1)
            return count < self._most
        self._seen[key] = (now_s, 1)
        if count > self._most:
            record.msg = f"{record.getMessage()} (and {count - self._most} more like it)"
            record.args = None
        return True
