"""The parts of training: rate, optimiser, order of the data, text."""

import math

import numpy as np
import pytest
import torch

from windward_api.workload import TrainData
from windward_worker.control import PauseRequested, Refused
from windward_worker.model import token_bytes
from windward_worker.train import Windows, learning_rate, open_corpus
from windward_worker.train.optimiser import AdamW


@pytest.mark.parametrize(
    ("step", "steps", "expected"),
    [
        (0, 1000, 0.01),
        (99, 1000, 1.0),
        (100, 1000, 1.0),
        (550, 1000, 0.55),
        (1000, 1000, 0.1),
        (0, 1, 1.0),
        (0, 10, 1.0),
    ],
)
def test_the_learning_rate_warms_up_and_decays(step, steps, expected):
    assert learning_rate(step, steps, 1.0) == pytest.approx(expected)


def test_adamw_agrees_with_torchs():
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(4)]
    ours = [w.clone().requires_grad_() for w in start]
    theirs = [w.clone().requires_grad_() for w in start]
    mine = AdamW(ours)
    groups = [{"params": [theirs[0]], "weight_decay": 0.1}, {"params": [theirs[1]], "weight_decay": 0.0}]
    oracle = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    for number in range(1, 30):
        scale = 10.0 if number % 2 else 0.01  # clipped, and not
        for weights in (ours, theirs):
            loss = sum((w.sin() * scale).sum() for w in weights)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        for group in oracle.param_groups:
            group["lr"] = 0.01 / number
        oracle.step()
        oracle.zero_grad()
        mine.step(number, 0.01 / number)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_every_window_is_seen_once_an_epoch():
    tokens = np.arange(101, dtype=np.uint16)
    windows = Windows(tokens, 10, seed=1)
    epochs = [windows.batch(first, 10) for first in (0, 10)]
    for epoch in epochs:
        assert sorted(epoch[:, 0]) == list(range(0, 100, 10))
        assert (epoch[:, 1:] - epoch[:, :-1] == 1).all() and epoch.shape == (10, 11)
    assert not np.array_equal(*epochs)


def test_order_is_a_function_of_seed_and_place():
    tokens = np.arange(500, dtype=np.uint16)
    fresh = Windows(tokens, 7, seed=3).batch(65, 12)  # across an epoch's end
    walked = Windows(tokens, 7, seed=3)
    for first in range(0, 60, 5):
        walked.batch(first, 5)
    assert np.array_equal(walked.batch(65, 12), fresh)
    assert not np.array_equal(Windows(tokens, 7, seed=4).batch(65, 12), fresh)


def test_text_becomes_tokens_and_back(world):
    corpus = open_corpus(TrainData(path="text"), 300, 16, world.env)
    tokens = np.concatenate([corpus.train, corpus.held_out])
    text = (world.storage / "text" / "rules.py").read_text()
    assert corpus.tokenizer.decode(tokens.tolist()) == text
    assert sum(token_bytes(corpus.tokenizer)[t] for t in tokens) == len(text.encode())
    assert len(corpus.held_out) >= 17


def test_the_cache_is_named_by_the_content(world):
    first = open_corpus(TrainData(path="text"), 300, 16, world.env)
    (cache,) = (world.storage / "cache" / "text").iterdir()
    stamp = (cache / "tokens.bin").stat().st_mtime_ns
    again = open_corpus(TrainData(path="text"), 300, 16, world.env)
    assert (cache / "tokens.bin").stat().st_mtime_ns == stamp and again.digest == first.digest
    (world.storage / "text" / "more.py").write_text("x = 1\n")
    assert open_corpus(TrainData(path="text"), 300, 16, world.env).digest != first.digest
    assert len(list((world.storage / "cache" / "text").iterdir())) == 2


def test_a_pause_while_preparing_leaves_no_half_cache(world):
    def check():
        raise PauseRequested

    with pytest.raises(PauseRequested):
        open_corpus(TrainData(path="text"), 300, 16, world.env, check)
    assert not list(world.storage.glob("cache/text/*/tokens.bin"))


def test_bytes_that_are_no_text_do_no_harm(world):
    (world.storage / "text" / "odd.bin").write_bytes(bytes(range(256)) * 4)
    corpus = open_corpus(TrainData(path="text"), 300, 16, world.env)
    assert math.isfinite(float(corpus.train.max()))


LINKS = [("a file", "secret.txt"), ("a folder", "")]


@pytest.mark.parametrize("target", [x[1] for x in LINKS], ids=[x[0] for x in LINKS])
def test_a_link_out_of_the_data_set_is_refused(world, target):
    """What lies outside would be learnt, and written into a model that others read."""
    (world.root / "private").mkdir()
    (world.root / "private" / "secret.txt").write_text("nobody is to learn this\n" * 200)
    folder = world.storage / "text"
    folder.mkdir(exist_ok=True)
    (folder / "own.txt").write_text("a text of our own\n" * 200)
    (folder / "inner.txt").symlink_to("own.txt")
    open_corpus(TrainData(path="text"), 300, 16, world.env)  # a link inside is as good as a file
    (folder / "zz").symlink_to(world.root / "private" / target)
    if target:
        with pytest.raises(Refused, match="is a link out of that folder; copy the file into it"):
            open_corpus(TrainData(path="text"), 300, 16, world.env)
    else:  # folders behind links are not walked at all
        corpus = open_corpus(TrainData(path="text"), 300, 16, world.env)
        assert "nobody" not in corpus.tokenizer.decode(corpus.train[:].tolist())
