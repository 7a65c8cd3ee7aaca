"""The engine answers as the model would alone, whatever shares its steps; and says what it cost."""

import pytest
import torch

from windward_worker.inference import BatchLimits, BatchPolicy, Embedder, FinishReason, Request

RUNNERS = ["cpp", "cpp-int4", "cpp-kv-int8", "torch"]
PROMPTS = [[5, 9, 200], [7], list(range(1, 40)), [100, 50], [42, 42, 42, 42]]


def answers(engine, prompts, **options):
    options = {"max_tokens": 12, **options}
    return [a.tokens for a in engine.generate(Request(tuple(p), **options) for p in prompts)]


@pytest.fixture(params=RUNNERS)
def runner(request, decoder, runner_of):
    return runner_of(request.param, decoder)


@pytest.mark.parametrize("name", ["cpp", "torch"])
def test_greedy_equals_the_argmax_without_a_cache(name, decoder, runner_of, engine_of):
    engine = engine_of(runner_of(name, decoder))
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(12):
            token = decoder(torch.tensor([tokens]))[0, -1].argmax().item()
            if token == 0:
                break
            tokens.append(token)
        assert answers(engine, [prompt]) == [tuple(tokens[len(prompt) :])]


@pytest.mark.parametrize("limits", [BatchLimits(512, 64), BatchLimits(5, 5), BatchLimits(64, 2), BatchLimits(7, 1)])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2], [0, 0, 0]])
def test_a_sequence_answers_in_a_batch_as_it_does_alone(runner, engine_of, limits, order):
    alone = [answers(engine_of(runner), [PROMPTS[i]])[0] for i in order]
    assert answers(engine_of(runner, limits=limits), [PROMPTS[i] for i in order]) == alone
    assert any(len(set(tokens)) > 2 for tokens in alone), "a model that repeats itself would agree with anything"


@pytest.mark.parametrize("name", ["cpp", "torch"])
def test_preempted_it_answers_the_same(name, decoder, runner_of, engine_of):
    long = [[i, *range(1, 30)] for i in range(1, 7)]
    expected = answers(engine_of(runner_of(name, decoder)), long, max_tokens=40, ignore_eos=True)
    engine = engine_of(runner_of(name, decoder, blocks=12))  # room for two and a half of six
    requests = [Request(tuple(p), max_tokens=40, ignore_eos=True, priority=i // 4) for i, p in enumerate(long)]
    ids, found = [engine.add(r) for r in requests[:4]], {}
    for step in range(1000):
        found |= {e.id: e.answer for e in engine.step() if e.answer is not None}
        if step == 12:  # two are under way, when those who go before them come
            ids += [engine.add(r) for r in requests[4:]]
        if not engine.busy:
            break
    made = [found[i] for i in ids]
    assert [a.tokens for a in made] == expected
    assert [a.preemptions > 0 for a in made] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ] and engine.block_manager.free == 12


def test_a_prefix_is_computed_once(runner, engine_of):
    engine = engine_of(runner)
    system = list(range(2, 40))
    first, second = [*system, 7, 8], [*system, 9]
    cold = answers(engine, [first])
    before = engine.computed_tokens
    (again, other) = engine.generate(Request(tuple(p), max_tokens=12) for p in (first, second))
    assert again.tokens == cold[0] and (again.cached_tokens, other.cached_tokens) == (32, 32)
    assert engine.computed_tokens - before < 2 * (len(first) - 32 + 12)
    assert other.tokens == answers(engine_of(runner, prefix_cache=False), [second])[0]


def test_sampling_depends_on_the_seed_alone(runner, engine_of):
    def drawn(prompts, seeds, **options):
        engine = engine_of(runner, **options)
        requests = [Request(tuple(p), 12, temperature=1.0, seed=s) for p, s in zip(prompts, seeds, strict=True)]
        return [a.tokens for a in engine.generate(requests)]

    together = drawn(PROMPTS, [1, 2, 3, 4, 5])
    alone = [drawn([p], [i + 1], limits=BatchLimits(3, 1))[0] for i, p in enumerate(PROMPTS)]
    assert together == alone != drawn(PROMPTS, [9, 8, 7, 6, 5])


def test_a_snapshot_continues_where_it_was_taken(runner, engine_of):
    requests = [Request(tuple(p), 12, temperature=0.8, seed=i, ignore_eos=True) for i, p in enumerate(PROMPTS)]
    expected = [a.tokens for a in engine_of(runner).generate(requests)]
    engine = engine_of(runner)
    for request in requests:
        engine.add(request)
    for _ in range(5):
        engine.step()
    kept = engine.snapshot()
    assert any(r.generated for r in kept) and [r.prompt for r in kept] == [r.prompt for r in requests]
    assert [a.tokens for a in engine_of(runner).generate(kept)] == expected


def test_each_finish_reason_is_reported(runner, engine_of):
    whole = answers(engine_of(runner), [PROMPTS[0]], ignore_eos=True)[0]
    engine = engine_of(runner)
    (stopped,) = engine.generate([Request(tuple(PROMPTS[0]), 12, stop=frozenset({whole[3]}), ignore_eos=True)])
    assert stopped.tokens == whole[: whole.index(whole[3])] and stopped.finish_reason == FinishReason.STOP
    (cut,) = engine.generate([Request((1,) * 250, 100, ignore_eos=True)])
    assert len(cut.tokens) == 6 and cut.finish_reason == FinishReason.LENGTH
    ids = [engine.add(Request((1, 2, 3), 200, ignore_eos=True)) for _ in range(2)]
    late = engine.add(Request((4, 5), 200, ignore_eos=True, deadline_s=engine._monotonic() + 12))
    engine.step()
    engine.abort(ids[0])
    engine.abort(99)
    found = {}
    while engine.busy:
        found |= {e.id: e.answer for e in engine.step() if e.answer is not None}
    assert [found[i].finish_reason for i in (*ids, late)] == [
        FinishReason.ABORTED,
        FinishReason.LENGTH,
        FinishReason.DEADLINE,
    ]
    assert 0 < len(found[ids[0]].tokens) < len(found[late].tokens) < len(found[ids[1]].tokens) == 200
    assert engine.block_manager.free == engine.block_manager.count


def test_priority_goes_first(runner, engine_of):
    engine = engine_of(runner, limits=BatchLimits(64, 1))
    ids = [engine.add(Request((3, 4), 3, priority=p, ignore_eos=True)) for p in (0, 5, 0, 9)]
    order = []
    while engine.busy:
        order += [e.id for e in engine.step() if e.answer is not None]
    assert order == [ids[3], ids[1], ids[0], ids[2]]


@pytest.mark.parametrize("prompt", [(300,), (-1,), tuple(range(256))])
def test_what_can_never_be_answered_is_refused_at_once(runner, engine_of, prompt):
    with pytest.raises(ValueError, match=r"vocabulary|this model takes"):
        engine_of(runner).add(Request(prompt))


def test_a_pool_too_small_is_named(decoder, runner_of, engine_of):
    with pytest.raises(ValueError, match="KV blocks"):
        engine_of(runner_of("torch", decoder, blocks=2)).add(Request((1,), 64))


@pytest.mark.parametrize("options", [{"prompt": ()}, {"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}])
def test_requests_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError):
        Request(**{"prompt": (1,), **options})


def test_a_draining_engine_takes_nothing_and_finishes(runner, engine_of):
    engine = engine_of(runner)
    engine.add(Request((1, 2), 4, ignore_eos=True))
    engine.drain()
    with pytest.raises(ValueError, match="draining"):
        engine.add(Request((1, 2), 4))
    ends = [e.answer.finish_reason for _ in range(6) for e in engine.step() if e.answer]
    assert ends == [FinishReason.LENGTH] and not engine.busy


def test_energy_is_shared_out_and_idling_is_nobodys(runner, engine_of):
    engine = engine_of(runner, batch_policy=BatchPolicy(intensity_g_per_kwh=360.0))
    engine.energy.settle()
    idle_j = engine.energy.idle_j
    made = engine.generate(Request(tuple(p), 9, ignore_eos=True) for p in ([1] * 40, [2, 3]))
    clock = engine._monotonic.now
    assert sum(a.joules for a in made) == pytest.approx(engine.energy.active_j)
    assert engine.energy.active_j + engine.energy.idle_j == pytest.approx(10.0 * clock, rel=0.1)
    assert made[0].joules > made[1].joules > 0 and idle_j > 0
    assert made[0].grams == pytest.approx(made[0].joules * 360 / 3.6e6) and made[0].method.value == "measured"
    assert engine_of(runner).generate([Request((1,), 1)])[0].grams is None


def test_a_request_is_held_back_until_enough_wait_or_the_wait_is_over(runner, engine_of):
    engine = engine_of(runner, batch_policy=BatchPolicy(min_waiting=3, max_wait_s=50.0))
    engine.add(Request((1, 2), 3, ignore_eos=True))
    assert engine.step() == [] and engine.waits_for_more()
    engine.add(Request((1, 2), 3, ignore_eos=True))
    engine.add(Request((1, 2), 3, ignore_eos=True))
    assert len(engine.step()) == 3, "three wait: they begin together"
    while engine.busy:
        engine.step()
    engine.add(Request((1, 2), 3, ignore_eos=True))
    steps = 1
    while not engine.step():
        steps += 1
    assert 5 < steps < 50, "alone, it begins when it has waited long enough"


def test_a_cap_pauses_between_steps(decoder, runner_of, engine_of):
    slept = []
    engine = engine_of(runner_of("torch", decoder), batch_policy=BatchPolicy(cap_w=5.0), sleep=slept.append)
    engine.generate([Request((1, 2), 8, ignore_eos=True)])
    assert engine.energy.step_w > 5 and slept and all(0 < s <= 1 for s in slept)


def test_embeddings_are_cached_and_alike_for_both_runners(decoder, runner_of, engine_of):
    made = []
    for name in ("cpp", "torch"):
        engine = engine_of(runner_of(name, decoder))
        embedder = Embedder(engine.runner, engine.block_manager, keep=2)
        one = embedder.embed([1, 2, 3])
        assert embedder.embed((1, 2, 3)) is one and (embedder.hits, embedder.misses) == (1, 1)
        assert abs(float((one**2).sum()) - 1) < 1e-5 and engine.block_manager.free == engine.block_manager.count
        embedder.embed([4]), embedder.embed([5])
        embedder.embed([1, 2, 3])
        assert embedder.misses == 4, "the one used longest ago had gone"
        with pytest.raises(ValueError, match="this model takes"):
            embedder.embed([])
        made.append(one)
    assert abs(made[0] - made[1]).max() < 1e-4


@pytest.mark.parametrize("name", ["cpp", "torch"])
def test_a_sliding_window_holds_as_much_memory_at_any_length(name, make_decoder, runner_of, engine_of):
    narrow = make_decoder(sliding_window=32, max_position_embeddings=256)
    engine = engine_of(runner_of(name, narrow, blocks=8), limits=BatchLimits(32, 4))
    engine.add(Request(tuple(range(1, 120)), 120, ignore_eos=True))
    owned, tokens = [], []
    while engine.busy:
        for event in engine.step():
            tokens += [event.token] if event.token is not None else []
        owned.append(engine.block_manager.count - engine.block_manager.free)
    assert max(owned) <= 5 and max(owned[-60:-1]) <= 3, "32 tokens and their surroundings, not 239"
    given = list(range(1, 120))
    for token in tokens[:20]:
        assert narrow(torch.tensor([given]))[0, -1].argmax().item() == token
        given.append(token)
