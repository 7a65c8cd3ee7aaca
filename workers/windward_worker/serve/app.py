"""The routes. Each acquires a place, processes its input, waits for the engine or streams its tokens, and releases."""

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
from windward_worker.inference.sequence import FinishReason
from windward_worker.serve.admission import Admission
from windward_worker.serve.errors import ApiError
from windward_worker.serve.guard import Guard, place_of
from windward_worker.serve.handle import RequestHandle
from windward_worker.serve.host import EngineHost
from windward_worker.serve.inputs import InputProcessor, PreparedRequest
from windward_worker.serve.metrics import Metrics
from windward_worker.serve.responses import FinishedAnswer, ResponseFormat, failed
from windward_worker.serve.schema import ChatRequest, CompletionRequest, EmbeddingRequest, ErrorBody
from windward_worker.serve.settings import Settings

T = TypeVar("T")
log = logging.getLogger("windward.serve")
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


def make_app(
    inputs: InputProcessor, admission: Admission, host: EngineHost, metrics: Metrics, settings: Settings
) -> FastAPI:
    """The API of one model."""
    app = FastAPI(title="windward-worker serve", docs_url=None, redoc_url=None, responses=ERRORS)
    app.add_middleware(Guard, token=settings.token, max_body=settings.max_body, refusal=admission.refusal)
    service = _Service(inputs, admission, host, metrics)
    created = int(now().timestamp())
    card = {
        "id": inputs.name,
        "object": "model",
        "created": created,
        "owned_by": "windward",
        "max_model_len": inputs.context,
    }

    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    async def model(name: str) -> dict[str, Any]:
        inputs.check_model(name)
        return card

    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        return await service.generate(body, http)

    async def complete(body: CompletionRequest, http: HttpRequest) -> Response:
        return await service.generate(body, http)

    async def embed(body: EmbeddingRequest, http: HttpRequest) -> Response:
        return await service.embed(body, http)

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


class _AnswerReader:
    """Follows one request: its text in parts, then how it finished."""

    def __init__(self, host: EngineHost, handle: RequestHandle, prepared: PreparedRequest) -> None:
        self._host = host
        self._handle = handle
        self._prepared = prepared
        self._answer: Answer | None = None
        self._tokens = len(prepared.request.generated)

    async def parts(self) -> AsyncIterator[str]:
        """Text as it becomes certain; what comes in one step or while the client is slow, in one piece. Raises ApiError
        where the engine fails."""
        text = self._prepared.text
        while self._answer is None:
            part = ""
            for event in await self._handle.read():
                if event.token is not None and not text.stopped:
                    self._tokens += 1
                    part += text.push(event.token)
                    if text.stopped:
                        self._host.halt(self._handle)
                self._answer = event.answer or self._answer
            if self._answer is not None and self._answer.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
                part += text.finish()  # of an answer cut short, whoever goes on with it tells what is held back here
            if part:
                yield part

    @property
    def finished(self) -> FinishedAnswer:
        assert self._answer is not None, "read the parts first"
        return FinishedAnswer(
            self._answer, self._tokens, self._prepared.text.stopped, self._handle.cut, seed=self._prepared.request.seed
        )


class _Service:
    """What the three routes that compute have in common."""

    def __init__(self, inputs: InputProcessor, admission: Admission, host: EngineHost, metrics: Metrics) -> None:
        self._inputs = inputs
        self._admission = admission
        self._host = host
        self._metrics = metrics

    async def generate(self, body: ChatRequest | CompletionRequest, http: HttpRequest) -> Response:
        """An answer, whole or as a stream; given up as soon as the client has gone."""
        self._admission.acquire()
        handle: RequestHandle | None = None
        streams = False

        def done() -> None:
            if handle is not None:
                self._host.cancel(handle)
            self._admission.release()

        try:
            prepared = await self._inputs.process(body)
            handle = self._submit(prepared)
            reader = _AnswerReader(self._host, handle, prepared)
            chat = isinstance(body, ChatRequest)
            name = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
            form = ResponseFormat(name, self._inputs.name, int(now().timestamp()), chat)
            if body.stream:
                streams = True
                return EventStream(self._stream(reader, form, usage=body.wants_usage), done)
            text = await _unless_disconnected(http, _read_whole(reader))
            _log_answer(form, reader.finished)
            return JSONResponse(form.whole(text, reader.finished))
        finally:
            if not streams:
                done()

    def _submit(self, prepared: PreparedRequest) -> RequestHandle:
        try:
            return self._host.submit(prepared.request)
        except ValueError as error:  # its words are the engine's own, of sizes only
            raise self._admission.refusal() or ApiError(400, str(error), code="too_large") from None

    async def _stream(self, reader: _AnswerReader, form: ResponseFormat, *, usage: bool) -> AsyncIterator[bytes]:
        try:
            if first := form.first():
                yield first
            async for part in reader.parts():
                yield form.part(part)
            _log_answer(form, reader.finished)
            yield form.last(reader.finished, usage=usage)
        except ApiError as error:
            yield failed(error.body)
        except Exception as error:
            log.error("a stream failed: %s", place_of(error))
            yield failed(ApiError(500, "the server failed on this request", code="internal").body)

    async def embed(self, body: EmbeddingRequest, http: HttpRequest) -> Response:
        """A vector for each text."""
        width = self._host.engine.runner.config.hidden_size
        self._inputs.check_model(body.model)
        if body.dimensions not in (None, width):
            raise ApiError(400, f"this model's vectors have {width} dimensions", param="dimensions")
        self._admission.acquire()
        try:
            texts = [await self._ids(text) for text in _texts_of(body.input)]
            data, joules = [], 0.0
            for index, ids in enumerate(texts):
                try:
                    vector, spent_j = await _unless_disconnected(http, self._host.embed(ids))
                except ValueError:  # bounds were checked: no blocks are free now
                    raise ApiError(429, "no KV blocks are free; try again", code="busy", retry_after_s=1) from None
                joules += spent_j
                raw = vector.astype("<f4").tobytes()
                value = base64.b64encode(raw).decode() if body.encoding_format == "base64" else vector.tolist()
                data.append({"object": "embedding", "index": index, "embedding": value})
        finally:
            self._admission.release()
        tokens, method = sum(len(ids) for ids in texts), self._host.engine.energy.method.value
        self._metrics.embedded(tokens, joules, method)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "joules": round(joules, 6), "method": method}
        intensity = self._host.engine.batch_policy.intensity_g_per_kwh
        if intensity is not None:
            usage["grams"] = round(joules / 3.6e6 * intensity, 9)
        log.info("embeddings texts=%d tokens=%d joules=%.2f", len(texts), tokens, joules)
        return JSONResponse({"object": "list", "model": self._inputs.name, "data": data, "usage": usage})

    async def _ids(self, text: str | list[int]) -> list[int]:
        if isinstance(text, str):
            return await self._inputs.encode(text, special=True, param="input")
        return self._inputs.bounded(text, "input")


def _texts_of(texts: str | list[int] | list[str] | list[list[int]]) -> list[str | list[int]]:
    """The texts of any of the forms that OpenAI takes."""
    if isinstance(texts, str):
        return [texts]
    whole = [x for x in texts if isinstance(x, int)]
    return [whole] if whole else [x for x in texts if not isinstance(x, int)]


async def _read_whole(reader: _AnswerReader) -> str:
    return "".join([part async for part in reader.parts()])


async def _unless_disconnected(http: HttpRequest, work: Awaitable[T]) -> T:
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


def _log_answer(form: ResponseFormat, finished: FinishedAnswer) -> None:
    answer = finished.answer
    log.info(
        "%s prompt=%d generated=%d joules=%.2f seconds=%.2f ended=%s",
        form.id, answer.prompt_tokens, finished.tokens, answer.joules, answer.total_s, finished.details["ended"],
    )  # fmt: skip
