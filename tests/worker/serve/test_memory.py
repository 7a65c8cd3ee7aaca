"""What the server keeps in memory, and what a long text may hold up."""

import asyncio
import itertools
import re

import pytest
from worker.serve.process import save_small

from windward_worker.control import Refused
from windward_worker.inference import Engine, Request
from windward_worker.inference.embed import Embedder
from windward_worker.inference.scheduler import BatchLimits
from windward_worker.serve.host import EngineHost
from windward_worker.serve.run import open_model_for
from windward_worker.serve.settings import Settings

KINDS = ["float32", "float16", "int8", "int4"]


def held(opened):
    """Bytes of keys and values, scales included."""
    pool = opened.runner._pool
    scales = (pool.key_scales, pool.value_scales) if pool.kind in ("int8", "int4") else ()
    return sum(array.nbytes for array in (pool.keys, pool.values, *scales))


@pytest.mark.parametrize("kv", KINDS)
@pytest.mark.parametrize("mib", [2, 3, 7])
def test_keys_and_values_stay_below_their_limit(small, kv, mib):
    opened = open_model_for(Settings(str(small), kv=kv, kv_mib=mib, context=1000, sequences=1000))
    assert 0.98 * mib * 2**20 < held(opened) <= mib * 2**20


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Twelve layers: an answer takes megabytes in any form."""
    return save_small(tmp_path_factory.mktemp("model") / "deep", layers=12)


@pytest.mark.parametrize("kv", KINDS)
def test_too_little_memory_is_refused_with_the_least_that_works(deep, kv):
    """It used to be exceeded in silence, up to one answer at its longest."""
    settings = {"model": str(deep), "kv": kv, "sequences": 1000, "context": 4096}
    with pytest.raises(Refused, match=r"--kv-mib 1 .*4096 tokens.* MiB in") as refused:
        open_model_for(Settings(**settings, kv_mib=1))
    least = int(re.search(r"(\d+) MiB in", str(refused.value)).group(1))
    opened = open_model_for(Settings(**settings, kv_mib=least))
    assert opened.runner.blocks * 16 >= 4096 and held(opened) <= least * 2**20
    with pytest.raises(Refused, match=f"{least} MiB"):
        open_model_for(Settings(**settings, kv_mib=least - 1))


def test_a_context_that_nobody_asked_for_is_cut_to_what_memory_holds(deep, caplog):
    """Otherwise a model of a long context would not start with the defaults."""
    opened = open_model_for(Settings(str(deep), kv="float32", kv_mib=2, sequences=1000))
    assert 256 <= opened.runner.config.max_position_embeddings < 4096 and held(opened) <= 2 * 2**20
    assert "the context is cut to that" in caplog.text


class Recorded:
    """A runner that keeps the order of its calls."""

    def __init__(self, runner):
        self._runner = runner
        self.config, self.blocks = runner.config, runner.blocks
        self.calls = []

    def step(self, rows):
        self.calls.append(("step", sum(len(r.tokens) for r in rows)))
        return self._runner.step(rows)

    def hidden_states(self, rows):
        self.calls.append(("hidden", sum(len(r.tokens) for r in rows)))
        return self._runner.hidden_states(rows)


def runner(small, blocks=400):
    from windward_worker.inference import open_runner

    return Recorded(open_runner(small, blocks=blocks, kv="float32", context=2048).runner)


def test_a_text_in_chunks_has_the_vector_of_the_whole(small):
    made = []
    for chunk in (7, 64, 4096):
        recorded = runner(small)
        engine = Engine(recorded)
        embedder = Embedder(recorded, engine.block_manager, chunk=chunk)
        made.append(embedder.embed([1 + i % 290 for i in range(200)]))
        assert max(count for _, count in recorded.calls) <= chunk
        assert engine.block_manager.free == engine.block_manager.count
        engine.close()
    assert abs(made[0] - made[2]).max() < 1e-5 and abs(made[1] - made[2]).max() < 1e-5


def test_a_text_that_nobody_waits_for_gives_its_memory_back(small):
    recorded = runner(small)
    engine = Engine(recorded)
    steps = Embedder(recorded, engine.block_manager, chunk=8).steps(list(range(1, 100)))
    next(steps)
    assert engine.block_manager.free < engine.block_manager.count
    steps.close()
    assert engine.block_manager.free == engine.block_manager.count
    engine.close()


def test_streams_go_on_while_a_long_text_is_embedded(small):
    """Between two chunks of the text the engine steps; it used to stand still for the whole of it."""

    class Metrics:
        def token(self, *_): ...
        def answer(self, *_, **__): ...

    async def both():
        recorded = runner(small)
        engine = Engine(recorded, limits=BatchLimits(16, 8))
        host = EngineHost(engine, Metrics())
        host.start()
        handle = host.submit(Request((1, 2, 3), 500, ignore_eos=True))
        await handle.read()
        vector, joules = await host.embed([1 + i % 290 for i in range(480)])
        host.cancel(handle)
        await host.stop()
        engine.close()
        assert vector.shape == (64,) and joules >= 0
        return [kind for kind, _ in recorded.calls]

    calls = asyncio.run(both())
    chunks = [i for i, kind in enumerate(calls) if kind == "hidden"]
    assert len(chunks) == 30 and all(b - a > 1 for a, b in itertools.pairwise(chunks)), calls
