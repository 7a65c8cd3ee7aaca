"""`serve`: from settings to a server that answers, and from SIGTERM to one that has ended well.

The end, in steps: 1 /healthz says 503 and new requests are turned away, 2 those inside are finished within the grace,
3 what is left is told what it has so far and how to go on elsewhere, 4 sockets close, 5 the report is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from windward_worker.control import PauseRequest, Refused, RunEnv
from windward_worker.control.errors import PauseRequested, WorkerError, refusing
from windward_worker.execution.run import Run, carry_out
from windward_worker.inference.batch_policy import BatchPolicy
from windward_worker.inference.block_manager import BLOCK_SIZE
from windward_worker.inference.engine import Engine
from windward_worker.inference.open import OpenedModel, block_bytes, open_runner
from windward_worker.inference.scheduler import BatchLimits
from windward_worker.model.chat import ChatTemplate
from windward_worker.model.stored import ModelFile, open_model, package_file
from windward_worker.serve import connections
from windward_worker.serve.admission import Admission
from windward_worker.serve.app import make_app
from windward_worker.serve.host import EngineHost
from windward_worker.serve.inputs import InputProcessor
from windward_worker.serve.metrics import Metrics
from windward_worker.serve.ops import ops_app
from windward_worker.serve.settings import Settings

log = logging.getLogger("windward.serve")
SWITCH_S = 0.0005  # two threads want Python: the loop must not wait 5 ms for the engine's after each write to a socket
LEAST_PAGES = 16  # below a context of some 250 tokens nothing is worth serving
REPORT_S = 5.0  # between two looks at the intensity, and two lines of progress


def serve(settings: Settings, env: RunEnv, pause: PauseRequest) -> int:
    """Serve until SIGTERM; returns the contract's exit code. Always leaves a report."""
    return carry_out(Run(env, pause, "token"), lambda run: _serve(settings, run))


def _serve(settings: Settings, run: Run) -> None:
    """Raises PauseRequested after SIGTERM, WorkerError where the engine failed, Refused, OSError."""
    sys.setswitchinterval(SWITCH_S)
    sockets = [_listen(settings.host, port) for port in (settings.port, settings.ops_port)]
    try:
        asyncio.run(_Server(settings, run, sockets).go())
    finally:
        for each in sockets:
            each.close()
    raise PauseRequested


def _listen(host: str, port: int) -> socket.socket:
    """Raises Refused where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise Refused(f"serve: cannot listen on {host} port {port}: {error.strerror}; give another") from error


def open_model_for(settings: Settings) -> OpenedModel:
    """Raises Refused, OSError."""
    package = settings.model.removeprefix("package:")
    path = package_file(package) if package != settings.model else Path(settings.model)
    config = open_model(path).config
    context = min(config.max_position_embeddings, settings.context or config.max_position_embeddings)
    each = block_bytes(config, settings.weights, settings.kv)
    held = settings.kv_mib * 2**20 // each
    if settings.context is None and (held - 1) * BLOCK_SIZE < context and held > LEAST_PAGES:
        context = (held - 1) * BLOCK_SIZE
        log.warning("--kv-mib %d holds %d tokens of one answer: the context is cut to that", settings.kv_mib, context)
    least = math.ceil(context / BLOCK_SIZE) + 1  # of one answer at its longest
    if held < least:
        raise Refused(
            f"serve: --kv-mib {settings.kv_mib} is too small: one answer of {context} tokens has "
            f"{math.ceil(least * each / 2**20)} MiB in {settings.kv}; give that, or a smaller --context"
        )
    # More than every sequence at its longest is never used.
    blocks = min(held, settings.sequences * least)
    return open_runner(
        path, blocks=blocks, weights=settings.weights, kv=settings.kv, threads=settings.threads, context=context
    )


def _malloc_trim() -> Callable[[], object]:
    """glibc's: pages that are free inside its heap go back to the system. Elsewhere, nothing."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    return lambda: trim(0)


def template_of(file: ModelFile, opened: OpenedModel, settings: Settings) -> ChatTemplate | None:
    """The given template, else the model's. Raises Refused, OSError."""
    path = settings.chat_template
    text = file.chat_template()
    if path is not None:
        with refusing(f"serve: --chat-template {path.name}", "give a text file"):
            text = path.read_text()
    if text is None:
        return None
    config = opened.runner.config
    ends = [
        ("" if i is None else opened.tokenizer.id_to_token(i) or "") for i in (config.bos_token_id, config.eos_token_id)
    ]
    named = {"bos_token": ends[0], "eos_token": ends[1], **file.special_tokens()}
    return ChatTemplate(text, tokens=named)


class _Uvicorn(uvicorn.Server):
    """One of two servers in a loop whose signals are ours."""

    def __init__(self, app: ASGIApp, limits: connections.ConnectionLimits) -> None:
        config = uvicorn.Config(
            app, access_log=False, log_config=None, log_level="warning", lifespan="off", timeout_graceful_shutdown=5,
            server_header=False, ws="none", http=connections.protocol(limits), backlog=connections.ACCEPTED,
        )  # fmt: skip
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Server:
    """The parts of a server, put together and taken apart."""

    def __init__(self, settings: Settings, run: Run, sockets: list[socket.socket]) -> None:
        self._settings = settings
        self._run = run
        self._sockets = sockets
        opened = open_model_for(settings)
        limits = BatchLimits(settings.step_tokens, settings.sequences)
        self._engine = Engine(opened.runner, limits=limits, batch_policy=self._batch_policy(), recorder=run.energy)
        self._name = settings.name or opened.file.name.removesuffix(".gguf")
        metrics = Metrics(self._engine, self._name)
        template = template_of(opened.file, opened, settings)
        inputs = InputProcessor(opened, settings, template)
        self._admission = Admission(settings.max_concurrent, metrics)
        self._host = EngineHost(self._engine, metrics)
        api = make_app(inputs, self._admission, self._host, metrics, settings)
        clients = connections.ConnectionLimits(
            connections.connections_for(settings.max_connections), settings.max_silence_s
        )
        operators = connections.ConnectionLimits(connections.OPS_MOST, 5.0, evict=True)
        self._servers = [_Uvicorn(api, clients), _Uvicorn(ops_app(metrics.registry, self._state), operators)]

    def _state(self) -> str:
        if self._host.failed.is_set():
            return "failed"
        return "draining" if self._admission.draining else "ok"

    async def go(self) -> None:
        """Raises WorkerError where the engine failed."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if self._run.pause.requested:  # while libraries were loading
            stopping.set()
        self._host.start()
        serving = [
            asyncio.create_task(server.serve([sock])) for server, sock in zip(self._servers, self._sockets, strict=True)
        ]
        beat = asyncio.create_task(self._beat())
        while not all(server.started or task.done() for server, task in zip(self._servers, serving, strict=True)):
            await asyncio.sleep(0.01)
        for sock in self._sockets:
            sock.listen(1024)  # asyncio asked for as few as it takes in one turn
        api, ops = (sock.getsockname()[1] for sock in self._sockets)
        log.info("serving %s on %s:%d, metrics on port %d", self._name, self._settings.host, api, ops)
        waits = [asyncio.create_task(stopping.wait()), asyncio.create_task(self._host.failed.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await self._drain()
        for task in (*waits, beat):
            task.cancel()
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*serving)
        await self._host.stop()
        self._report_progress()
        if self._host.failed.is_set():
            raise WorkerError("the engine has failed; see the log")

    async def _drain(self) -> None:
        """Turn new requests away, and let those inside finish within the grace."""
        self._admission.draining = True
        self._engine.drain()
        log.info("draining: %d requests inside, %g s for them", self._admission.held, self._settings.grace_s)
        await self._empty(self._settings.grace_s)
        if self._admission.held:
            log.warning("%d requests are cut; their answers say how to go on", self._admission.held)
            self._host.cut()
            await self._empty(2.0)

    async def _empty(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._admission.held and not self._host.failed.is_set():
                    await asyncio.sleep(0.02)

    async def _beat(self) -> None:
        """Now and then: follow the control plane's signals, write progress, give freed memory back."""
        trim = _malloc_trim()
        while True:
            trim()
            self._engine.batch_policy = self._batch_policy(self._engine.energy.step_w)
            self._report_progress()
            await asyncio.sleep(REPORT_S)

    def _report_progress(self) -> None:
        self._run.run_units = float(self._engine.generated_tokens)
        self._run.report_progress(0.0, float(self._engine.generated_tokens), {})

    def _batch_policy(self, draw_w: float = 0.0) -> BatchPolicy:
        """The batch policy for what the control plane tells now, and for what steps have drawn."""
        settings = self._settings
        return settings.signals.batch_policy(
            draw_w=draw_w, max_batch=settings.sequences, max_wait_s=settings.max_wait_s
        )
