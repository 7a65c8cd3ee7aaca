"""What stands before every request: the token, the body's bounds, and a catch for faults of our own.

Plain ASGI, so that nothing is read of a body before its sender is known. A fault is logged by its kind and place only:
an exception's words could hold the prompt.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import traceback
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windward_worker.serve.errors import ApiError

log = logging.getLogger("windward.serve")
BODY_S = 30.0  # a body must be here by then


def place_of(error: BaseException) -> str:
    """Kind of an error and the line that raised it, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


class Guard:
    """Middleware. `token` None: everyone may ask. `refusal` says why no request is taken now, or None."""

    def __init__(
        self, app: ASGIApp, *, token: str | None, max_body: int, refusal: Callable[[], ApiError | None] = lambda: None
    ) -> None:
        self._app = app
        self._digest = None if token is None else _digest(token.encode())
        self._max_body = max_body
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, _replay(await self._body(scope, receive), receive), send_on)
        except ApiError as error:
            await error.response()(scope, receive, send)
        except Exception as error:
            log.error("a request failed: %s", place_of(error))
            if not begun:
                failed = ApiError(500, "the server failed on this request; it is not your fault", code="internal")
                await failed.response()(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises ApiError 401 without the right token, and whatever `refusal` says."""
        if self._digest is not None:
            header = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
            scheme, _, token = header.partition(b" ")
            # Digests have one length, so the comparison's time tells nothing of the token's.
            if scheme.lower() != b"bearer" or not hmac.compare_digest(_digest(token.strip()), self._digest):
                raise ApiError(401, "give the server's token: Authorization: Bearer TOKEN", code="invalid_api_key")
        if (refusal := self._refusal()) is not None:
            raise refusal

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises ApiError where it is too large or too slow."""
        too_large = ApiError(413, f"the body is larger than {self._max_body} bytes", code="body_too_large")
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > self._max_body:
            raise too_large
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(BODY_S):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the connection was closed before the body was whole")
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > self._max_body:
                        raise too_large
        except TimeoutError:
            raise ApiError(408, f"the body did not come within {BODY_S:g} s", code="timeout") from None
        return b"".join(parts)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _replay(body: bytes, receive: Receive) -> Receive:
    """First the body, then what the connection says next: its end."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
