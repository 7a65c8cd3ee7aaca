"""Properties of scheduler and blocks under any workload: no torch, no model."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windward_worker.control import Refused
from windward_worker.inference.blocks import HOLE, PAGE, Blocks, chain
from windward_worker.inference.orders import Orders, read_orders
from windward_worker.inference.pace import Pace, pace_for
from windward_worker.inference.scheduler import Limits, Scheduler
from windward_worker.inference.sequence import Request, Sequence

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
        for block in s.table:
            if block != HOLE:
                named[block] = named.get(block, 0) + 1
    assert all(blocks.owners(b) == named.get(b, 0) for b in range(blocks.count)), "owned by exactly those who name it"
    assert blocks.free == blocks.count - len(named), "none leaks"
    assert all(not s.table and s.computed == 0 for s in scheduler.waiting)


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(request, min_size=1, max_size=14),
    count=st.integers(10, 40),
    budget=st.integers(4, 80),
    together=st.integers(1, 4),
    window=st.sampled_from([None, None, 16, 40]),
    reuse=st.booleans(),
)
def test_any_workload(requests, count, budget, together, window, reuse):
    blocks = Blocks(count, reuse=reuse)
    limits = Limits(budget, together)
    scheduler = Scheduler(blocks, limits, window=window)
    pending = sorted(enumerate(requests), key=lambda r: r[1][4])
    alive, admitted, next_id, step = {}, [], 0, 0
    while pending or scheduler.waiting or scheduler.running:
        while pending and pending[0][1][4] <= step:
            _, (prompt, answer, priority, start, _, abort) = pending.pop(0)
            made = sequence(next_id, prompt, answer, priority, start)
            next_id += 1
            if scheduler.most_blocks(made.limit) > count:
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
        pieces = scheduler.plan()
        check(scheduler, blocks)
        assert sum(p.count for p in pieces) <= budget and len(scheduler.running) <= together
        assert len({p.sequence.id for p in pieces}) == len(pieces)
        fresh = [p.sequence for p in pieces if p.sequence.id not in before]
        assert [s.id for s in fresh] == queue[: len(fresh)], "in order of rank, nobody overtakes"
        admitted += [s for s in fresh if s.preemptions == 0]
        written = {}
        for p in pieces:
            s = p.sequence
            assert 0 < p.count <= s.waiting_tokens and len(s.table) * PAGE >= s.computed + p.count
            for place in range(s.computed, s.computed + p.count):
                slot = (s.table[place // PAGE], place % PAGE)
                assert slot[0] != HOLE and slot not in written, "no two tokens are written to one place"
                assert blocks.owners(slot[0]) == 1, "a shared block is never written"
                written[slot] = s.id
            first = max(0, s.computed - (window or 10**9) + 1)
            assert all(b != HOLE for b in s.table[first // PAGE :]), "what is seen is there"
        assert pieces or not (scheduler.running or scheduler.waiting), "something always moves"
        for p in pieces:
            scheduler.done(p)
            s = p.sequence
            if s.computed == len(s.tokens):
                s.tokens.append((s.id * 13 + len(s.tokens)) % 50)
            if len(s.tokens) >= s.limit:
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
    blocks = Blocks(8)
    scheduler = Scheduler(blocks)
    first, second = sequence(0, 40, 5), sequence(1, 40, 5)
    scheduler.add(first)
    (piece,) = scheduler.plan()
    scheduler.done(piece)
    first.tokens.append(1)
    scheduler.add(second)
    pieces = {p.sequence.id: p for p in scheduler.plan()}
    assert second.table[:2] == first.table[:2] and pieces[1].count == 40 - 32
    assert blocks.owners(first.table[0]) == 2
    scheduler.remove(first)
    scheduler.remove(second)
    assert blocks.free == 8 and len(blocks.find(sequence(2, 40, 5).tokens)) == 2
    blocks.grow([], 8 * PAGE)
    assert blocks.find(sequence(2, 40, 5).tokens) == [], "taken for other tokens, a block is forgotten"


def test_another_beginning_gives_another_chain():
    assert chain(b"", [1, 2]) != chain(b"x", [1, 2]) != chain(b"", [2, 1]) != chain(b"", [258])


def test_a_block_given_back_twice_is_a_defect():
    blocks, table = Blocks(2), []
    blocks.grow(table, 5)
    twice = list(table)
    blocks.release(table)
    with pytest.raises(AssertionError, match="given back twice"):
        blocks.release(twice)


def test_a_long_prompt_does_not_hold_up_those_who_decode():
    scheduler = Scheduler(Blocks(64), Limits(16, 4))
    short, long = sequence(0, 4, 20), sequence(1, 200, 5)
    scheduler.add(short)
    for piece in scheduler.plan():
        scheduler.done(piece)
    short.tokens.append(1)
    scheduler.add(long)
    assert [(p.sequence.id, p.count) for p in scheduler.plan()] == [(0, 1), (1, 15)]
    urgent = sequence(2, 100, 5, priority=1)
    scheduler.running[1].computed = 200 - 1  # it decodes, too
    scheduler.add(urgent)
    for piece in scheduler.plan():
        scheduler.done(piece)
    short.tokens.append(1), long.tokens.append(1)
    assert {p.sequence.id: p.count for p in scheduler.plan()}[2] == 16 - 2


@pytest.mark.parametrize(("intensity", "gather", "wait"), [(None, 1, 0.0), (20, 1, 0.0), (275, 8, 0.5), (900, 16, 1.0)])
def test_the_dirtier_the_longer_the_wait(intensity, gather, wait):
    pace = pace_for(intensity_g_per_kwh=intensity, cap_w=None, max_batch=16, max_wait_s=1.0)
    assert (pace.gather, pace.max_wait_s, pace.intensity_g_per_kwh) == (gather, pytest.approx(wait), intensity)


@pytest.mark.parametrize(("draw", "gather", "wait"), [(0, 1, 0.0), (99, 1, 0.0), (200, 8, 0.5), (400, 12, 0.75)])
def test_the_further_above_the_cap_the_longer_the_wait(draw, gather, wait):
    pace = pace_for(intensity_g_per_kwh=None, cap_w=100.0, draw_w=draw, max_batch=16, max_wait_s=1.0)
    assert (pace.gather, pace.max_wait_s, pace.cap_w) == (gather, pytest.approx(wait), 100.0)
    dirty = pace_for(intensity_g_per_kwh=900, cap_w=100.0, draw_w=draw, max_batch=16, max_wait_s=1.0)
    assert dirty.gather == 16, "the stronger of two reasons counts"


def test_orders_come_from_the_environment_and_follow_the_file(tmp_path):
    file = tmp_path / "intensity"
    environ = {"WINDWARD_POWER_CAP_WATTS": "120", "WINDWARD_INTENSITY_FILE": str(file)}
    orders = read_orders(environ, cap_w=200.0)
    assert orders.cap_w == 120 and read_orders(environ, cap_w=90.0).cap_w == 90, "the lower holds"
    assert orders.intensity() is None, "the file is not there yet"
    for text, intensity, gather in (
        ("500", 500, 16),
        ("20\n", 20, 1),
        ("nan", None, 1),
        ("-3", None, 1),
        ("x", None, 1),
    ):
        file.write_text(text)
        pace = orders.pace(draw_w=0.0, max_batch=16, max_wait_s=1.0)
        assert (pace.intensity_g_per_kwh, pace.gather, pace.cap_w) == (intensity, gather, 120)
    assert read_orders(environ, intensity_g_per_kwh=300.0).intensity() == 300, "a flag goes before the variable"
    assert read_orders({}) == Orders()


def test_a_run_is_told_the_intensity_of_its_window_and_a_file_goes_before_it(tmp_path):
    told = {"WINDWARD_INTENSITY_G_PER_KWH": "412.3"}
    assert read_orders(told).intensity() == 412.3
    assert read_orders(told, intensity_g_per_kwh=90.0).intensity() == 90
    (tmp_path / "now").write_text("20")
    assert read_orders(told | {"WINDWARD_INTENSITY_FILE": str(tmp_path / "now")}).intensity() == 20
    for text in ("-1", "nan", "dirty", "1e9"):
        with pytest.raises(Refused, match="WINDWARD_INTENSITY_G_PER_KWH"):
            read_orders({"WINDWARD_INTENSITY_G_PER_KWH": text})


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "much"])
def test_a_cap_that_is_no_power_is_refused(text):
    with pytest.raises(Refused, match="WINDWARD_POWER_CAP_WATTS"):
        read_orders({"WINDWARD_POWER_CAP_WATTS": text})


def test_when_a_pace_holds():
    pace = Pace(gather=4, max_wait_s=2.0)
    assert pace.holds(3, 0, 1.9) and not pace.holds(4, 0, 0) and not pace.holds(3, 0, 2.0)
    assert not pace.holds(1, 1, 0) and not pace.holds(0, 0, 0) and not Pace().holds(1, 0, 0)


@pytest.mark.parametrize(
    ("cap", "watts", "pause"), [(None, 50, 0), (60, 50, 0), (25, 50, 2.0 * 0.1 - 0.1), (0.001, 50, 1)]
)
def test_a_pause_brings_the_mean_below_the_cap(cap, watts, pause):
    assert Pace(cap_w=cap).pause_s(0.1, watts) == pytest.approx(pause)


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
