"""A request for text and what has become of it. No torch, no numpy."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class FinishReason(enum.Enum):
    """Why a sequence gets no more tokens."""

    STOP = "stop"  # an end token
    LENGTH = "length"  # max_tokens, or the model's context
    DEADLINE = "deadline"  # its time is over; what was made is kept
    ABORTED = "aborted"  # the caller asked


@dataclass(frozen=True, slots=True)
class Request:
    """What to continue, and how. Tokens are ids; `stop` ends an answer besides the model's own end token."""

    prompt: tuple[int, ...]
    max_tokens: int = 64
    temperature: float = 0.0  # 0: the likeliest token
    top_p: float = 1.0  # draw from the likeliest tokens that together have this probability
    seed: int = 0
    stop: frozenset[int] = frozenset()
    ignore_eos: bool = False
    priority: int = 0  # higher goes first
    deadline_s: float | None = None  # on the engine's monotonic clock
    generated: tuple[int, ...] = ()  # tokens that an earlier run has made already: a snapshot's

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a request needs a prompt of at least one token")
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("max_tokens must be 1 or more, temperature 0 or more, top_p above 0 and at most 1")
        if len(self.generated) >= self.max_tokens:
            raise ValueError("a request that has all its tokens needs no engine")


@dataclass(slots=True, eq=False)
class Sequence:
    """A request under way. `tokens` are prompt and answer; keys and values of the first `computed` are stored."""

    id: int
    request: Request
    max_length: int  # most tokens, prompt included
    tokens: list[int]
    arrival_s: float
    computed: int = 0
    # Physical block of each logical one; HOLE where a sliding window has passed.
    block_table: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)  # of the full blocks so far, chained
    finish_reason: FinishReason | None = None
    running: bool = False
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    preemptions: int = 0
    flops: float = 0.0  # since energy was last settled
    joules: float = 0.0
    first_token_s: float | None = None  # clock times
    last_s: float = 0.0

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    @property
    def answer(self) -> list[int]:
        return self.tokens[self.prompt_length :]

    @property
    def uncomputed_tokens(self) -> int:
        """Tokens that the model has not seen: one while decoding, the rest of the prompt before."""
        return len(self.tokens) - self.computed

    @property
    def rank(self) -> tuple[int, int]:
        """Order of service: priority first, then arrival."""
        return (-self.request.priority, self.id)
