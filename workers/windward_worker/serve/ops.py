"""The operators' port: /healthz and /metrics, nothing else, without a token. Plain ASGI."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


def ops_app(registry: CollectorRegistry, state: Callable[[], str]) -> ASGIApp:
    """`state` is `ok`, or a word for why no requests should come: then /healthz answers 503."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        response: Response
        if scope["path"] == "/healthz":
            response = PlainTextResponse(state() + "\n", 200 if state() == "ok" else 503)
        elif scope["path"] == "/metrics":
            response = Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
        else:
            response = PlainTextResponse("there are /healthz and /metrics\n", 404)
        await response(scope, receive, send)

    return app
