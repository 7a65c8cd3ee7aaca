"""What a client may do to a socket: how long it may be silent, how slowly it may read, and how many there may be.

uvicorn bounds none of these before a request is whole. A connection without a request under way (new, kept alive, or
with headers or a refused body still coming) is closed after a while; so is one that does not read its answer. Beyond
their number, further ones are told 503 and closed, or, on the operators' port, the oldest makes room.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from windward_worker.control import Refused

log = logging.getLogger("windward.serve")
ACCEPTED = 16  # connections that the loop takes from the system in one turn, before any is looked at
LINGERING = 16  # refused ones that still read why
LINGER_S = 1.0
OPS_MOST = 16
# Descriptors that clients cannot have: the operators' port, those being accepted or refused, files read on the way.
RESERVED = OPS_MOST + 4 * ACCEPTED + LINGERING + 16
FULL = json.dumps(
    {"error": {"message": "too many connections; try again", "type": "overloaded_error", "param": None, "code": "full"}}
).encode()
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(FULL), FULL)
)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Of one port. `evict`: a new connection beyond `most` takes the place of the oldest, and is not refused."""

    most: int
    silent_s: float  # without a whole request's headers, or a next request
    stuck_s: float = 60.0  # with an answer that the client does not read
    evict: bool = False


def open_files() -> int:
    """Descriptors that this process has now; a guess where the system does not tell."""
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 64


def connections_for(requested: int) -> int:
    """How many clients there may be at once: as wanted, or as the limit on descriptors allows, which is raised first.

    Raises Refused where it leaves room for none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_files()
    need = requested + used + RESERVED
    if soft != resource.RLIM_INFINITY and soft < need:
        raised = need if hard == resource.RLIM_INFINITY else min(need, hard)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY or soft >= need:
        return requested
    room = soft - used - RESERVED
    if room < 1:
        raise Refused(
            f"serve: the limit of {soft} open files (RLIMIT_NOFILE) is too low: {used + RESERVED} are needed before "
            "the first client; raise it, such as with ulimit -n 1024"
        )
    log.warning("%d clients at once instead of %d: the limit is %d open files (RLIMIT_NOFILE)", room, requested, soft)
    return room


def protocol(limits: ConnectionLimits) -> type[H11Protocol]:
    """A protocol class for one uvicorn server, which counts its connections."""
    members: dict[_Bounded, None] = {}  # oldest first
    refused: dict[_Bounded, None] = {}

    class Bounded(_Bounded):
        """See the module."""

    Bounded.limits, Bounded.members, Bounded.refused = limits, members, refused
    return Bounded


class _Bounded(H11Protocol):
    limits: ConnectionLimits
    members: dict[_Bounded, None]
    refused: dict[_Bounded, None]
    _watch: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _taken = False  # not refused
    _idle_since_s = 0.0

    def connection_made(self, transport: Any) -> None:
        if len(self.members) >= self.limits.most:
            if not self.limits.evict:
                self._refuse(transport)
                return
            oldest = next(iter(self.members))
            del self.members[oldest]
            oldest.transport.abort()
        self.members[self], self._taken = None, True
        super().connection_made(transport)
        self._idle_since_s = self.loop.time()
        self._watch = self.loop.call_later(self.limits.silent_s / 4, self._look)

    def _refuse(self, transport: asyncio.Transport) -> None:
        """Say why, and close once the client has read it: closed at once, one that still writes would not see it."""
        self.transport = transport
        if len(self.refused) >= LINGERING:  # the first of them has had the most time
            oldest = next(iter(self.refused))
            del self.refused[oldest]
            oldest.transport.abort()
        self.refused[self] = None
        transport.write(REFUSAL)
        transport.write_eof()
        self._watch = self.loop.call_later(LINGER_S, transport.abort)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        """Now and then: close a connection that has been without a request for too long."""
        now_s = self.loop.time()
        if not self._idle:
            self._idle_since_s = now_s
        elif now_s - self._idle_since_s >= self.limits.silent_s:
            self.transport.abort()
            return
        self._watch = self.loop.call_later(self.limits.silent_s / 4, self._look)

    def data_received(self, data: bytes) -> None:
        if not self._taken:
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or not self._idle:
            self._idle_since_s = self.loop.time()

    def eof_received(self) -> None:
        if not self._taken:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.stuck_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._watch, self._stuck):
            if timer is not None:
                timer.cancel()
        self.members.pop(self, None)
        if not self._taken:
            self.refused.pop(self, None)
            return
        super().connection_lost(exc)
