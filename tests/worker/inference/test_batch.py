"""A batch answers as its prompts would alone."""

import pytest
import torch

from windward_worker.inference import Batch
from windward_worker.model import Decoder, ModelConfig

PROMPTS = [[5, 9, 200], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9], [100, 50], [42, 42, 42, 42]]


@pytest.fixture(scope="module")
def decoder():
    torch.set_num_threads(1)
    made = Decoder(ModelConfig(300, 64, 2, 4, 2, 16, 96, 32, tied=False, eos=0, bos=0))
    made.initialise(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.dim() > 1:
                weight.mul_(20 if "lm_head" in name else 6)
    return made.requires_grad_(False)


def run(decoder, prompts, **options):
    batch = Batch(decoder, prompts, **{"max_tokens": 12, **options})
    while not batch.done:
        batch.step()
    return [a.tokens for a in batch.answers]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2], [1, 3], [0, 0, 0]])
def test_greedy_in_a_batch_equals_one_by_one(decoder, order):
    alone = [run(decoder, [PROMPTS[i]])[0] for i in order]
    assert run(decoder, [PROMPTS[i] for i in order]) == alone
    assert any(len(set(tokens)) > 2 for tokens in alone), "a model that repeats itself would agree with anything"


def test_greedy_equals_the_argmax_without_a_cache(decoder):
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(6):
            tokens.append(decoder(torch.tensor([tokens]))[0, -1].argmax().item())
        assert run(decoder, [prompt], max_tokens=6) == [tokens[len(prompt) :]]


def test_sampling_depends_on_the_seed_alone(decoder):
    together = run(decoder, PROMPTS, temperature=1.0, seeds=[1, 2, 3, 4, 5])
    alone = [run(decoder, [p], temperature=1.0, seeds=[i + 1])[0] for i, p in enumerate(PROMPTS)]
    assert together == alone
    assert together != run(decoder, PROMPTS, temperature=1.0, seeds=[9, 8, 7, 6, 5])


def test_answers_stop_at_the_limit_and_at_the_context(decoder):
    long = list(range(1, 31))
    assert [len(t) for t in run(decoder, [PROMPTS[0], long], max_tokens=5)] == [5, 2]


def test_the_end_token_ends_a_row_and_only_that_row(decoder):
    whole = run(decoder, PROMPTS)
    stop = whole[0][3]
    ended = Decoder(ModelConfig(300, 64, 2, 4, 2, 16, 96, 32, tied=False, eos=stop))
    ended.load_state_dict(decoder.state_dict())
    for before, after in zip(whole, run(ended.requires_grad_(False), PROMPTS), strict=True):
        assert after == (before[: before.index(stop)] if stop in before else before)
