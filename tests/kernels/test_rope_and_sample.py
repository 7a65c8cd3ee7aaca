"""Rotary positions and token choice: properties that any implementation must have."""

import math

import pytest
import torch

from windward_kernels import rope, rope_table, sample


def test_rope_turns_each_pair_by_its_own_angle():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    cos, sin = rope_table(torch.tensor([5]), 4, 100.0)
    a, b = 5.0, 5.0 / 10.0
    expected = [
        1 * math.cos(a) - 3 * math.sin(a),
        2 * math.cos(b) - 4 * math.sin(b),
        3 * math.cos(a) + 1 * math.sin(a),
        4 * math.cos(b) + 2 * math.sin(b),
    ]
    torch.testing.assert_close(rope(x, cos, sin).flatten(), torch.tensor(expected))


def test_scores_depend_on_distance_alone():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i, j):
        return (rope(q, *rope_table(torch.tensor([i]), 8, 1e4)) * rope(k, *rope_table(torch.tensor([j]), 8, 1e4))).sum()

    torch.testing.assert_close(score(7, 3), score(104, 100), rtol=1e-3, atol=1e-4)
    assert abs(score(7, 3) - score(7, 6)) > 1e-4


def test_positions_may_differ_by_row():
    x = torch.randn(2, 3, 4, 8)
    places = torch.tensor([[0, 1, 2, 3], [5, 6, 7, 8]])
    both = rope(x, *rope_table(places, 8, 1e4))
    for row in range(2):
        torch.testing.assert_close(both[row : row + 1], rope(x[row : row + 1], *rope_table(places[row], 8, 1e4)))


def generators(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def test_temperature_zero_takes_the_likeliest():
    assert sample(torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]]), 0.0, []).tolist() == [1, 0]


def test_a_row_draws_the_same_alone_and_in_company():
    logits = torch.randn(3, 50)
    together = sample(logits, 1.0, generators(1, 2, 3)).tolist()
    assert together == [sample(logits[i : i + 1], 1.0, generators(i + 1)).item() for i in range(3)]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature):
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5]])
    generator = torch.Generator().manual_seed(0)
    rows = 4000
    drawn = sample(logits.expand(rows, 4), temperature, [generator] * rows)
    share = torch.bincount(drawn, minlength=4) / rows
    torch.testing.assert_close(share, (logits[0] / temperature).softmax(-1), rtol=0, atol=0.03)


def test_generators_must_match_rows():
    with pytest.raises(ValueError, match="2 rows"):
        sample(torch.zeros(2, 4), 1.0, generators(1))
