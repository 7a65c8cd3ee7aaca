"""Health and metrics over HTTP: `/healthz` is liveness, `/readyz` readiness, `/metrics` Prometheus.

At most `MOST` connections are open at once and each has `PATIENCE_S` to send its request, so that idle clients can
neither exhaust file descriptors nor block probes for longer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Probe = Callable[[], str | None]  # what is wrong, or None
MOST = 64
PATIENCE_S = 3.0  # a probe has 5 s


class Server(ThreadingHTTPServer):
    """A threading server with a bound on connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._open: dict[socket.socket, None] = {}  # oldest first
        self._guard = threading.Lock()
        super().__init__(*args, **kwargs)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection; if too many are open, close the oldest."""
        with self._guard:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > MOST else None
        if oldest is not None:
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its thread sees the end and closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was sent away, is no news."""


def serve(
    port: int, live: Probe, ready: Probe, registry: CollectorRegistry, state: Callable[[], str] = lambda: "ok"
) -> Server:
    """Serve on all addresses of the pod, from a thread of its own, until `shutdown`.

    Args:
        live, ready: what is wrong, or None.
        state: the text that follows `ok: ` when nothing is wrong.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_S

        def do_GET(self) -> None:
            match self.path.split("?")[0]:
                case "/healthz":
                    self._probe(live())
                case "/readyz":
                    self._probe(ready())
                case "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"not found\n")

        def _probe(self, wrong: str | None) -> None:
            text = f"ok: {state()}" if wrong is None else wrong
            self._answer(200 if wrong is None else 503, (text + "\n").encode())

        def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes every few seconds are no news."""

    server = Server(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
