"""Is the operator deaf? Watches have died silently in every operator framework; a sweep that lists everything knows.

What a list shows and the watch has not told within a minute means that the watch no longer tells. The sweep goes on
serving all jobs meanwhile; the liveness probe has the process restarted.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

PATIENCE = timedelta(seconds=60)


class Ears:
    """Compares the versions of objects that lists showed with those that the watch told. Thread-safe."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._owed: dict[str, tuple[int, datetime]] = {}
        self._lock = threading.Lock()

    def told(self, uid: str, version: str) -> None:
        """The watch told of `uid` at this version."""
        if not version.isdigit():
            return
        with self._lock:
            self._told[uid] = max(int(version), self._told.get(uid, 0))
            if uid in self._owed and self._owed[uid][0] <= self._told[uid]:
                del self._owed[uid]

    def listed(self, versions: dict[str, str], now: datetime) -> None:
        """A list showed these objects (uid -> version)."""
        with self._lock:
            for uid in [u for u in self._owed if u not in versions]:
                del self._owed[uid]
            for uid in [u for u in self._told if u not in versions]:
                del self._told[uid]
            for uid, version in versions.items():
                if version.isdigit() and int(version) > self._told.get(uid, 0):
                    since = self._owed[uid][1] if uid in self._owed else now
                    self._owed[uid] = (int(version), since)

    def deaf(self, now: datetime) -> bool:
        """Whether something listed has stayed untold for longer than `PATIENCE`."""
        with self._lock:
            return any(now - since > PATIENCE for _, since in self._owed.values())
