"""The engine: requests in, tokens out, a step at a time, with what each has cost.

    engine = Engine(CpuRunner(PackedModel(open_model(path)), blocks=512))
    answers = engine.generate([Request(prompt=(1, 2, 3))])

A server calls `add`, `abort` and `step` itself: `step` is the only long call and wants one thread; `add` and `abort`
may come from others. Steps: 1 expire, 2 schedule, 3 compute, 4 choose tokens, 5 share out the energy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from windward_api.contract import Method
from windward_worker.energy import EnergyRecorder, choose_meter
from windward_worker.inference.batch_policy import BatchPolicy
from windward_worker.inference.block_manager import BLOCK_SIZE, BlockManager
from windward_worker.inference.energy_split import EnergySplit
from windward_worker.inference.intake import Intake
from windward_worker.inference.runner import Runner, SequenceInput
from windward_worker.inference.sampling import draw
from windward_worker.inference.scheduler import BatchLimits, ScheduledSequence, Scheduler
from windward_worker.inference.sequence import FinishReason, Request, Sequence


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request. Seconds count from its arrival; grams only where an intensity is known."""

    id: int
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int  # of the prompt, from the prefix cache
    joules: float
    method: Method
    grams: float | None
    first_token_s: float | None
    total_s: float
    preemptions: int


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """A token of a sequence, or its end (then with the answer); the last token and the end are two events."""

    id: int
    token: int | None = None
    answer: Answer | None = None


class Engine:
    """Continuous batching over one runner."""

    def __init__(
        self,
        runner: Runner,
        *,
        limits: BatchLimits | None = None,
        batch_policy: BatchPolicy | None = None,
        prefix_cache: bool = True,
        recorder: EnergyRecorder | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`recorder`: the run's meters, already started; without one the engine meters itself."""
        self.runner = runner
        self.limits = limits or BatchLimits()
        self.batch_policy = batch_policy or BatchPolicy()
        self.block_manager = BlockManager(runner.blocks, reuse=prefix_cache)
        self.scheduler = Scheduler(self.block_manager, self.limits, window=runner.config.sliding_window)
        self._monotonic = monotonic
        self._sleep = sleep
        self._own = None if recorder is not None else EnergyRecorder(choose_meter().meters, period_s=60.0).start()
        self.energy = EnergySplit(recorder or self._own or EnergyRecorder([]), monotonic=monotonic)
        self._intake = Intake(monotonic)
        self.steps = 0
        self.computed_tokens = 0  # prompts included
        self.generated_tokens = 0
        config = runner.config
        self._ends = config.stop_token_ids
        self._flops = 2.0 * config.num_parameters
        self._flops_by_context = 4.0 * config.num_hidden_layers * config.num_attention_heads * config.head_dim

    def add(self, request: Request) -> int:
        """Take a request; returns its id. Raises ValueError where it can never be answered here."""
        config = self.runner.config
        if len(request.prompt) + len(request.generated) >= config.max_position_embeddings:
            raise ValueError(
                f"prompt of {len(request.prompt)} tokens; this model takes 1 to {config.max_position_embeddings - 1}"
            )
        if min(request.prompt) < 0 or max(request.prompt) >= config.vocab_size:
            raise ValueError(f"a token of the prompt is outside the vocabulary of {config.vocab_size}")
        limit = min(config.max_position_embeddings, len(request.prompt) + request.max_tokens)
        if self.scheduler.max_blocks(limit) > self.block_manager.count:
            raise ValueError(
                f"{limit} tokens do not fit {self.block_manager.count} KV blocks of {BLOCK_SIZE}; give it more"
            )
        return self._intake.add(request, limit)

    def abort(self, identity: int) -> None:
        """End a request at the next step; what it has so far is its answer. Unknown ids are ignored."""
        self._intake.abort(identity)

    @property
    def busy(self) -> bool:
        """Whether a step would find anything."""
        return bool(self._intake.arrived or self.scheduler.waiting or self.scheduler.running)

    def close(self) -> None:
        """Let go of the meters, if they are the engine's own; a second call does nothing."""
        if self._own is not None:
            self._own.stop()

    def drain(self) -> None:
        """Take no more requests; those that are here are answered."""
        self._intake.drain()

    def _everyone(self) -> list[Sequence]:
        everyone = [*self._intake.arrived, *self.scheduler.waiting, *self.scheduler.running]
        return sorted(everyone, key=lambda s: s.id)

    def unfinished(self) -> dict[int, tuple[int, ...]]:
        """Tokens made so far for each id that is not answered."""
        return {s.id: tuple(s.answer) for s in self._everyone()}

    def snapshot(self) -> list[Request]:
        """What is unfinished, by arrival, with the tokens made so far: `add` them again and they continue."""
        return [replace(s.request, generated=tuple(s.answer)) for s in self._everyone()]

    def waits_for_more(self) -> bool:
        """Whether the batch policy asks to wait for company; `step` then does nothing."""
        arrived = self._intake.arrived
        queue = self.scheduler.waiting or arrived
        if not queue or self._intake.draining:
            return False
        oldest_s = self._monotonic() - min(s.arrival_s for s in queue)
        waiting = len(self.scheduler.waiting) + len(arrived)
        return self.batch_policy.should_wait(waiting, len(self.scheduler.running), oldest_s)

    def step(self) -> list[EngineEvent]:
        """Compute one batch; the tokens and ends that it brought."""
        begun_s = self._monotonic()
        events = self._take_in(begun_s)
        if self.waits_for_more():
            return events
        self.scheduler.limits = self.batch_policy.within(self.limits)
        scheduled = self.scheduler.schedule()
        if not scheduled:
            return events
        inputs = [self._input(item) for item in scheduled]
        logits = self.runner.step(inputs)  # (outputs, V)
        place = 0
        now_s = self._monotonic()
        ended: list[Sequence] = []
        for item, chunk in zip(scheduled, inputs, strict=True):
            self.scheduler.complete(item)
            sequence = item.sequence
            sequence.flops += item.num_tokens * (self._flops + self._flops_by_context * sequence.computed)
            if chunk.outputs:
                token = draw(logits[place], sequence.request, len(sequence.tokens) - sequence.prompt_length)
                place += 1
                self._accept(sequence, token, now_s, events)
            if sequence.finish_reason is not None:
                self.scheduler.remove(sequence)
                ended.append(sequence)
        self.steps += 1
        self.computed_tokens += sum(item.num_tokens for item in scheduled)
        self.energy.step(self._monotonic() - begun_s, (item.sequence for item in scheduled))
        events += [EngineEvent(s.id, answer=self._answer(s)) for s in ended]
        if pause_s := self.batch_policy.pause_s(self._monotonic() - begun_s, self.energy.step_w):
            self._sleep(pause_s)
        return events

    def _take_in(self, now_s: float) -> list[EngineEvent]:
        """New requests to the queue; aborted and overdue ones out of it."""
        arrived, aborted = self._intake.take()
        for sequence in arrived:
            self.scheduler.add(sequence)
        events = []
        for sequence in [*self.scheduler.waiting, *self.scheduler.running]:
            late = sequence.request.deadline_s is not None and now_s >= sequence.request.deadline_s
            if sequence.id in aborted or late:
                sequence.finish_reason = FinishReason.ABORTED if sequence.id in aborted else FinishReason.DEADLINE
                sequence.last_s = now_s
                self.scheduler.remove(sequence)
                if sequence.flops:
                    self.energy.settle()
                events.append(EngineEvent(sequence.id, answer=self._answer(sequence)))
        return events

    def _input(self, item: ScheduledSequence) -> SequenceInput:
        sequence, end = item.sequence, item.sequence.computed + item.num_tokens
        tokens = sequence.tokens[sequence.computed : end]
        return SequenceInput(tokens, sequence.computed, sequence.block_table, outputs=int(end == len(sequence.tokens)))

    def _accept(self, sequence: Sequence, token: int, now_s: float, events: list[EngineEvent]) -> None:
        """A token was chosen: it may end the sequence, or be its next, or be its last."""
        request = sequence.request
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
        sequence.last_s = now_s
        if token in request.stop or (token in self._ends and not request.ignore_eos):
            sequence.finish_reason = FinishReason.STOP
            return
        sequence.tokens.append(token)
        self.generated_tokens += 1
        events.append(EngineEvent(sequence.id, token=token))
        if len(sequence.tokens) >= sequence.max_length:
            sequence.finish_reason = FinishReason.LENGTH

    def _answer(self, sequence: Sequence) -> Answer:
        assert sequence.finish_reason is not None
        intensity = self.batch_policy.intensity_g_per_kwh
        return Answer(
            id=sequence.id,
            tokens=tuple(sequence.answer),
            finish_reason=sequence.finish_reason,
            prompt_tokens=sequence.prompt_length,
            cached_tokens=sequence.cached_tokens,
            joules=sequence.joules,
            method=self.energy.method,
            grams=None if intensity is None else sequence.joules / 3.6e6 * intensity,
            first_token_s=None if sequence.first_token_s is None else sequence.first_token_s - sequence.arrival_s,
            total_s=sequence.last_s - sequence.arrival_s,
            preemptions=sequence.preemptions,
        )

    def generate(self, requests: Iterable[Request]) -> list[Answer]:
        """Answer all requests, in their order. Raises ValueError where one can never be answered."""
        ids = [self.add(request) for request in requests]
        answers: dict[int, Answer] = {}
        while self.busy:
            if self.waits_for_more():
                self._sleep(0.001)
            for event in self.step():
                if event.answer is not None:
                    answers[event.id] = event.answer
        return [answers[identity] for identity in ids]

    def waste(self) -> float:
        """Share of the owned KV blocks' room that holds no token now."""
        tables: Seq[list[int]] = [s.block_table for s in self.scheduler.running]
        owned = len({b for table in tables for b in table if b >= 0})
        empty = sum(len(s.block_table) * BLOCK_SIZE - s.computed for s in self.scheduler.running)
        return empty / (owned * BLOCK_SIZE) if owned else 0.0
