"""From a request of the API to one for the engine: the model's name, the chat template, tokens, bounds."""

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
from windward_worker.inference.open import OpenedModel
from windward_worker.inference.sequence import Request
from windward_worker.model.chat import ChatTemplate
from windward_worker.serve.errors import ApiError
from windward_worker.serve.schema import ChatRequest, CompletionRequest, GenerationRequest
from windward_worker.serve.settings import Settings
from windward_worker.serve.text import TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONG = 4096  # characters; longer texts are tokenised beside the loop
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell what UTF-8 cannot
GREEDY_BELOW = 1e-3  # of temperature: colder draws differ from the likeliest token in nothing but overflow


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request for the engine, and what makes text of its tokens."""

    request: Request
    text: TextStream


class InputProcessor:
    """Checks and translates requests. All its errors are ApiError with a 4xx status."""

    def __init__(self, opened: OpenedModel, settings: Settings, template: ChatTemplate | None) -> None:
        self.name = settings.name or opened.file.name.removesuffix(".gguf")
        self.tokenizer: Tokenizer = opened.tokenizer
        self._settings = settings
        self._template = template
        config = opened.runner.config
        self._vocab_size = config.vocab_size
        self.context = min(config.max_position_embeddings, settings.context or config.max_position_embeddings)
        self._bos = config.bos_token_id

    def check_model(self, name: str) -> None:
        if name != self.name:
            raise ApiError(404, f"no such model here; there is {self.name!r}", param="model", code="model_not_found")

    async def process(self, body: ChatRequest | CompletionRequest) -> PreparedRequest:
        """Raises ApiError 400, 404."""
        self.check_model(body.model)
        prompt = await self._prompt(body)
        max_tokens = body.max_tokens
        if isinstance(body, ChatRequest) and body.max_completion_tokens is not None:
            max_tokens = body.max_completion_tokens
        limit = self._settings.max_tokens
        if max_tokens is not None and max_tokens > limit:
            raise ApiError(400, f"max_tokens {max_tokens} is above this server's {limit}", param="max_tokens")
        most = min(max_tokens or limit, self.context - len(prompt))
        generated = tuple(body.generated_tokens or ())
        if len(generated) >= most:
            raise ApiError(
                400,
                f"generated_tokens has {len(generated)} tokens of at most {most}: nothing is left to do",
                param="generated_tokens",
            )
        if generated and max(generated) >= self._vocab_size:
            raise ApiError(400, "generated_tokens has a token outside the vocabulary", param="generated_tokens")
        text = TextStream(self.tokenizer, body.stops)
        for token in generated:
            text.push(token)  # the client has it already
        return PreparedRequest(self._request(body, prompt, most, generated), text)

    def _request(
        self, body: GenerationRequest, prompt: Sequence[int], most: int, generated: tuple[int, ...]
    ) -> Request:
        seconds = min(self._settings.max_time_s, body.deadline_s or math.inf)
        return Request(
            prompt=tuple(prompt),
            max_tokens=most,
            temperature=body.temperature if body.temperature >= GREEDY_BELOW else 0.0,
            top_p=body.top_p,
            seed=secrets.randbits(63) if body.seed is None else body.seed & (1 << 64) - 1,
            ignore_eos=body.ignore_eos,
            priority=body.priority,
            deadline_s=time.monotonic() + seconds,
            generated=generated,
        )

    async def _prompt(self, body: ChatRequest | CompletionRequest) -> list[int]:
        """Token ids of a chat laid out by the template, or of a plain prompt."""
        if isinstance(body, ChatRequest):
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
                for m in body.messages
            ]
            try:
                text = await asyncio.to_thread(template.render, messages)
            except Refused:
                raise ApiError(
                    400, "the chat template refuses these messages; check roles and order", param="messages"
                ) from None
            return await self.encode(text, special=False, param="messages")
        if isinstance(body.prompt, list) and isinstance(body.prompt[0], int):
            return self.bounded([t for t in body.prompt if isinstance(t, int)], "prompt")
        text = body.prompt if isinstance(body.prompt, str) else str(body.prompt[0])
        return await self.encode(text, special=True, param="prompt")

    async def encode(self, text: str, *, special: bool, param: str) -> list[int]:
        """Tokens of a text; `special` adds what the model wants at its begin. Raises ApiError 400."""
        if SURROGATE.search(text):
            raise ApiError(400, f"{param} has half a surrogate pair, which is no character", param=param)
        if len(text) > LONG:
            encoding = await asyncio.to_thread(self.tokenizer.encode, text, add_special_tokens=special)
        else:
            encoding = self.tokenizer.encode(text, add_special_tokens=special)
        ids: list[int] = encoding.ids
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
        if max(ids) >= self._vocab_size:
            raise ApiError(400, f"{param} has a token outside the vocabulary", param=param)
        return ids
