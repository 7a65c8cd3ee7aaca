"""A submitted request, as the task that waits for it sees it."""

from __future__ import annotations

import asyncio
import time

from windward_worker.inference.engine import EngineEvent
from windward_worker.serve.errors import ApiError


class RequestHandle:
    """Passes one request's events from the engine's host to the one task that reads them."""

    def __init__(self, identity: int) -> None:
        self.id = identity
        self.arrived_s = time.monotonic()
        self.last_token_s: float | None = None
        self.cut = False  # ended early, as the grace after SIGTERM was over
        self._events: list[EngineEvent] = []
        self._ready = asyncio.Event()
        self._failed = False

    def put(self, event: EngineEvent) -> None:
        self._events.append(event)
        self._ready.set()

    def fail(self) -> None:
        self._failed = True
        self._ready.set()

    async def read(self) -> list[EngineEvent]:
        """What has come since the last call, at least one. Raises ApiError where the engine has failed."""
        await self._ready.wait()
        if self._failed:
            raise ApiError(500, "the engine has failed; another server may answer", code="engine_failed")
        self._ready.clear()
        events, self._events = self._events, []
        return events
