"""The thread that owns the engine, and the bridge to it from asyncio.

`submit` and `cancel` are called in the loop's thread; the engine's thread steps while anything is to do and passes each
step's events back in one call. A fault of the engine ends the thread, fails every open request, and is for ever: the
process should end then, and be started again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence

from windward_worker.inference.embed import Embedder, Floats
from windward_worker.inference.engine import Answer, Engine, EngineEvent
from windward_worker.inference.sequence import Request
from windward_worker.serve.errors import ApiError
from windward_worker.serve.guard import place_of
from windward_worker.serve.handle import RequestHandle
from windward_worker.serve.metrics import Metrics

log = logging.getLogger("windward.serve")
HELD_S = 0.002  # between two looks whether enough company has come
BEHIND_S = 0.1  # most that the engine waits for the loop to pass on a step's tokens


def _advance(steps: Generator[None, None, Floats]) -> Floats | None:
    """One chunk of a text; its vector after the last."""
    try:
        next(steps)
    except StopIteration as end:
        vector: Floats = end.value
        return vector
    return None


class EngineHost:
    """Runs an engine for the tasks of one event loop. `start` in the loop, `stop` before the loop ends."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.engine = engine
        self._metrics = metrics
        self._embedder = Embedder(engine.runner, engine.block_manager, chunk=engine.limits.max_tokens)
        self._handles: dict[int, RequestHandle] = {}
        self._work: deque[Callable[[], None]] = deque()  # for the engine's thread, between two steps
        self._wake = threading.Condition()
        self._ending = False
        self._passed_on = threading.Event()  # the last step's tokens are on their way to the clients
        self._passed_on.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._go, name="engine", daemon=True)
        self.failed = asyncio.Event()

    @property
    def open(self) -> int:
        """Requests that somebody waits for."""
        return len(self._handles)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after its present step."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def submit(self, request: Request) -> RequestHandle:
        """Raises ValueError where the engine can never answer it."""
        if self.failed.is_set():
            raise ApiError(500, "the engine has failed; another server may answer", code="engine_failed")
        handle = RequestHandle(self.engine.add(request))
        self._handles[handle.id] = handle  # in the loop's thread, as is _deliver: no event can come before
        self._notify()
        return handle

    def cancel(self, handle: RequestHandle) -> None:
        """Nobody waits any more; a second call, or one after the end, does nothing."""
        if self._handles.pop(handle.id, None) is not None:
            self.engine.abort(handle.id)
            self._notify()

    def halt(self, handle: RequestHandle) -> None:
        """End it at the next step; its answer still comes."""
        self.engine.abort(handle.id)
        self._notify()

    def cut(self) -> None:
        """End all; their answers hold what was made."""
        for handle in self._handles.values():
            handle.cut = True
            self.halt(handle)

    async def embed(self, tokens: Sequence[int]) -> tuple[Floats, float]:
        """A text's vector (C,) and the joules that it took. Raises ValueError as Embedder does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Floats, float]] = loop.create_future()

        def settle(result: tuple[Floats, float] | None, error: Exception | None) -> None:
            if future.done():
                return  # the client has gone
            if result is not None:
                future.set_result(result)
            else:
                future.set_exception(error or ApiError(500, "the engine has failed", code="engine_failed"))

        steps = self._embedder.steps(tokens)
        joules = 0.0

        def work() -> None:
            """One chunk; the rest comes after the engine's next step."""
            nonlocal joules
            result: tuple[Floats, float] | None = None
            error: Exception | None = None
            if future.cancelled():
                steps.close()
            else:
                try:
                    with self.engine.energy.measure_apart() as use:
                        vector = _advance(steps)
                    joules += use.joules
                    if vector is None:
                        self._work.append(work)
                        return
                    result = vector, joules
                except ValueError as fault:
                    error = fault
            loop.call_soon_threadsafe(settle, result, error)

        self._work.append(work)
        self._notify()
        if self.failed.is_set():
            raise ApiError(500, "the engine has failed; another server may answer", code="engine_failed")
        return await future

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify()

    def _go(self) -> None:
        assert self._loop is not None
        try:
            while self._await_work():
                if self._work:
                    self._work.popleft()()  # one a turn: a long text must not hold up those who are being answered
                events = self.engine.step() if self.engine.busy else []
                if events:
                    at_s = time.monotonic()
                    # A small model's engine is faster than the sockets: unchecked, it would take the interpreter from
                    # the loop, and every client would wait. One step ahead is enough to keep both at work.
                    self._passed_on.wait(BEHIND_S)
                    self._passed_on.clear()
                    self._loop.call_soon_threadsafe(self._deliver, events, at_s)
        except Exception as error:
            log.error("the engine has failed: %s", place_of(error))
            self._loop.call_soon_threadsafe(self._fail)

    def _await_work(self) -> bool:
        """Sleep until there is something to do; False at the end."""
        with self._wake:
            while not (self._ending or self._work or self.engine.busy):
                self._wake.wait()
            if not self._ending and not self._work and self.engine.waits_for_more():
                self._wake.wait(HELD_S)
            return not self._ending

    def _fail(self) -> None:
        self.failed.set()
        for handle in self._handles.values():
            handle.fail()

    def _deliver(self, events: list[EngineEvent], at_s: float) -> None:
        """A step's events to those who wait, and to the metrics."""
        for event in events:
            handle = self._handles.get(event.id)
            if event.token is not None:
                self._metrics.token(handle, at_s)
            if event.answer is not None:
                self._ended(event.answer, handle)
            if handle is not None:
                handle.put(event)
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._passed_on.set)  # after the tasks that have just been woken

    def _ended(self, answer: Answer, handle: RequestHandle | None) -> None:
        self._handles.pop(answer.id, None)
        self._metrics.answer(answer, awaited=handle is not None)
