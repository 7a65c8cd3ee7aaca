"""Who may begin: preemptions stay rare under any load, nobody starves, who goes before others still does."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windward_worker.inference.block_demand import FEW, KEPT, AnswerLengths, BlockDemand, peak_demand
from windward_worker.inference.block_manager import BLOCK_SIZE, BlockManager
from windward_worker.inference.scheduler import BatchLimits, Scheduler
from windward_worker.inference.sequence import FinishReason, Request, Sequence


def sequence(identity, prompt, answer, *, priority=0, beginning=0, start=None):
    shared = list(range(beginning))
    tokens = [*shared, *((1000 + identity * 31 + i) % 5000 for i in range(prompt - beginning))]
    wanted = Request(tuple(tokens), answer, priority=priority)
    return Sequence(identity, wanted, prompt + answer, tokens, 0.0 if start is None else start)


class Load:
    """A scheduler fed to overflowing: `queue` long at all times; an answer is `made(sequence)` tokens long."""

    def __init__(self, blocks, limits=None, **options):
        self.block_manager = BlockManager(blocks)
        self.scheduler = Scheduler(self.block_manager, limits or BatchLimits(512, 200), **options)
        self.step = 0
        self.steps_of = {}
        self.preemptions = self.running = 0

    def add(self, made):
        made.arrival_s = self.step
        self.scheduler.add(made)

    def turn(self, length):
        """One step; those who ended in it."""
        scheduled = self.scheduler.schedule()
        assert scheduled, "something always moves"
        ended = []
        for item in scheduled:
            self.scheduler.complete(item)
            one = item.sequence
            if one.computed == len(one.tokens):
                one.tokens.append(7)
            if len(one.tokens) >= one.prompt_length + length(one):
                self.scheduler.remove(one)
                self.steps_of[one.id] = self.step - one.arrival_s
                self.preemptions += one.preemptions
                ended.append(one)
        self.running += len(self.scheduler.running)
        self.step += 1
        return ended


def overload(load, count, ask, length, streams):
    """So many requests, `streams` of them inside at any time."""
    waiting = deque(range(count))
    for _ in range(streams):
        load.add(ask(waiting.popleft()))
    while load.scheduler.waiting or load.scheduler.running:
        for _ in load.turn(length):
            if waiting:
                load.add(ask(waiting.popleft()))
        assert load.step < 200_000
    assert len(load.steps_of) == count and load.block_manager.free == load.block_manager.count
    return load


@pytest.mark.parametrize("pool", [60, 200, 700])
@pytest.mark.parametrize("exact", [True, False], ids=["declared", "learnt"])
def test_under_overload_preemptions_are_rare(pool, exact):
    """200 streams, few of whom have room. `declared`: max_tokens is what comes; `learnt`: four times the longest."""
    dice = random.Random(3)
    lengths = [dice.randint(32, 192) for _ in range(1000)]
    max_tokens = {i: n if exact else 4 * 192 for i, n in enumerate(lengths)}
    asks = {i: sequence(i, dice.randint(8, 64), max_tokens[i]) for i in range(1000)}
    load = overload(Load(pool), 1000, asks.get, lambda s: lengths[s.id], 200)
    assert load.preemptions <= 10, "of 1000 requests"
    filled = load.running / load.step * (36 + 112 / 2 + BLOCK_SIZE / 2) / BLOCK_SIZE / pool
    assert filled > (0.7 if exact else 0.5), "and the pool is used"


def test_without_block_demand_sequences_preempt_each_other(monkeypatch):
    monkeypatch.setattr(Scheduler, "_blocks_will_last", lambda self, sequence: True)
    asks = {i: sequence(i, 36, 32 + i * 37 % 160) for i in range(500)}
    assert overload(Load(200), 500, asks.get, lambda s: s.max_length - s.prompt_length, 200).preemptions > 500
    monkeypatch.undo()
    asks = {i: sequence(i, 36, 32 + i * 37 % 160) for i in range(500)}
    assert overload(Load(200), 500, asks.get, lambda s: s.max_length - s.prompt_length, 200).preemptions < 5


def test_nobody_starves_beside_short_ones():
    """A long request comes among an endless stream of short ones: it begins when those before it have ended."""
    load = Load(40)
    asks = {i: sequence(i, 16, 600 if i == 60 else 20) for i in range(600)}
    overload(load, 600, asks.get, lambda s: s.max_length - s.prompt_length, 50)
    waits = [load.steps_of[i] for i in range(600) if i != 60]
    assert load.steps_of[60] < 600 + 3 * max(waits[:60]) and load.preemptions == 0


def test_higher_priority_is_admitted_into_a_full_pool():
    load = Load(40)
    for i in range(20):
        load.add(sequence(i, 30, 100))
    for _ in range(60):
        load.turn(lambda s: 100)
    assert load.scheduler.waiting, "all who have room are in"
    urgent = sequence(99, 30, 100, priority=1)
    load.add(urgent)
    load.turn(lambda s: 100)
    assert urgent.running or load.block_manager.free < 2, "it does not wait for others to have room to grow"
    while not urgent.running:
        load.turn(lambda s: 100)
    began = load.step
    while urgent in load.scheduler.running:
        load.turn(lambda s: 100)
    assert load.step - began <= 101 and urgent.preemptions == 0


def test_a_common_beginning_counts_once():
    """Ten blocks that all share are no reason to keep anyone waiting."""
    load = Load(64)
    load.add(sequence(0, 162, 16, beginning=160))
    load.turn(lambda s: 16)
    for i in range(1, 20):
        load.add(sequence(i, 162, 16, beginning=160))
    load.turn(lambda s: 16)
    assert len(load.scheduler.running) == 20


def test_alone_it_always_begins():
    load = Load(10)
    for _ in range(KEPT):
        load.scheduler.lengths.add(10_000)
    load.add(sequence(0, 20, 140))
    load.turn(lambda s: 140)
    assert load.scheduler.running


need = st.builds(
    lambda held, steps, owned: (held, steps, min(owned, -(-held // BLOCK_SIZE))),
    st.integers(1, 100),
    st.integers(0, 120),
    st.integers(0, 7),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(need, min_size=1, max_size=12))
def test_the_peak_is_never_too_low_and_at_most_a_block_each_too_high(sequences):
    """Against a step-by-step count."""
    needs = [BlockDemand(steps, held + BLOCK_SIZE - 1 - owned * BLOCK_SIZE, owned) for held, steps, owned in sequences]
    worst = 0
    for step in range(121):
        lacking = sum(-(-(held + step) // BLOCK_SIZE) - owned for held, steps, owned in sequences if step <= steps)
        worst = max(worst, lacking - sum(owned for _, steps, owned in sequences if step > steps))
    assert worst <= peak_demand(needs) <= worst + len(sequences)


def test_answer_lengths_expect_what_was_seen():
    lengths = AnswerLengths()
    assert lengths.expected(0, 500) == 500, "nothing is known"
    for n in range(1, 101):
        lengths.add(n)
    assert lengths.expected(0, 500) == 75 and lengths.expected(0, 40) == 40 and lengths.expected(50, 500) == 87
    assert lengths.expected(101 - FEW, 500) == 500, "too few were longer"
    for _ in range(KEPT):
        lengths.add(7)
    assert lengths.expected(0, 500) == 7 and lengths.expected(7, 500) == 500, "old answers are forgotten"


def test_who_waits_for_room_still_ends_at_its_deadline(decoder, runner_of, engine_of):
    engine = engine_of(runner_of("torch", decoder, blocks=8))
    first = engine.add(Request((1, 2, 3), 100, ignore_eos=True))
    late = engine.add(Request((4, 5, 6), 100, ignore_eos=True, deadline_s=engine._monotonic() + 20))
    found = {}
    while engine.busy:
        found |= {e.id: (e.answer, len(found)) for e in engine.step() if e.answer is not None}
    assert found[late][0].finish_reason == FinishReason.DEADLINE and found[late][0].tokens == () and found[late][1] == 0
    assert len(found[first][0].tokens) == 100 and found[first][0].preemptions == 0
