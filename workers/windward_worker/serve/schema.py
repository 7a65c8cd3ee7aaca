"""What the routes take, in OpenAI's words. Unknown fields are ignored; those that ask for what we lack are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Fields that would change an answer and are not implemented, with the values that ask for nothing.
_LACKING: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (),
    "frequency_penalty": (0,),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}

Token = Annotated[int, Field(ge=0, lt=1 << 31)]
Tokens = Annotated[list[Token], Field(min_length=1)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(BaseModel):
    include_usage: bool = False


class Asked(BaseModel):
    """What completions and chats have in common. `priority`, `deadline_s` and `made` are ours."""

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
    made: Tokens | None = Field(
        None,
        max_length=1 << 16,
        description="tokens of an answer that was cut short, with its seed: it goes on from there",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """null stands for a field's default, as OpenAI has it."""
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _lacking(self) -> Asked:
        for name, value in (self.model_extra or {}).items():
            if name in _LACKING and value is not False and value not in _LACKING[name]:
                raise ValueError(f"{name} is not supported here; leave it out")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def tells_usage(self) -> bool:
        """Whether a stream closes with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(max_length=256)] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatAsked(Asked):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 20)


class TextAsked(Asked):
    """POST /v1/completions: one prompt, as text or tokens."""

    prompt: str | Tokens | Annotated[list[str], Field(min_length=1, max_length=1)]


class VectorsAsked(BaseModel):
    """POST /v1/embeddings."""

    model: str = Field(max_length=256)
    input: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=256)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


class ErrorBody(BaseModel):
    class Detail(BaseModel):
        message: str
        type: str
        param: str | None
        code: str | None

    error: Detail
