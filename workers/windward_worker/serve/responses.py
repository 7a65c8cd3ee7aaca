"""What the routes give, in OpenAI's words; what is ours stands under `windward` and beside the tokens in `usage`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from windward_worker.inference.engine import Answer
from windward_worker.inference.sequence import FinishReason

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class FinishedAnswer:
    """How an answer ended: the engine's word for it, and whether a stop string or the server's end came before."""

    answer: Answer
    tokens: int  # told to the client; an answer stopped by a string may have a few more
    stopped: bool
    cut: bool
    seed: int

    @property
    def finish_reason(self) -> str:
        """OpenAI knows two; our own are told in `details`."""
        return "stop" if self.stopped or self.answer.finish_reason is FinishReason.STOP else "length"

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens, and the joules that they took with how these were found; grams only where an intensity is known."""
        answer = self.answer
        usage: dict[str, Any] = {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": answer.prompt_tokens + self.tokens,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
            "joules": round(answer.joules, 6),
            "method": answer.method.value,
        }
        if answer.grams is not None:
            usage["grams"] = round(answer.grams, 9)
        return usage

    @property
    def details(self) -> dict[str, Any]:
        """Why it ended; where time was up, what it takes to go on elsewhere: the tokens made, and the seed."""
        reason = self.answer.finish_reason
        ended = "drained" if self.cut and reason is FinishReason.ABORTED else reason.value
        ended = "stop" if self.stopped else ended
        details: dict[str, Any] = {"ended": ended, "preemptions": self.answer.preemptions}
        if self.answer.first_token_s is not None:
            details["first_token_s"] = round(self.answer.first_token_s, 4)
        if ended in ("drained", "deadline"):
            details |= {"generated_tokens": list(self.answer.tokens), "seed": self.seed}
        return details


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The envelope of one answer: a chat's or a completion's, whole or in parts."""

    id: str
    model: str
    created: int  # seconds since 1970
    chat: bool

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}

    def whole(self, text: str, finished: FinishedAnswer) -> dict[str, Any]:
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finished.finish_reason}
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._envelope(kind, [choice]), "usage": finished.usage, "windward": finished.details}

    def first(self) -> bytes:
        """A chat's stream opens with the role."""
        return self._part({"delta": {"role": "assistant", "content": ""}}, None) if self.chat else b""

    def part(self, text: str) -> bytes:
        return self._part({"delta": {"content": text}} if self.chat else {"text": text}, None)

    def last(self, finished: FinishedAnswer, *, usage: bool) -> bytes:
        """The stream's end: reason and details, then the usage if it was asked for, then [DONE]."""
        empty: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        end = self._part(empty, finished.finish_reason, windward=finished.details)
        if usage:
            end += _event({**self._envelope(self._kind, []), "usage": finished.usage})
        return end + DONE

    @property
    def _kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _part(self, content: dict[str, Any], reason: str | None, **more: Any) -> bytes:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
        return _event({**self._envelope(self._kind, [choice]), **more})


def _event(document: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def failed(body: dict[str, Any]) -> bytes:
    """A stream that cannot go on says so and ends."""
    return _event(body) + DONE
