"""Arithmetic and traffic of every operation, against numbers counted by hand."""

import pytest
import torch
from skips import needs

import windward_kernels as kernels
from windward_kernels import INT4, BlockSparse, Causal, GroupedWeight, Pages, RowWeight
from windward_kernels.cpp import PagePool, SequenceInput, Step, pack, quantise_int8
from windward_kernels.products import FP8


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


def ends(*at):
    return torch.tensor(at, dtype=torch.int32)


Q, K = zeros(1, 4, 3, 8), zeros(1, 2, 5, 8)  # 3 queries over 5 keys, 4 heads over 2
DENSE = 4 * (2 * 96 + 2 * 80)  # bytes: q and out, k and v
ALL = 3 + 4 + 5  # pairs that a causal mask shows
BLOCKS = BlockSparse.of(torch.tensor([[True, False, True], [False, True, True]]), 2)  # keys 0, 1, 4; 2, 3, 4
PAGED = zeros(2, 4, 8), ends(0, 0).reshape(2, 1), ends(5, 2)
POOLS = {kind: Pages.empty(1, 8, 2, 8, kind) for kind in (torch.float32, torch.int8, INT4)}
X = zeros(3, 64)


def decode(kind, **options):
    q, table, lengths = PAGED
    return "paged_decode", (q, POOLS[kind], table, lengths), options


CASES = [
    (("attention", (Q, K, K), {}), 4 * 4 * ALL * 8, DENSE),
    (("attention", (Q, K, K), {"mask": Causal(window=2)}), 4 * 4 * 6 * 8, DENSE),
    (("attention", (Q, K, K), {"mask": Causal(torch.tensor([4]))}), 4 * 4 * 1 * 8, DENSE),
    # 2 queries over 3 keys see 2 and 3; 2 over 1 see 0 and 1
    (
        ("ragged_attention", (zeros(4, 4, 8), *[zeros(4, 2, 8)] * 2, ends(0, 2, 4), ends(0, 3, 4)), {}),
        4 * 4 * 6 * 8,
        4 * (2 * 128 + 2 * 64),
    ),
    # queries stand at keys 2, 3, 4: the first two see 0, 1; the last 2, 3, 4
    (("block_sparse_attention", (Q, K, K, BLOCKS), {}), 4 * 4 * 7 * 8, DENSE),
    (decode(torch.float32), 4 * 7 * 4 * 8, 7 * 2 * 2 * 8 * 4 + 2 * 64 * 4),
    (decode(torch.float32, window=3), 4 * 5 * 4 * 8, 5 * 2 * 2 * 8 * 4 + 2 * 64 * 4),
    (decode(torch.int8), 4 * 7 * 4 * 8, 7 * 2 * 2 * (8 + 2) + 2 * 64 * 4),
    (decode(INT4), 4 * 7 * 4 * 8, 7 * 2 * 2 * (4 + 4) + 2 * 64 * 4),
    (("kv_append", (zeros(3, 2, 8), zeros(3, 2, 8), POOLS[torch.float32], ends(0, 1, 2)), {}), 0, 2 * 2 * 48 * 4),
    (
        ("kv_append", (zeros(3, 2, 8), zeros(3, 2, 8), POOLS[torch.int8], ends(0, 1, 2)), {}),
        8 * 48,
        2 * 48 * 4 + 6 * 2 * (8 + 2),
    ),
    (
        ("kv_append", (zeros(3, 2, 8), zeros(3, 2, 8), POOLS[INT4], ends(0, 1, 2)), {}),
        8 * 48,
        2 * 48 * 4 + 6 * 2 * (4 + 4),
    ),
    (("rms_norm", (X, zeros(64), 1e-5), {}), 4 * 192, 4 * (2 * 192 + 64)),
    (("residual_rms_norm", (X, X, zeros(64), 1e-5), {}), 5 * 192, 4 * (4 * 192 + 64)),
    (("rope", (zeros(1, 2, 3, 8), zeros(3, 4), zeros(3, 4)), {}), 3 * 48, 4 * (2 * 48 + 24)),
    (("swiglu", (X, X), {}), 5 * 192, 4 * 3 * 192),
    (("linear", (X, zeros(10, 64)), {}), 2 * 3 * 640, 4 * (192 + 640 + 30)),
    (
        ("grouped_linear", (X, GroupedWeight.of(zeros(10, 64), zeros(10, 2), zeros(10, 2), 32)), {}),
        2 * 3 * 640,
        4 * (192 + 30) + 320 + 2 * 40,
    ),
    (
        ("grouped_linear", (X, GroupedWeight.of(zeros(10, 64), zeros(10, 1), None, 64)), {}),
        2 * 3 * 640,
        4 * (192 + 30) + 640 + 2 * 10,
    ),
    (("w8a8_linear", (X, RowWeight.of(zeros(10, 64))), {}), 2 * 3 * 640, 4 * (192 + 30) + 640 + 4 * 10),
    (("fp8_linear", (X, RowWeight.of(zeros(10, 64), FP8)), {}), 2 * 3 * 640, 4 * (192 + 30) + 640 + 4 * 10),
    (("sample", (zeros(2, 50), 1.0, []), {}), 4 * 100, 4 * 100),
]


@pytest.mark.parametrize(("call", "flops", "moved"), CASES)
def test_cost(call, flops, moved):
    name, args, options = call
    cost = kernels.REGISTRY[name].cost(*args, **options)
    assert (cost.flops, cost.bytes) == (flops, moved)


def test_every_operation_is_counted():
    compiled = {"packed_linear", "paged_attention"}  # below: their weights and pages are the extension's
    assert {call[0] for call, _, _ in CASES} | compiled == set(kernels.REGISTRY)


@needs("extension")
def test_costs_of_packed_weights_and_pages():
    packed = pack("Q8_0", quantise_int8(zeros(16, 64).numpy()), 16, 64)
    cost = kernels.packed_linear.cost(X, packed)
    assert (cost.flops, cost.bytes) == (2 * 3 * 16 * 64, 4 * (192 + 48) + packed.nbytes)
    pool = PagePool("int8", layers=2, blocks=4, kv_heads=2, head_dim=16)
    step = Step.of(
        [SequenceInput([0] * 2, 3, [0]), SequenceInput([0], 0, [1])]
    )  # two tokens that see 4 and 5 keys, one that sees 1
    cost = kernels.paged_attention.cost(zeros(3, 4, 16), pool, 0, step)
    assert cost.flops == 4 * (4 + 5 + 1) * 4 * 16
    assert cost.bytes == (5 + 1) * 2 * 2 * (16 + 2) + 2 * 3 * 4 * 16 * 4
