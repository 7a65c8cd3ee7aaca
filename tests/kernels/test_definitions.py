"""The definitions of ragged, sparse, paged and grouped operations, held to simpler ones."""

import pytest
import torch

import windward_kernels as kernels
from windward_kernels import BlockSparse, Causal, GroupedWeight, Pages


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attend(q, k, v, **mask):
    """One sequence (T, H, D) through the plain definition."""
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    return kernels.attention.reference(q, k, v, mask=Causal(**mask))[0].transpose(0, 1)


@pytest.mark.parametrize("window", [None, 3])
def test_ragged_sequences_see_only_themselves(window):
    q, k, v = draw(9, 4, 8), draw(12, 2, 8, seed=1), draw(12, 2, 8, seed=2)
    begin_q, begin_k = torch.tensor([0, 4, 4, 9]), torch.tensor([0, 6, 6, 12])
    got = kernels.ragged_attention(q, k, v, begin_q, begin_k, window=window)
    torch.testing.assert_close(got[:4], attend(q[:4], k[:6], v[:6], window=window))
    torch.testing.assert_close(got[4:], attend(q[4:], k[6:], v[6:], window=window))


def test_more_queries_than_keys_leave_the_first_ones_with_nothing():
    q, k, v = draw(5, 1, 4), draw(2, 1, 4, seed=1), draw(2, 1, 4, seed=2)
    got = kernels.ragged_attention(q, k, v, torch.tensor([0, 5]), torch.tensor([0, 2]))
    assert torch.equal(got[:3], torch.zeros(3, 1, 4, dtype=torch.float64))
    torch.testing.assert_close(got[3:], attend(q[3:], k, v))


def test_a_full_block_mask_is_plain_causal():
    q, k, v = draw(2, 4, 21, 8), draw(2, 2, 30, 8, seed=1), draw(2, 2, 30, 8, seed=2)
    mask = BlockSparse.of(torch.ones(3, 4, dtype=torch.bool), 8)
    torch.testing.assert_close(kernels.block_sparse_attention(q, k, v, mask), kernels.attention.reference(q, k, v))
    with pytest.raises(ValueError, match=r"21 queries in blocks of 16 need 2 rows of the mask, got 3"):
        kernels.block_sparse_attention(q, k, v, BlockSparse(mask.begin, mask.blocks, 16))
    with pytest.raises(ValueError, match="past the keys"):
        kernels.block_sparse_attention(q, k[:, :, :21], v[:, :, :21], mask)


def test_sliding_with_global_blocks():
    seen = BlockSparse.sliding_with_global(12, 12, size=2, around=1, first=1).visible(12, 12)
    for i in range(12):
        expected = [j for j in range(i + 1) if j < 2 or j // 2 >= i // 2 - 1]
        assert seen[i].nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize("window", [None, 5])
def test_decoding_over_pages_is_attention_over_the_keys_in_them(window):
    lengths = [11, 0, 3]
    pages = Pages.empty(9, 4, 2, 8, torch.float64)
    table = torch.tensor([[7, 2, 5], [0, 0, 0], [1, 0, 0]])
    kept = []
    for s, length in enumerate(lengths):
        k, v = draw(length, 2, 8, seed=s), draw(length, 2, 8, seed=9 + s)
        slots = torch.tensor([int(table[s, p // 4]) * 4 + p % 4 for p in range(length)], dtype=torch.int64)
        kernels.kv_append(k, v, pages, slots)
        kept.append((k, v))
    q = draw(3, 4, 8, seed=5)
    got = kernels.paged_decode(q, pages, table, torch.tensor(lengths), window=window)
    for s in (0, 2):
        torch.testing.assert_close(got[s], attend(q[s : s + 1], *kept[s], window=window)[0])
    assert not got[1].any()


def test_int8_pages_round_to_half_a_step():
    k, v = draw(6, 2, 8).float(), draw(6, 2, 8, seed=1).float()
    k[3, 1] = 0
    pages = kernels.kv_append(k, v, Pages.empty(2, 4, 2, 8, torch.int8), torch.tensor([0, 1, 2, 3, 4, -1]))
    for got, given in zip(pages.dense(torch.tensor([0, 1]), 5), (k, v), strict=True):
        step = given[:5].abs().amax(-1, keepdim=True) / 127
        assert ((got - given[:5]).abs() <= 0.51 * step + 1e-6).all()
    assert not pages.keys[1, 1:].any(), "a negative slot is left out"


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (8, 32), (8, 96)])
def test_grouped_weights_keep_their_codes(bits, group):
    cols = group * 2
    codes = torch.randint(0, 16, (7, cols)) if bits == 4 else torch.randint(-127, 128, (7, cols))
    scale = torch.rand(7, 2).half()
    low = torch.rand(7, 2).half() if bits == 4 else None
    weight = GroupedWeight.of(codes, scale, low, group)
    assert weight.bits == bits and weight.shape == (7, cols)
    expected = codes.reshape(7, 2, group) * scale.float()[..., None] + (0 if low is None else low.float()[..., None])
    torch.testing.assert_close(weight.dense(), expected.reshape(7, cols))
    x = draw(3, cols)
    torch.testing.assert_close(kernels.grouped_linear(x, weight), x @ weight.dense().double().T)
    assert weight.nbytes == 7 * cols * bits // 8 + 7 * 2 * (2 if bits == 8 else 4)


def test_groups_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"7 x 64 .* groups of 48"):
        GroupedWeight.of(torch.zeros(7, 64), torch.zeros(7, 2), None, 48)


def test_residual_norm_is_sum_and_norm():
    x, residual, weight = draw(3, 8), draw(3, 8, seed=1), draw(8, seed=2)
    total, normed = kernels.residual_rms_norm(x, residual, weight, 1e-5)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(normed, kernels.rms_norm.reference(x + residual, weight, 1e-5))
