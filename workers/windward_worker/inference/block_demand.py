"""Who may begin: only those for whom blocks will last until others have ended. Pure.

A sequence owns few blocks when it begins and many when it ends. Where all are let in whose prompts find room now, the
pool runs dry while they grow: one is thrown out, computed again, let in again, and throws out another. So the need is
followed into the future before anyone begins (in the spirit of the past-future scheduler: arXiv 2507.10150): all who
run gain a token a step, and whoever ends gives back what no other owns. If the need at any of these ends is above what
the pool has, nobody new begins.

How long an answer gets is bounded by `max_tokens`, which many ask for and few use. `AnswerLengths` keeps how long the
last answers were; of one that has n tokens it expects what three in four of those longer than n did not exceed. Who
grows beyond that still finds blocks, as the last in rank then gives its own back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from windward_worker.inference.block_manager import BLOCK_SIZE

KEPT = 256  # answers
FEW = 16  # of those longer than n; from fewer, nothing is expected but the most
SHARE = 0.75  # more: preemptions are rarer, and the pool emptier


class AnswerLengths:
    """Tokens of the last answers. It knows no clock: after the same answers it expects the same."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._sorted: list[int] = []

    def add(self, tokens: int) -> None:
        """An answer ended with so many, for whatever reason."""
        if len(self._order) == KEPT:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(tokens)
        insort(self._sorted, tokens)

    def expected(self, tokens: int, most: int) -> int:
        """Of an answer that has so many and may get `most`: how many it will have."""
        longer = bisect_right(self._sorted, tokens)
        count = len(self._sorted) - longer
        return most if count < FEW else min(most, self._sorted[longer + int(SHARE * (count - 1))])


@dataclass(frozen=True, slots=True)
class BlockDemand:
    """What a sequence lacks until it ends in `steps` steps: `tokens` of room at once, and one more a step if it grows.

    `tokens` are rounded up to whole pages at most once too often; `own` blocks are given back at the end.
    """

    steps: int
    tokens: int
    own: int
    grows: bool = True


def peak_demand(demands: Iterable[BlockDemand]) -> int:
    """Most blocks that these lack at any of their ends, beyond what they own now; too high by at most one each."""
    ordered = sorted(demands, key=lambda n: n.steps)
    tokens, growing = sum(n.tokens for n in ordered), sum(n.grows for n in ordered)
    highest = given_back = 0
    for demand in ordered:
        highest = max(highest, (tokens + growing * demand.steps) // BLOCK_SIZE - given_back)
        tokens -= demand.tokens
        growing -= demand.grows
        given_back += demand.own
    return highest
