"""Which tokens of which sequences a step computes. Pure: no clock, no torch, no IO.

A step mixes decode (one token of each running sequence) with chunks of prompts under one token budget (chunked
prefill: Agrawal et al. 2024, arXiv 2403.02310), so that a long prompt never stalls those who are already answered.
Nobody begins for whom blocks would not last (block_demand.py). Where they run out all the same, the sequence last in
rank is preempted: it gives its blocks back and is computed again later.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from windward_worker.inference.block_demand import AnswerLengths, BlockDemand, peak_demand
from windward_worker.inference.block_manager import BLOCK_SIZE, HOLE, BlockManager
from windward_worker.inference.sequence import Sequence


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Of one step: tokens, and sequences that run together."""

    max_tokens: int = 512
    max_sequences: int = 64

    def __post_init__(self) -> None:
        if self.max_sequences < 1 or self.max_tokens < self.max_sequences:
            raise ValueError("a step takes at least one sequence, and at least one token for each that runs")


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """`num_tokens` tokens of a sequence, from its first that is not computed."""

    sequence: Sequence
    num_tokens: int


class Scheduler:
    """Sequences waiting and running, each in order of rank."""

    def __init__(
        self, block_manager: BlockManager, limits: BatchLimits | None = None, *, window: int | None = None
    ) -> None:
        self.block_manager = block_manager
        self.limits = limits or BatchLimits()
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.lengths = AnswerLengths()
        self._window = window

    def max_blocks(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens owns at most."""
        if self._window is not None:
            tokens = min(tokens, self._window + self.limits.max_tokens + BLOCK_SIZE)
        return -(-tokens // BLOCK_SIZE)

    def add(self, sequence: Sequence) -> None:
        """Raises ValueError where the pool could never hold it."""
        need, count = self.max_blocks(sequence.max_length), self.block_manager.count
        if need > count:
            raise ValueError(
                f"a sequence of {sequence.max_length} tokens needs {need} KV blocks of {BLOCK_SIZE}, "
                f"and there are {count}; shorten it or give the engine more"
            )
        insort(self.waiting, sequence, key=lambda s: s.rank)

    def schedule(self, *, admit: bool = True) -> list[ScheduledSequence]:
        """The next step, with blocks for all of it. Call `complete` after it has been computed."""
        budget = self.limits.max_tokens
        scheduled: list[ScheduledSequence] = []
        # Tokens to keep for those of lower rank that decode: a long prompt does not hold them up. Some of them may yet
        # be preempted; then a few are kept for nobody.
        decodes_after = sum(s.uncomputed_tokens == 1 for s in self.running)
        for sequence in [*self.running]:
            decodes_after -= sequence.running and sequence.uncomputed_tokens == 1
            count = min(sequence.uncomputed_tokens, budget - decodes_after)
            if not sequence.running or count <= 0:
                continue  # preempted a moment ago for one before it
            if self._make_room(sequence, sequence.computed + count):
                scheduled.append(ScheduledSequence(sequence, count))
                budget -= count
        while admit and self.waiting and budget > 0 and len(self.running) < self.limits.max_sequences:
            item = self._admit(self.waiting[0], budget)
            if item is None:
                break  # nobody overtakes: the first in rank gets the next free blocks
            scheduled.append(item)
            budget -= item.num_tokens
        assert sum(item.num_tokens for item in scheduled) <= self.limits.max_tokens
        return [item for item in scheduled if item.sequence.running]

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Allocate blocks for so many tokens, preempting those last in rank; False where it had to yield itself."""
        while not self.block_manager.allocate(sequence.block_table, tokens):
            victim = self.running[-1]
            self.preempt(victim)
            if victim is sequence:
                return False
        return True

    def _admit(self, sequence: Sequence, budget: int) -> ScheduledSequence | None:
        """Start the first in the queue on what the prefix cache has of it, if blocks will last.

        Room for its whole prompt must be free now, and room to grow for it and for those it does not go before; those
        of lower priority yield when the time comes.
        """
        cached = self.block_manager.find_cached(sequence.tokens)
        for block, _ in cached:
            self.block_manager.share(block)
        sequence.block_table = [block for block, _ in cached]
        whole = min(len(sequence.tokens) + 1, sequence.max_length)
        if self._window is not None:
            whole = min(whole, len(cached) * BLOCK_SIZE + self._window + self.limits.max_tokens)
        count = min(len(sequence.tokens) - len(cached) * BLOCK_SIZE, budget)
        missing = self.block_manager.missing(sequence.block_table, whole)
        if missing > self.block_manager.free or not self._blocks_will_last(sequence):
            self.block_manager.release(sequence.block_table)
            return None
        sequence.digests = [digest for _, digest in cached]
        sequence.computed = len(cached) * BLOCK_SIZE
        if sequence.preemptions == 0:
            sequence.cached_tokens = sequence.computed
        allocated = self.block_manager.allocate(sequence.block_table, sequence.computed + count)
        assert allocated, "missing() has just said so"
        self.waiting.pop(0)
        sequence.running = True
        insort(self.running, sequence, key=lambda s: s.rank)
        return ScheduledSequence(sequence, count)

    def _blocks_will_last(self, sequence: Sequence) -> bool:
        """Whether blocks are expected to last if it begins. Alone, or before all who run, it may always."""
        priority = sequence.request.priority
        peers = [s for s in self.running if s.request.priority >= priority]
        if not peers:
            return True
        yielding = sum(self._owned_alone(s) for s in self.running if s.request.priority < priority)
        return peak_demand(self._demand(s) for s in (*peers, sequence)) <= self.block_manager.free + yielding

    def _demand(self, sequence: Sequence) -> BlockDemand:
        generated = len(sequence.tokens) - sequence.prompt_length
        length = sequence.prompt_length + self.lengths.expected(generated, sequence.max_length - sequence.prompt_length)
        steps, own = length - len(sequence.tokens), self._owned_alone(sequence)
        if self._window is not None:
            owned = sum(b != HOLE for b in sequence.block_table)
            return BlockDemand(steps, (self.max_blocks(length) - owned) * BLOCK_SIZE, own, grows=False)
        return BlockDemand(steps, len(sequence.tokens) + BLOCK_SIZE - 1 - len(sequence.block_table) * BLOCK_SIZE, own)

    def _owned_alone(self, sequence: Sequence) -> int:
        """Blocks that are free when it ends."""
        return sum(b != HOLE and self.block_manager.owners(b) == 1 for b in sequence.block_table)

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's blocks and put it back to where its rank says; its tokens stay."""
        self._stop(sequence)
        sequence.preemptions += 1
        insort(self.waiting, sequence, key=lambda s: s.rank)

    def complete(self, item: ScheduledSequence) -> None:
        """Its tokens have been computed: cache its full blocks, let go of what the sliding window has passed."""
        sequence = item.sequence
        sequence.computed += item.num_tokens
        self.block_manager.cache_full_blocks(sequence.block_table, sequence.digests, sequence.tokens, sequence.computed)
        if self._window is not None:
            self.block_manager.release_before(sequence.block_table, sequence.computed - self._window + 1)

    def remove(self, sequence: Sequence) -> None:
        """It ends, wherever it stands; its blocks are free."""
        if generated := len(sequence.tokens) - sequence.prompt_length:
            self.lengths.add(generated)
        if sequence.running:
            self._stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _stop(self, sequence: Sequence) -> None:
        self.block_manager.release(sequence.block_table)
        sequence.digests = []
        sequence.computed = 0
        sequence.running = False
        self.running.remove(sequence)
