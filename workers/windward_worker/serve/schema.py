"""What the routes take, in OpenAI's words. A field is honoured, or refused by its name; none is dropped in silence.

Only those are passed over that change no answer, such as `user`, and those whose value asks for nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Fields that say something of the client, and nothing of the answer.
_IDLE = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
# Fields that would change an answer and are not implemented, with the values that ask for nothing.
_LACKING: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (),
    "frequency_penalty": (0,),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (),
    "min_p": (0,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (0, -1),
    "top_logprobs": (0,),
}

Token = Annotated[int, Field(ge=0, lt=1 << 31)]
Tokens = Annotated[list[Token], Field(min_length=1)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


def _without_nulls(data: Any) -> Any:
    """null stands for a field's default, as OpenAI has it."""
    return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


def refuse_lacking(extra: dict[str, Any] | None) -> None:
    """Raises ValueError for a field that nobody honours, unless it asks for nothing."""
    for name, value in (extra or {}).items():
        if name in _IDLE or value is False or (name in _LACKING and value in _LACKING[name]):
            continue
        raise ValueError(f"{name[:64]} is not supported here; leave it out")


class GenerationRequest(BaseModel):
    """What completions and chats have in common. `priority`, `deadline_s` and `generated_tokens` are ours."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str = Field(max_length=256)
    max_tokens: int | None = Field(None, ge=1, le=1 << 20)
    temperature: float = Field(1.0, ge=0, le=2, description="0: always the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1)
    n: Literal[1] = 1
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    priority: int = Field(0, ge=-100, le=100, description="higher goes first")
    deadline_s: float | None = Field(
        None, gt=0, le=86400, description="seconds from now; then it ends with what it has"
    )
    generated_tokens: Tokens | None = Field(
        None,
        max_length=1 << 16,
        description="tokens of an answer that was cut short, with its seed: it goes on from there",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        return _without_nulls(data)

    @model_validator(mode="after")
    def _lacking(self) -> GenerationRequest:
        refuse_lacking(self.model_extra)
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream closes with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn. Templates know nothing of tool calls here, so a turn that has some is refused."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(max_length=256)] | None = None
    name: str | None = Field(None, max_length=64, description="who speaks, for templates that tell it")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        return _without_nulls(data)

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 20)


class CompletionRequest(GenerationRequest):
    """POST /v1/completions: one prompt, as text or tokens."""

    prompt: str | Tokens | Annotated[list[str], Field(min_length=1, max_length=1)]


class EmbeddingRequest(BaseModel):
    """POST /v1/embeddings."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str = Field(max_length=256)
    input: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=256)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        return _without_nulls(data)

    @model_validator(mode="after")
    def _lacking(self) -> EmbeddingRequest:
        refuse_lacking(self.model_extra)
        return self


class ErrorBody(BaseModel):
    class Detail(BaseModel):
        message: str
        type: str
        param: str | None
        code: str | None

    error: Detail
