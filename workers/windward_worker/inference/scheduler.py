"""Which tokens of which sequences a step computes. Pure: no clock, no torch, no IO.

A step mixes decode (one token of each running sequence) with pieces of prompts under one token budget (chunked
prefill: Agrawal et al. 2024, arXiv 2403.02310), so that a long prompt never stalls those who are already answered.
Nobody begins for whom blocks would not last (admission.py). Where they run out all the same, the sequence last in rank
gives its own back and is computed again later.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from windward_worker.inference.admission import Lengths, Need, peak
from windward_worker.inference.blocks import HOLE, PAGE, Blocks
from windward_worker.inference.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one step: tokens, and sequences that run together."""

    tokens: int = 512
    sequences: int = 64

    def __post_init__(self) -> None:
        if self.sequences < 1 or self.tokens < self.sequences:
            raise ValueError("a step takes at least one sequence, and at least one token for each that runs")


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` tokens of a sequence, from its first that is not computed."""

    sequence: Sequence
    count: int


class Scheduler:
    """Sequences waiting and running, each in order of rank."""

    def __init__(self, blocks: Blocks, limits: Limits | None = None, *, window: int | None = None) -> None:
        self.blocks = blocks
        self.limits = limits or Limits()
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.lengths = Lengths()
        self._window = window

    def most_blocks(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens owns at most."""
        if self._window is not None:
            tokens = min(tokens, self._window + self.limits.tokens + PAGE)
        return -(-tokens // PAGE)

    def add(self, sequence: Sequence) -> None:
        """Raises ValueError where the pool could never hold it."""
        if self.most_blocks(sequence.limit) > self.blocks.count:
            raise ValueError(
                f"a sequence of {sequence.limit} tokens needs {self.most_blocks(sequence.limit)} KV blocks of {PAGE}, "
                f"and there are {self.blocks.count}; shorten it or give the engine more"
            )
        insort(self.waiting, sequence, key=lambda s: s.rank)

    def plan(self, *, admit: bool = True) -> list[Piece]:
        """The next step, with blocks for all of it. Call `done` after it has been computed."""
        budget = self.limits.tokens
        pieces: list[Piece] = []
        # Tokens to keep for those of lower rank that decode: a long prompt does not hold them up. Some of them may yet
        # be preempted; then a few are kept for nobody.
        decodes_after = sum(s.waiting_tokens == 1 for s in self.running)
        for sequence in [*self.running]:
            decodes_after -= sequence.running and sequence.waiting_tokens == 1
            count = min(sequence.waiting_tokens, budget - decodes_after)
            if not sequence.running or count <= 0:
                continue  # preempted a moment ago for one before it
            if self._make_room(sequence, sequence.computed + count):
                pieces.append(Piece(sequence, count))
                budget -= count
        while admit and self.waiting and budget > 0 and len(self.running) < self.limits.sequences:
            piece = self._admit(self.waiting[0], budget)
            if piece is None:
                break  # nobody overtakes: the first in rank gets the next free blocks
            pieces.append(piece)
            budget -= piece.count
        assert sum(p.count for p in pieces) <= self.limits.tokens
        return [p for p in pieces if p.sequence.running]

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for so many tokens, from sequences last in rank if need be; False where it had to yield itself."""
        while not self.blocks.grow(sequence.table, tokens):
            victim = self.running[-1]
            self.preempt(victim)
            if victim is sequence:
                return False
        return True

    def _admit(self, sequence: Sequence, budget: int) -> Piece | None:
        """Start the first in the queue on what the prefix cache has of it, if blocks will last.

        Room for its whole prompt must be free now, and room to grow for it and for those it does not go before; those
        of lower priority yield when the time comes.
        """
        found = self.blocks.find(sequence.tokens)
        for block, _ in found:
            self.blocks.own(block)
        sequence.table = [block for block, _ in found]
        whole = min(len(sequence.tokens) + 1, sequence.limit)
        if self._window is not None:
            whole = min(whole, len(found) * PAGE + self._window + self.limits.tokens)
        count = min(len(sequence.tokens) - len(found) * PAGE, budget)
        if self.blocks.missing(sequence.table, whole) > self.blocks.free or not self._lasts(sequence):
            self.blocks.release(sequence.table)
            return None
        sequence.digests = [digest for _, digest in found]
        sequence.computed = len(found) * PAGE
        if sequence.preemptions == 0:
            sequence.reused = sequence.computed
        assert self.blocks.grow(sequence.table, sequence.computed + count), "missing() has just said so"
        self.waiting.pop(0)
        sequence.running = True
        insort(self.running, sequence, key=lambda s: s.rank)
        return Piece(sequence, count)

    def _lasts(self, sequence: Sequence) -> bool:
        """Whether blocks are expected to last if it begins. Alone, or before all who run, it may always."""
        priority = sequence.request.priority
        peers = [s for s in self.running if s.request.priority >= priority]
        if not peers:
            return True
        yielding = sum(self._owned_alone(s) for s in self.running if s.request.priority < priority)
        return peak(self._need(s) for s in (*peers, sequence)) <= self.blocks.free + yielding

    def _need(self, sequence: Sequence) -> Need:
        made = len(sequence.tokens) - sequence.prompt_length
        length = sequence.prompt_length + self.lengths.expected(made, sequence.limit - sequence.prompt_length)
        steps, own = length - len(sequence.tokens), self._owned_alone(sequence)
        if self._window is not None:
            owned = sum(b != HOLE for b in sequence.table)
            return Need(steps, (self.most_blocks(length) - owned) * PAGE, own, grows=False)
        return Need(steps, len(sequence.tokens) + PAGE - 1 - len(sequence.table) * PAGE, own)

    def _owned_alone(self, sequence: Sequence) -> int:
        """Blocks that are free when it ends."""
        return sum(b != HOLE and self.blocks.owners(b) == 1 for b in sequence.table)

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's blocks and put it back to where its rank says; its tokens stay."""
        self._stop(sequence)
        sequence.preemptions += 1
        insort(self.waiting, sequence, key=lambda s: s.rank)

    def done(self, piece: Piece) -> None:
        """A piece has been computed: enter its full blocks, let go of what the window has passed."""
        sequence = piece.sequence
        sequence.computed += piece.count
        self.blocks.publish(sequence.table, sequence.digests, sequence.tokens, sequence.computed)
        if self._window is not None:
            self.blocks.release_before(sequence.table, sequence.computed - self._window + 1)

    def remove(self, sequence: Sequence) -> None:
        """It ends, wherever it stands; its blocks are free."""
        if made := len(sequence.tokens) - sequence.prompt_length:
            self.lengths.add(made)
        if sequence.running:
            self._stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _stop(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.table)
        sequence.digests = []
        sequence.computed = 0
        sequence.running = False
        self.running.remove(sequence)
