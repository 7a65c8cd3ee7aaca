"""Properties of scheduler and blocks under any workload: no torch, no model."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windward_worker.control import Refused
from windward_worker.inference.batch_policy import BatchPolicy, batch_policy_for
from windward_worker.inference.block_manager import BLOCK_SIZE, HOLE, BlockManager, block_digest
from windward_worker.inference.scheduler import BatchLimits, Scheduler
from windward_worker.inference.sequence import Request, Sequence
from windward_worker.inference.signals import RuntimeSignals, read_signals

request = st.tuples(
    st.integers(1, 90),  # prompt
    st.integers(1, 60),  # answer
    st.integers(0, 2),  # priority
    st.integers(0, 3),  # which of four beginnings it shares
    st.integers(0, 12),  # step at which it arrives
    st.sampled_from([None, None, None, 3, 9]),  # step at which it is aborted
)


def sequence(identity, prompt, answer, priority=0, start=0):
    tokens = tuple((start * 7 + i // 3) % 50 for i in range(prompt))
    wanted = Request(tokens, answer, priority=priority)
    return Sequence(identity, wanted, prompt + answer, list(tokens), 0.0)


def check(scheduler, blocks):
    """Every block is owned as often as tables name it; free ones by nobody; together they are all."""
    named = {}
    for s in [*scheduler.running, *scheduler.waiting]:
        for block in s.block_table:
            if block != HOLE:
                named[block] = named.get(block, 0) + 1
    assert all(blocks.owners(b) == named.get(b, 0) for b in range(blocks.count)), "owned by exactly those who name it"
    assert blocks.free == blocks.count - len(named), "none leaks"
    assert all(not s.block_table and s.computed == 0 for s in scheduler.waiting)


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(request, min_size=1, max_size=14),
    count=st.integers(10, 40),
    budget=st.integers(4, 80),
    together=st.integers(1, 4),
    window=st.sampled_from([None, None, 16, 40]),
    reuse=st.booleans(),
)
def test_any_workload_ends_without_leaks_or_overtaking(requests, count, budget, together, window, reuse):
    blocks = BlockManager(count, reuse=reuse)
    limits = BatchLimits(budget, together)
    scheduler = Scheduler(blocks, limits, window=window)
    pending = sorted(enumerate(requests), key=lambda r: r[1][4])
    alive, admitted, next_id, step = {}, [], 0, 0
    while pending or scheduler.waiting or scheduler.running:
        while pending and pending[0][1][4] <= step:
            _, (prompt, answer, priority, start, _, abort) = pending.pop(0)
            made = sequence(next_id, prompt, answer, priority, start)
            next_id += 1
            if scheduler.max_blocks(made.max_length) > count:
                with pytest.raises(ValueError, match="KV blocks"):
                    scheduler.add(made)
                continue
            scheduler.add(made)
            alive[made.id] = (made, None if abort is None else step + abort)
        for made, end in list(alive.values()):
            if end is not None and step >= end:
                scheduler.remove(made)
                del alive[made.id]
        before = {s.id for s in scheduler.running}
        queue = [s.id for s in scheduler.waiting]
        scheduled = scheduler.schedule()
        check(scheduler, blocks)
        assert sum(p.num_tokens for p in scheduled) <= budget and len(scheduler.running) <= together
        assert len({p.sequence.id for p in scheduled}) == len(scheduled)
        fresh = [p.sequence for p in scheduled if p.sequence.id not in before]
        assert [s.id for s in fresh] == queue[: len(fresh)], "in order of rank, nobody overtakes"
        admitted += [s for s in fresh if s.preemptions == 0]
        written = {}
        for p in scheduled:
            s = p.sequence
            assert (
                0 < p.num_tokens <= s.uncomputed_tokens and len(s.block_table) * BLOCK_SIZE >= s.computed + p.num_tokens
            )
            for place in range(s.computed, s.computed + p.num_tokens):
                slot = (s.block_table[place // BLOCK_SIZE], place % BLOCK_SIZE)
                assert slot[0] != HOLE and slot not in written, "no two tokens are written to one place"
                assert blocks.owners(slot[0]) == 1, "a shared block is never written"
                written[slot] = s.id
            first = max(0, s.computed - (window or 10**9) + 1)
            assert all(b != HOLE for b in s.block_table[first // BLOCK_SIZE :]), "what is seen is there"
        assert scheduled or not (scheduler.running or scheduler.waiting), "something always moves"
        for p in scheduled:
            scheduler.complete(p)
            s = p.sequence
            if s.computed == len(s.tokens):
                s.tokens.append((s.id * 13 + len(s.tokens)) % 50)
            if len(s.tokens) >= s.max_length:
                scheduler.remove(s)
                alive.pop(s.id)
        check(scheduler, blocks)
        step += 1
        assert step < 20_000
    assert blocks.free == count and not alive
    for priority in range(3):
        mine = [s.id for s in admitted if s.request.priority == priority]
        assert mine == sorted(mine), "first come, first served within a priority"


def test_a_shared_beginning_is_owned_by_both_and_kept_when_free():
    blocks = BlockManager(8)
    scheduler = Scheduler(blocks)
    first, second = sequence(0, 40, 5), sequence(1, 40, 5)
    scheduler.add(first)
    (item,) = scheduler.schedule()
    scheduler.complete(item)
    first.tokens.append(1)
    scheduler.add(second)
    scheduled = {p.sequence.id: p for p in scheduler.schedule()}
    assert second.block_table[:2] == first.block_table[:2] and scheduled[1].num_tokens == 40 - 32
    assert blocks.owners(first.block_table[0]) == 2
    scheduler.remove(first)
    scheduler.remove(second)
    assert blocks.free == 8 and len(blocks.find_cached(sequence(2, 40, 5).tokens)) == 2
    blocks.allocate([], 8 * BLOCK_SIZE)
    assert blocks.find_cached(sequence(2, 40, 5).tokens) == [], "taken for other tokens, a block is forgotten"


def test_another_beginning_gives_another_chain():
    assert (
        block_digest(b"", [1, 2]) != block_digest(b"x", [1, 2]) != block_digest(b"", [2, 1]) != block_digest(b"", [258])
    )


def test_a_block_given_back_twice_is_a_defect():
    blocks, table = BlockManager(2), []
    blocks.allocate(table, 5)
    twice = list(table)
    blocks.release(table)
    with pytest.raises(AssertionError, match="given back twice"):
        blocks.release(twice)


def test_a_long_prompt_does_not_hold_up_those_who_decode():
    scheduler = Scheduler(BlockManager(64), BatchLimits(16, 4))
    short, long = sequence(0, 4, 20), sequence(1, 200, 5)
    scheduler.add(short)
    for item in scheduler.schedule():
        scheduler.complete(item)
    short.tokens.append(1)
    scheduler.add(long)
    assert [(p.sequence.id, p.num_tokens) for p in scheduler.schedule()] == [(0, 1), (1, 15)]
    urgent = sequence(2, 100, 5, priority=1)
    scheduler.running[1].computed = 200 - 1  # it decodes, too
    scheduler.add(urgent)
    for item in scheduler.schedule():
        scheduler.complete(item)
    short.tokens.append(1), long.tokens.append(1)
    assert {p.sequence.id: p.num_tokens for p in scheduler.schedule()}[2] == 16 - 2


@pytest.mark.parametrize(
    ("intensity", "min_waiting", "wait"), [(None, 1, 0.0), (20, 1, 0.0), (275, 8, 0.5), (900, 16, 1.0)]
)
def test_the_dirtier_the_longer_the_wait(intensity, min_waiting, wait):
    policy = batch_policy_for(intensity_g_per_kwh=intensity, cap_w=None, max_batch=16, max_wait_s=1.0)
    assert (policy.min_waiting, policy.max_wait_s, policy.intensity_g_per_kwh) == (
        min_waiting,
        pytest.approx(wait),
        intensity,
    )


@pytest.mark.parametrize(("draw", "min_waiting", "wait"), [(0, 1, 0.0), (99, 1, 0.0), (200, 8, 0.5), (400, 12, 0.75)])
def test_the_further_above_the_cap_the_longer_the_wait(draw, min_waiting, wait):
    policy = batch_policy_for(intensity_g_per_kwh=None, cap_w=100.0, draw_w=draw, max_batch=16, max_wait_s=1.0)
    assert (policy.min_waiting, policy.max_wait_s, policy.cap_w) == (min_waiting, pytest.approx(wait), 100.0)
    dirty = batch_policy_for(intensity_g_per_kwh=900, cap_w=100.0, draw_w=draw, max_batch=16, max_wait_s=1.0)
    assert dirty.min_waiting == 16, "the stronger of two reasons counts"


def test_signals_come_from_the_environment_and_follow_the_file(tmp_path):
    file = tmp_path / "intensity"
    environ = {"WINDWARD_POWER_CAP_WATTS": "120", "WINDWARD_INTENSITY_FILE": str(file)}
    signals = read_signals(environ, cap_w=200.0)
    assert signals.cap_w == 120 and read_signals(environ, cap_w=90.0).cap_w == 90, "the lower holds"
    assert signals.intensity() is None, "the file is not there yet"
    for text, intensity, min_waiting in (
        ("500", 500, 16),
        ("20\n", 20, 1),
        ("nan", None, 1),
        ("-3", None, 1),
        ("x", None, 1),
    ):
        file.write_text(text)
        policy = signals.batch_policy(draw_w=0.0, max_batch=16, max_wait_s=1.0)
        assert (policy.intensity_g_per_kwh, policy.min_waiting, policy.cap_w) == (intensity, min_waiting, 120)
    assert read_signals(environ, intensity_g_per_kwh=300.0).intensity() == 300, "a flag goes before the variable"
    assert read_signals({}) == RuntimeSignals()


def test_the_windows_intensity_is_read_and_a_file_goes_before_it(tmp_path):
    told = {"WINDWARD_INTENSITY_G_PER_KWH": "412.3"}
    assert read_signals(told).intensity() == 412.3
    assert read_signals(told, intensity_g_per_kwh=90.0).intensity() == 90
    (tmp_path / "now").write_text("20")
    assert read_signals(told | {"WINDWARD_INTENSITY_FILE": str(tmp_path / "now")}).intensity() == 20
    for text in ("-1", "nan", "dirty", "1e9"):
        with pytest.raises(Refused, match="WINDWARD_INTENSITY_G_PER_KWH"):
            read_signals({"WINDWARD_INTENSITY_G_PER_KWH": text})


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "much"])
def test_a_cap_that_is_no_power_is_refused(text):
    with pytest.raises(Refused, match="WINDWARD_POWER_CAP_WATTS"):
        read_signals({"WINDWARD_POWER_CAP_WATTS": text})


def test_a_policy_waits_only_for_an_idle_engine_and_few_requests():
    policy = BatchPolicy(min_waiting=4, max_wait_s=2.0)
    assert policy.should_wait(3, 0, 1.9) and not policy.should_wait(4, 0, 0) and not policy.should_wait(3, 0, 2.0)
    assert (
        not policy.should_wait(1, 1, 0) and not policy.should_wait(0, 0, 0) and not BatchPolicy().should_wait(1, 0, 0)
    )


@pytest.mark.parametrize(
    ("cap", "watts", "pause"), [(None, 50, 0), (60, 50, 0), (25, 50, 2.0 * 0.1 - 0.1), (0.001, 50, 1)]
)
def test_a_pause_brings_the_mean_below_the_cap(cap, watts, pause):
    assert BatchPolicy(cap_w=cap).pause_s(0.1, watts) == pytest.approx(pause)


def test_none_of_it_needs_torch():
    code = (
        "import sys, windward_worker.inference.engine, windward_worker.inference.run, windward_worker.inference.open;"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    roots = [str(Path(__file__).parents[3] / top) for top in ("crds", "workers", "kernels")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path[:0] = {roots}; {code}"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
