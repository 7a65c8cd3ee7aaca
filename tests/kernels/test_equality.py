"""Every fast path computes what its reference defines, within the op's own tolerance."""

import pytest
import torch

import windward_kernels as kernels
from windward_kernels import Causal


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def attention_case(batch, q_heads, kv_heads, queries, keys, size, first_key=None, window=None):
    def make(dtype):
        q = draw(batch, q_heads, queries, size, dtype=dtype, seed=1)
        k = draw(batch, kv_heads, keys, size, dtype=dtype, seed=2)
        v = draw(batch, kv_heads, keys, size, dtype=dtype, seed=3)
        mask = Causal(torch.tensor(first_key) if first_key is not None else None, window)
        return (q, k, v), {"mask": mask}

    return make


CASES = {
    "attention": {
        "square": attention_case(2, 4, 4, 16, 16, 32),
        "grouped": attention_case(2, 6, 2, 17, 17, 8),
        "one query over a past": attention_case(1, 9, 3, 1, 37, 64),
        "some queries over a past": attention_case(2, 4, 1, 5, 23, 16),
        "a narrow window": attention_case(1, 4, 2, 150, 150, 8, window=20),
        "a narrow window over a past": attention_case(2, 3, 1, 131, 200, 8, window=64),
        "padding": attention_case(3, 4, 2, 7, 7, 8, [0, 3, 6]),
        "padding over a past": attention_case(2, 3, 1, 1, 13, 8, [12, 0]),
        "a row without keys": attention_case(2, 2, 1, 4, 4, 8, [2, 4]),
        "one token": attention_case(1, 1, 1, 1, 1, 2),
    },
    "rms_norm": {
        name: (lambda dtype, s=shape: ((draw(*s, dtype=dtype), draw(s[-1], dtype=dtype, seed=4), 1e-5), {}))
        for name, shape in {"plain": (2, 5, 64), "odd": (3, 1, 7), "one": (1, 1)}.items()
    },
    "swiglu": {
        name: (lambda dtype, s=shape: ((draw(*s, dtype=dtype) * 4, draw(*s, dtype=dtype, seed=5)), {}))
        for name, shape in {"plain": (2, 5, 64), "odd": (3, 11)}.items()
    },
    "linear": {
        name: (lambda dtype, s=shape: ((draw(*s[0], dtype=dtype), draw(*s[1], dtype=dtype, seed=6)), {}))
        for name, shape in {"plain": ((2, 5, 64), (32, 64)), "one row": ((1, 1, 33), (7, 33))}.items()
    },
}
TABLE = [
    pytest.param(op, path, make, dtype, id=f"{name}-{path.name}-{case}-{str(dtype).removeprefix('torch.')}")
    for name, op in kernels.REGISTRY.items()
    for path in op.fast_paths
    for case, make in CASES.get(name, {}).items()
    for dtype in op.tolerance
    if dtype is not torch.float16  # emulated on most processors
]


@pytest.mark.parametrize(("op", "path", "make", "dtype"), TABLE)
def test_fast_path_equals_reference(op, path, make, dtype):
    args, options = make(dtype)
    expected = op.reference(*args, **options)
    got = path.run(*args, **options)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    error = (got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-30)
    assert error <= op.tolerance[dtype]


def test_attention_by_hand():
    """Softmax of dot products, written out with loops, against the reference."""
    q, k, v = draw(1, 2, 3, 4), draw(1, 1, 5, 4, seed=2), draw(1, 1, 5, 4, seed=3)
    got = kernels.attention.reference(q, k, v)
    for head in range(2):
        for i in range(3):
            scores = [float(q[0, head, i] @ k[0, 0, j]) / 2 for j in range(5) if j <= i + 2]
            weight = torch.tensor(scores).softmax(0)
            by_hand = sum(weight[j] * v[0, 0, j] for j in range(len(scores)))
            torch.testing.assert_close(got[0, head, i], by_hand)


def test_the_future_has_no_influence():
    q, k, v = draw(1, 2, 6, 8), draw(1, 2, 6, 8, seed=2), draw(1, 2, 6, 8, seed=3)
    before = kernels.attention(q, k, v)
    k[:, :, 4:], v[:, :, 4:] = 9.0, 9.0
    after = kernels.attention(q, k, v)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 4:], after[:, :, 4:])


@pytest.mark.parametrize("path", ["reference", *(p.name for p in kernels.attention.fast_paths)])
def test_a_query_without_keys_yields_zero(path):
    run = {p.name: p.run for p in kernels.attention.fast_paths}.get(path, kernels.attention.reference)
    x = draw(2, 2, 4, 8)
    out = run(x, x, x, mask=Causal(torch.tensor([2, 0])))
    assert torch.equal(out[0, :, :2], torch.zeros(2, 2, 8))
    assert out[0, :, 2:].abs().min() > 0 and out[1].isfinite().all()


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        ((1, 3, 2, 4), (1, 2, 2, 4), (1, 2, 2, 4)),  # heads do not divide
        ((1, 2, 3, 4), (1, 2, 2, 4), (1, 2, 2, 4)),  # more queries than keys
        ((1, 2, 2, 4), (1, 2, 2, 4), (1, 2, 3, 4)),  # keys without values
        ((1, 2, 2, 4), (1, 2, 2, 6), (1, 2, 2, 6)),  # sizes differ
    ],
)
def test_shapes_that_do_not_fit_are_named(q, k, v):
    for run in (kernels.attention.reference, *(p.run for p in kernels.attention.fast_paths)):
        with pytest.raises(ValueError, match="do not fit"):
            run(torch.zeros(q), torch.zeros(k), torch.zeros(v))


def test_gradients_of_fast_path_equal_those_of_the_reference():
    made = []
    for run in (kernels.attention.reference, kernels.attention.fast_paths[0].run):
        q, k, v = (draw(2, h, 9, 8, seed=h).requires_grad_() for h in (4, 2, 1))
        v = v.expand(2, 2, 9, 8)
        run(q, k, v).square().sum().backward()
        made.append((q.grad, k.grad))
    for a, b in zip(*made, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
