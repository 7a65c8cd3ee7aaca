"""The routes. Each takes a seat, translates, waits for the engine or passes its tokens on, and leaves."""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from windward_worker.control import now
from windward_worker.inference.engine import Answer
from windward_worker.inference.sequence import Ended
from windward_worker.serve.desk import Desk, Job
from windward_worker.serve.errors import ApiError
from windward_worker.serve.guard import Guard, place_of
from windward_worker.serve.host import EngineHost, Ticket
from windward_worker.serve.metrics import Metrics
from windward_worker.serve.schema import ChatAsked, ErrorBody, TextAsked, VectorsAsked
from windward_worker.serve.settings import Settings
from windward_worker.serve.shapes import Outcome, Shape, failed

T = TypeVar("T")
log = logging.getLogger("windward.serve")
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


def make_app(desk: Desk, host: EngineHost, metrics: Metrics, settings: Settings) -> FastAPI:
    """The API of one model."""
    app = FastAPI(title="windward-worker serve", docs_url=None, redoc_url=None, responses=ERRORS)
    app.add_middleware(Guard, token=settings.token, max_body=settings.max_body, closed=desk.closed)
    service = _Service(desk, host, metrics)
    created = int(now().timestamp())
    card = {
        "id": desk.name,
        "object": "model",
        "created": created,
        "owned_by": "windward",
        "max_model_len": desk.context,
    }

    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    async def model(name: str) -> dict[str, Any]:
        desk.check_model(name)
        return card

    async def chat(asked: ChatAsked, http: HttpRequest) -> Response:
        return await service.generate(asked, http)

    async def complete(asked: TextAsked, http: HttpRequest) -> Response:
        return await service.generate(asked, http)

    async def embed(asked: VectorsAsked, http: HttpRequest) -> Response:
        return await service.embed(asked, http)

    app.get("/v1/models")(models)
    app.get("/v1/models/{name:path}")(model)
    app.post("/v1/chat/completions", response_model=None)(chat)
    app.post("/v1/completions", response_model=None)(complete)
    app.post("/v1/embeddings", response_model=None)(embed)

    async def api_error(_: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        metrics.refused(error.status)
        return error.response()

    async def invalid(_: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        metrics.refused(400)
        return _explained(error).response()

    async def other(_: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        metrics.refused(error.status_code)
        response = ApiError(error.status_code, str(error.detail)).response()
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, other)
    return app


def _explained(error: RequestValidationError) -> ApiError:
    """The first fault by field and rule. Never the value: it may be the prompt."""
    fault = error.errors()[0]
    place = [str(x) for x in fault["loc"] if x != "body"]
    param = _printable(".".join(place)[:128]) or None
    message = "the body is no JSON object" if fault["type"] == "json_invalid" else _printable(str(fault["msg"])[:256])
    return ApiError(400, f"{param}: {message}" if param else message, param=param, code=str(fault["type"]))


def _printable(text: str) -> str:
    """A client's own field names may hold what UTF-8 cannot say."""
    return text.encode("utf-8", "backslashreplace").decode()


class EventStream(StreamingResponse):
    """Server-sent events; `done` is called however it ends."""

    def __init__(self, parts: AsyncIterator[bytes], done: Callable[[], None]) -> None:
        super().__init__(parts, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


class _Reading:
    """Follows one ticket: its text in pieces, then its outcome."""

    def __init__(self, host: EngineHost, ticket: Ticket, job: Job) -> None:
        self._host = host
        self._ticket = ticket
        self._job = job
        self._answer: Answer | None = None
        self._tokens = len(job.request.made)

    async def pieces(self) -> AsyncIterator[str]:
        """Text as it becomes certain; what comes in one step or while the client is slow, in one piece. Raises ApiError
        where the engine fails."""
        text = self._job.text
        while self._answer is None:
            piece = ""
            for event in await self._ticket.read():
                if event.token is not None and not text.stopped:
                    self._tokens += 1
                    piece += text.push(event.token)
                    if text.stopped:
                        self._host.halt(self._ticket)
                self._answer = event.answer or self._answer
            if self._answer is not None and self._answer.ended in (Ended.STOP, Ended.LENGTH):
                piece += text.finish()  # of an answer cut short, whoever goes on with it tells what is held back here
            if piece:
                yield piece

    @property
    def outcome(self) -> Outcome:
        assert self._answer is not None, "read the pieces first"
        return Outcome(
            self._answer, self._tokens, self._job.text.stopped, self._ticket.cut, seed=self._job.request.seed
        )


class _Service:
    """What the three routes that compute have in common."""

    def __init__(self, desk: Desk, host: EngineHost, metrics: Metrics) -> None:
        self._desk = desk
        self._host = host
        self._metrics = metrics

    async def generate(self, asked: ChatAsked | TextAsked, http: HttpRequest) -> Response:
        """An answer, whole or as a stream; given up as soon as the client has gone."""
        self._desk.sit()
        ticket: Ticket | None = None
        streams = False

        def done() -> None:
            if ticket is not None:
                self._host.cancel(ticket)
            self._desk.leave()

        try:
            job = await self._desk.job(asked)
            ticket = self._submit(job)
            reading = _Reading(self._host, ticket, job)
            chat = isinstance(asked, ChatAsked)
            name = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
            shape = Shape(name, self._desk.name, int(now().timestamp()), chat)
            if asked.stream:
                streams = True
                return EventStream(self._stream(reading, shape, usage=asked.tells_usage), done)
            text = await _unless_gone(http, _whole(reading))
            _tell(shape, reading.outcome)
            return JSONResponse(shape.whole(text, reading.outcome))
        finally:
            if not streams:
                done()

    def _submit(self, job: Job) -> Ticket:
        try:
            return self._host.submit(job.request)
        except ValueError as error:  # its words are the engine's own, of sizes only
            raise self._desk.closed() or ApiError(400, str(error), code="too_large") from None

    async def _stream(self, reading: _Reading, shape: Shape, *, usage: bool) -> AsyncIterator[bytes]:
        try:
            if first := shape.first():
                yield first
            async for piece in reading.pieces():
                yield shape.part(piece)
            _tell(shape, reading.outcome)
            yield shape.last(reading.outcome, usage=usage)
        except ApiError as error:
            yield failed(error.body)
        except Exception as error:
            log.error("a stream failed: %s", place_of(error))
            yield failed(ApiError(500, "the server failed on this request", code="internal").body)

    async def embed(self, asked: VectorsAsked, http: HttpRequest) -> Response:
        """A vector for each text."""
        desk, width = self._desk, self._host.engine.runner.config.width
        desk.check_model(asked.model)
        if asked.dimensions not in (None, width):
            raise ApiError(400, f"this model's vectors have {width} dimensions", param="dimensions")
        desk.sit()
        try:
            texts = [await self._ids(given) for given in _listed(asked.input)]
            data, joules = [], 0.0
            for index, ids in enumerate(texts):
                try:
                    vector, spent_j = await _unless_gone(http, self._host.embed(ids))
                except ValueError:  # bounds were checked: no blocks are free now
                    raise ApiError(429, "no KV blocks are free; try again", code="busy", retry_after_s=1) from None
                joules += spent_j
                raw = vector.astype("<f4").tobytes()
                value = base64.b64encode(raw).decode() if asked.encoding_format == "base64" else vector.tolist()
                data.append({"object": "embedding", "index": index, "embedding": value})
        finally:
            desk.leave()
        tokens, method = sum(len(ids) for ids in texts), self._host.engine.energy.method.value
        self._metrics.embedded(tokens, joules, method)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "joules": round(joules, 6), "method": method}
        intensity = self._host.engine.pace.intensity_g_per_kwh
        if intensity is not None:
            usage["grams"] = round(joules / 3.6e6 * intensity, 9)
        log.info("embeddings texts=%d tokens=%d joules=%.2f", len(texts), tokens, joules)
        return JSONResponse({"object": "list", "model": desk.name, "data": data, "usage": usage})

    async def _ids(self, given: str | list[int]) -> list[int]:
        if isinstance(given, str):
            return await self._desk.encode(given, special=True, param="input")
        return self._desk.bounded(given, "input")


def _listed(given: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    """The texts of any of the forms that OpenAI takes."""
    if isinstance(given, str):
        return [given]
    whole = [x for x in given if isinstance(x, int)]
    return [whole] if whole else [x for x in given if not isinstance(x, int)]


async def _whole(reading: _Reading) -> str:
    return "".join([piece async for piece in reading.pieces()])


async def _unless_gone(http: HttpRequest, work: Awaitable[T]) -> T:
    """Wait for the work, or raise ApiError once the client has closed the connection."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(http.receive())  # the body is read: the next word is the end
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client has closed the connection", code="client_closed")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


def _tell(shape: Shape, outcome: Outcome) -> None:
    answer = outcome.answer
    log.info(
        "%s prompt=%d made=%d joules=%.2f seconds=%.2f ended=%s",
        shape.id, answer.prompt_tokens, outcome.tokens, answer.joules, answer.total_s, outcome.details["ended"],
    )  # fmt: skip
