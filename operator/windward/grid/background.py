"""Refreshing on a thread of its own, for a thread that must not wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime

log = logging.getLogger(__name__)


class BackgroundRefresh:
    """At most one refresh at a time; its thread takes up what is asked for meanwhile.

    Args:
        refresh: asks for zones, and returns when all have answered or failed.
    """

    def __init__(self, refresh: Callable[[Iterable[str], datetime], None]) -> None:
        self._refresh = refresh
        self._lock = threading.Lock()
        self._zones: set[str] = set()
        self._running = False

    def start(self, zones: Iterable[str], now: datetime, then: Callable[[], None]) -> None:
        """Have zones refreshed, and `then` called after it. Returns at once."""
        with self._lock:
            self._zones.update(zones)
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, args=(now, then), name="forecasts", daemon=True).start()

    def _run(self, now: datetime, then: Callable[[], None]) -> None:
        while zones := self._take():
            try:
                self._refresh(zones, now)
            except Exception:  # a bug of ours must not end the asking for good
                log.exception("the forecasts of %s could not be refreshed", ", ".join(zones))
            then()

    def _take(self) -> list[str]:
        """The zones that wait; where there are none the thread is at its end."""
        with self._lock:
            zones = sorted(self._zones)
            self._zones.clear()
            self._running = bool(zones)
            return zones
