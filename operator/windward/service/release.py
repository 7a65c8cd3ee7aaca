"""`windward-operator release`: starts managed workloads whose latest safe start is past.

It does so whatever became of the operator: it needs nothing of it but the annotation that says when.
"""

from __future__ import annotations

import logging
import signal
import threading

from windward.cluster.kube_api import Api, connect
from windward.cluster.managed_reader import ManagedReader
from windward.cluster.port import ClusterError
from windward.cluster.release import is_overdue, release
from windward.domain.clock import Clock
from windward.service.clock import SystemClock
from windward.service.health import serve
from windward.service.settings import Settings

log = logging.getLogger(__name__)
EVERY_S = 5.0
PATIENCE_S = 120.0


class ReleaseLoop:
    """Looks at all managed workloads again and again."""

    def __init__(self, api: Api, clock: Clock, reader: ManagedReader) -> None:
        self.api, self.clock, self.reader = api, clock, reader
        self.last_good = clock.now()

    def look(self) -> int:
        """Releases what is overdue; returns how many that were. What fails for one object is tried again.

        Raises:
            ClusterError: the cluster does not answer.
        """
        released = 0
        for kind, body in self.reader.objects():
            if not is_overdue(body, self.clock.now()):
                continue
            name = f"{kind.kind} {body['metadata']['namespace']}/{body['metadata']['name']}"
            try:
                release(self.api, kind, body)
                released += 1
                log.warning("%s: its latest start is past, and nobody had started it: released", name)
            except Exception:
                log.exception("%s: could not be released", name)
        self.last_good = self.clock.now()
        return released

    def dead(self) -> str | None:
        """Liveness: what is wrong, or None."""
        late_s = (self.clock.now() - self.last_good).total_seconds()
        return f"no good look for {late_s:.0f} s" if late_s > PATIENCE_S else None

    def run(self, stop: threading.Event) -> None:
        """Looks every `EVERY_S` seconds until `stop` is set."""
        while not stop.is_set():
            try:
                self.look()
            except ClusterError as e:
                log.warning("%s; looking again", e)
            stop.wait(EVERY_S)


def release_overdue(settings: Settings) -> int:
    """Runs the loop until SIGTERM."""
    from windward.service.metrics import Metrics

    stop, clock, api = threading.Event(), SystemClock(), Api(connect())
    loop = ReleaseLoop(api, clock, ManagedReader(api, clock, settings.namespaces))
    server = serve(settings.http_port, loop.dead, loop.dead, Metrics().registry, lambda: "looking")
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    loop.run(stop)
    server.shutdown()
    return 0
