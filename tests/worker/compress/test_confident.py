"""Keys read with four bits where attention is sure: the definition, the counting, and that confidence is no lottery."""

import pytest
import torch

from windward_kernels import Pages, kv_append
from windward_worker.cli import main
from windward_worker.compress.confident import (
    NEVER,
    ConfidentRunner,
    confident,
    drawn,
    measure_confidence,
    table,
    upper,
)
from windward_worker.compress.paged import PagedRunner
from windward_worker.inference import SequenceInput, TorchRunner


def test_the_upper_bits_are_the_middle_of_sixteen_codes():
    codes = torch.arange(-128, 128).to(torch.int8)
    assert (upper(codes) - codes.float()).abs().max() == 7.5 and len(upper(codes).unique()) == 16


def runners(decoder, *choices):
    return [ConfidentRunner(decoder, blocks=8, choice=c) for c in choices]


def test_never_sure_is_the_int8_cache_and_always_sure_reads_half_of_each_key(trained, decoder):
    never, always = runners(decoder, confident(NEVER), confident(0.0))
    rows = [
        SequenceInput(trained.ids[:30], 0, [2, 5], outputs=30),
        SequenceInput(trained.ids[40:50], 0, [1], outputs=10),
    ]
    exact = TorchRunner(decoder, blocks=8).step(rows)
    found = [abs(r.step(rows) - exact).max() for r in (never, always)]
    assert 0 < 5 * found[0] < found[1]
    heads = decoder.config.num_key_value_heads * decoder.config.num_hidden_layers
    assert never.read == always.read == always.sure == heads * (30 * 31 // 2 + 10 * 11 // 2) and never.sure == 0


def test_pieces_of_a_prompt_say_the_same_as_the_whole(trained, decoder):
    whole, pieces = runners(decoder, *[confident(0.3)] * 2)
    (last,) = whole.step([SequenceInput(trained.ids[:20], 0, [3, 0])])
    for begin, end in ((0, 7), (7, 19), (19, 20)):
        (step,) = pieces.step([SequenceInput(trained.ids[begin:end], begin, [3, 0])])
    torch.testing.assert_close(torch.tensor(step), torch.tensor(last), rtol=1e-4, atol=1e-4)
    assert 0 < whole.sure == pieces.sure < whole.read == pieces.read


def test_a_group_is_sure_where_its_least_sure_head_is(decoder):
    """Two query heads, one key head: one sees a clear winner, the other none."""
    (runner,) = runners(decoder, confident(0.9))
    pages = runner._pages[0]
    size = decoder.config.head_dim
    pages.keys.flatten(0, 1)[0, 0, 0] = 127
    pages.keys.flatten(0, 1)[1, 0, 0] = -127
    pages.key_scales.fill_(1.0)
    query = torch.zeros(2, 1, size)
    for second, sure in ((0.0, 0.0), (1.0, 2.0)):
        query[0, 0, 0], query[1, 0, 0] = 1.0, second
        runner.sure = 0.0
        one = type(pages)(pages.keys[:, :, :1], pages.values[:, :, :1], pages.key_scales[:, :, :1],
                          pages.value_scales[:, :, :1])  # fmt: skip
        runner._one(query, one, torch.tensor([0]), 2)
        assert runner.sure == sure


def test_the_sure_lose_less_than_as_many_drawn_by_lot(decoder):
    """Queries of all temperatures over the same keys: the outputs' error against eight bits throughout."""
    heads, size, count = decoder.config.num_key_value_heads, decoder.config.head_dim, 48
    group = decoder.config.num_attention_heads // heads
    dice = torch.Generator().manual_seed(0)
    k, v = torch.randn(2, count, heads, size, generator=dice)
    pages = kv_append(k, v, Pages.empty(3, 16, heads, size, torch.int8), torch.arange(count))
    loud = torch.logspace(-1, 1.6, count)[torch.randperm(count, generator=dice)]  # flat to sharp
    q = torch.randn(heads, 1, count, size, generator=dice).expand(-1, group, -1, -1).flatten(0, 1) * loud[:, None]

    def attended(choice):
        (runner,) = runners(decoder, choice)
        return runner._one(q, pages, torch.arange(3), count), runner.sure / runner.read

    exact, _ = attended(confident(NEVER))
    made, share = attended(confident(0.9))
    error = float((made - exact).square().mean())
    lots = [float((attended(drawn(share, seed))[0] - exact).square().mean()) for seed in range(20)]
    print(f"share {share:.2f}: chosen {error:.2e}, by lot {sum(lots) / 20:.2e}")
    assert 0.2 < share < 0.8 and 1.5 * error < sum(lots) / 20


def test_confidence_runs_as_a_command(trained, capsys):
    argv = ["pareto", "--model", str(trained.folder), "--calibration", str(trained.text), "--tokens", "1000"]
    assert main([*argv, "--confidence", "never,0.3,0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["never", "0.3", "0"]
    assert [line.split()[2] for line in (lines[1], lines[3])] == ["8.00", "4.00"]
    assert main([*argv, "--confidence", "0.3,sure"]) == 2
    assert "--confidence" in capsys.readouterr().err
    (never,) = measure_confidence_of(trained, [NEVER])
    assert never.share == 0 and never.drawn == never.perplexity and "never" in table([never])


def measure_confidence_of(trained, thresholds):
    from windward_worker.model import load_path

    return measure_confidence(load_path(trained.folder).decoder, trained.ids[:60], thresholds)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_lot_draws_the_share(share):
    assert drawn(share)(torch.zeros(100, 100)).float().mean() == pytest.approx(share, abs=0.02)


def test_a_cache_of_fewer_bits_takes_less_and_errs_more(trained, decoder):
    rows = [SequenceInput(trained.ids[:30], 0, [2, 5], outputs=30)]
    exact = TorchRunner(decoder, blocks=8)
    wanted = exact.step(rows)
    eight, four = (PagedRunner(decoder, blocks=8, kind=kind) for kind in ("int8", "int4"))
    errors = [abs(runner.step(rows) - wanted).max() for runner in (eight, four)]
    assert 0 < 4 * errors[0] < errors[1]
    size, heads = decoder.config.head_dim, 2 * decoder.config.num_hidden_layers * decoder.config.num_key_value_heads
    assert (eight.kv_bytes_per_token, four.kv_bytes_per_token) == (heads * (size + 2), heads * (size / 2 + 4))
    assert exact.kv_bytes_per_token == heads * size * 4
