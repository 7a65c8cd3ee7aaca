"""From what a client asked to what the engine is given: the model's name, the template, tokens, bounds, a seat."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from windward_worker.control import Refused
from windward_worker.inference.engine import Engine
from windward_worker.inference.open import Opened
from windward_worker.inference.sequence import Request
from windward_worker.model.chat import ChatTemplate
from windward_worker.serve.errors import ApiError
from windward_worker.serve.metrics import Metrics
from windward_worker.serve.schema import Asked, ChatAsked, TextAsked
from windward_worker.serve.settings import Settings
from windward_worker.serve.text import TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONG = 4096  # characters; longer texts are tokenised beside the loop
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell what UTF-8 cannot
GREEDY_BELOW = 1e-3  # of temperature: colder draws differ from the likeliest token in nothing but overflow


@dataclass(frozen=True, slots=True)
class Job:
    """A request for the engine, and what makes text of its tokens."""

    request: Request
    text: TextStream


class Desk:
    """Admits and translates. All its errors are ApiError with a 4xx status, but for a full or closing server."""

    def __init__(
        self, opened: Opened, engine: Engine, settings: Settings, template: ChatTemplate | None, metrics: Metrics
    ) -> None:
        self.name = settings.name or opened.file.name.removesuffix(".gguf")
        self.seated = 0
        self.draining = False
        self.tokenizer: Tokenizer = opened.tokenizer
        self._engine = engine
        self._settings = settings
        self._template = template
        self._metrics = metrics
        config = opened.runner.config
        self.context = min(config.context, settings.context or config.context)
        self._bos = config.bos

    def sit(self) -> None:
        """Take a seat; `leave` gives it back. Raises ApiError 429 where none is free."""
        if self.seated >= self._settings.max_concurrent:
            wait_s = min(60, max(1, math.ceil(self._metrics.mean_s)))
            raise ApiError(
                429,
                f"{self.seated} requests are being answered, and no more are taken; try again in {wait_s} s",
                code="too_many_requests",
                retry_after_s=wait_s,
            )
        self.seated += 1

    def leave(self) -> None:
        self.seated -= 1

    def closed(self) -> ApiError | None:
        if not self.draining:
            return None
        return ApiError(503, "this server is shutting down; ask another", code="draining", retry_after_s=1)

    def check_model(self, name: str) -> None:
        if name != self.name:
            raise ApiError(404, f"no such model here; there is {self.name!r}", param="model", code="model_not_found")

    async def job(self, asked: ChatAsked | TextAsked) -> Job:
        """Raises ApiError 400, 404."""
        self.check_model(asked.model)
        prompt = await self._prompt(asked)
        wanted = asked.max_tokens
        if isinstance(asked, ChatAsked) and asked.max_completion_tokens is not None:
            wanted = asked.max_completion_tokens
        limit = self._settings.max_tokens
        if wanted is not None and wanted > limit:
            raise ApiError(400, f"max_tokens {wanted} is above this server's {limit}", param="max_tokens")
        most = min(wanted or limit, self.context - len(prompt))
        made = tuple(asked.made or ())
        if len(made) >= most:
            raise ApiError(400, f"made has {len(made)} tokens of at most {most}: nothing is left to do", param="made")
        if made and max(made) >= self._engine.runner.config.vocabulary:
            raise ApiError(400, "made has a token outside the vocabulary", param="made")
        text = TextStream(self.tokenizer, asked.stops)
        for token in made:
            text.push(token)  # was told already
        return Job(self._request(asked, prompt, most, made), text)

    def _request(self, asked: Asked, prompt: Sequence[int], most: int, made: tuple[int, ...]) -> Request:
        seconds = min(self._settings.max_time_s, asked.deadline_s or math.inf)
        return Request(
            prompt=tuple(prompt),
            max_tokens=most,
            temperature=asked.temperature if asked.temperature >= GREEDY_BELOW else 0.0,
            top_p=asked.top_p,
            seed=secrets.randbits(63) if asked.seed is None else asked.seed & (1 << 64) - 1,
            ignore_eos=asked.ignore_eos,
            priority=asked.priority,
            deadline_s=time.monotonic() + seconds,
            made=made,
        )

    async def _prompt(self, asked: ChatAsked | TextAsked) -> list[int]:
        """Token ids of a chat laid out by the template, or of a plain prompt."""
        if isinstance(asked, ChatAsked):
            if self._template is None:
                raise ApiError(400, "this model has no chat template; use /v1/completions", code="no_chat_template")
            template = self._template
            # Templates know `system`; `developer` is OpenAI's later name for it.
            messages = [
                {
                    "role": "system" if m.role == "developer" else m.role,
                    "content": m.text,
                    **({} if m.name is None else {"name": m.name}),
                }
                for m in asked.messages
            ]
            try:
                text = await asyncio.to_thread(template.render, messages)
            except Refused:
                raise ApiError(
                    400, "the chat template refuses these messages; check roles and order", param="messages"
                ) from None
            return await self.encode(text, special=False, param="messages")
        if isinstance(asked.prompt, list) and isinstance(asked.prompt[0], int):
            return self.bounded([t for t in asked.prompt if isinstance(t, int)], "prompt")
        text = asked.prompt if isinstance(asked.prompt, str) else str(asked.prompt[0])
        return await self.encode(text, special=True, param="prompt")

    async def encode(self, text: str, *, special: bool, param: str) -> list[int]:
        """Tokens of a text; `special` adds what the model wants at its begin. Raises ApiError 400."""
        if SURROGATE.search(text):
            raise ApiError(400, f"{param} has half a surrogate pair, which is no character", param=param)
        if len(text) > LONG:
            made = await asyncio.to_thread(self.tokenizer.encode, text, add_special_tokens=special)
        else:
            made = self.tokenizer.encode(text, add_special_tokens=special)
        ids: list[int] = made.ids
        if not ids and self._bos is not None:
            ids = [self._bos]
        return self.bounded(ids, param)

    def bounded(self, ids: list[int], param: str) -> list[int]:
        most = min(self._settings.max_prompt, self.context - 1)
        if not 0 < len(ids) <= most:
            raise ApiError(
                400,
                f"{param} has {len(ids)} tokens; 1 to {most} are taken",
                param=param,
                code="context_length_exceeded",
            )
        if max(ids) >= self._engine.runner.config.vocabulary:
            raise ApiError(400, f"{param} has a token outside the vocabulary", param=param)
        return ids
