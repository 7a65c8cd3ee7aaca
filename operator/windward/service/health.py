"""Health and metrics over HTTP: `/healthz` is liveness, `/readyz` readiness, `/metrics` Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Probe = Callable[[], str | None]  # what is wrong, or None


def serve(port: int, live: Probe, ready: Probe, registry: CollectorRegistry) -> ThreadingHTTPServer:
    """Serve on all addresses of the pod, from a thread of its own, until `shutdown`."""

    class Handler(BaseHTTPRequestHandler):
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
            self._answer(200 if wrong is None else 503, ((wrong or "ok") + "\n").encode())

        def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes every few seconds are no news."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
