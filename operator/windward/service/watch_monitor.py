"""Detects a watch that stopped delivering without an error, by comparing it with what lists show.

The watch is stale when it has not delivered a change within a minute of a list showing it. Resyncs serve all jobs in
the meantime, and the liveness probe has the process restarted.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

PATIENCE = timedelta(seconds=60)


class WatchMonitor:
    """Compares the versions of objects that lists showed with those that the watch delivered. Thread-safe."""

    def __init__(self) -> None:
        self._delivered: dict[str, int] = {}
        self._missing: dict[str, tuple[int, datetime]] = {}
        self._lock = threading.Lock()

    def delivered(self, uid: str, version: str) -> None:
        """Notes that the watch delivered an object at this version."""
        if not version.isdigit():
            return
        with self._lock:
            self._delivered[uid] = max(int(version), self._delivered.get(uid, 0))
            if uid in self._missing and self._missing[uid][0] <= self._delivered[uid]:
                del self._missing[uid]

    def listed(self, versions: dict[str, str], now: datetime) -> None:
        """Notes what a list showed: uid -> version."""
        with self._lock:
            for uid in [u for u in self._missing if u not in versions]:
                del self._missing[uid]
            for uid in [u for u in self._delivered if u not in versions]:
                del self._delivered[uid]
            for uid, version in versions.items():
                if version.isdigit() and int(version) > self._delivered.get(uid, 0):
                    since = self._missing[uid][1] if uid in self._missing else now
                    self._missing[uid] = (int(version), since)

    def stale(self, now: datetime) -> bool:
        """Returns whether something listed was not delivered for longer than `PATIENCE`."""
        with self._lock:
            return any(now - since > PATIENCE for _, since in self._missing.values())
