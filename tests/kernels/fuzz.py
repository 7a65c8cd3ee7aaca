"""Triton's kernels in its interpreter against their definitions in float64, on random shapes: run by test_triton.py.

`TRITON_INTERPRET=1 python triton_fuzz.py SHAPES` prints a JSON line for each operation. Shapes are tiny (a program
takes the interpreter 20 ms) but odd: one token, no token, sequences without keys, queries that see nothing.
"""

import json
import sys
import time

import numpy as np
import torch

import windward_kernels as kernels
from windward_kernels import BlockSparse, Causal, GroupedWeight, Pages
from windward_kernels.triton import decode

decode.SPLIT_KEYS = 32  # so that short sequences are split too


class Dice:
    """Random sizes and tensors of one case."""

    def __init__(self, seed, dtype):
        self._dice = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def size(self, low, high):
        return int(self._dice.integers(low, high + 1))

    def of(self, *choices):
        return choices[self.size(0, len(choices) - 1)]

    def draw(self, *shape):
        return torch.randn(shape, generator=self._generator).to(self.dtype)

    def sliced(self, *shape):
        """A tensor whose rows do not lie side by side, half of the time."""
        if self.size(0, 1):
            return self.draw(*shape)
        return self.draw(*shape[:-2], shape[-2] * 2, shape[-1])[..., ::2, :]

    def heads(self):
        return self.of((1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (3, 1), (2, 2))


def attention(d):
    (heads, kv_heads), batch, size = d.heads(), d.of(1, 1, 1, 2), d.size(1, 40)
    queries = d.size(0, 30)
    keys = queries + d.of(0, d.size(0, 40))
    first = torch.tensor([d.size(0, max(0, keys)) for _ in range(batch)]) if d.size(0, 2) == 0 else None
    mask = Causal(first, d.of(None, d.size(1, 50)))
    shapes = ((batch, heads, queries, size), (batch, kv_heads, keys, size), (batch, kv_heads, keys, size))
    return tuple(d.sliced(*s) for s in shapes), {"mask": mask, "scale": d.of(None, 0.3)}


def ragged_attention(d):
    (heads, kv_heads), size, count = d.heads(), d.size(1, 24), d.of(1, 1, 2, 2, 3)
    queries = [d.of(0, d.size(1, 18)) for _ in range(count)]
    keys = [d.of(0, n, d.size(0, 30)) for n in queries]
    ends = [torch.tensor([0, *np.cumsum(n).tolist()], dtype=torch.int32) for n in (queries, keys)]
    shapes = ((sum(queries), heads, size), (sum(keys), kv_heads, size), (sum(keys), kv_heads, size))
    return (*(d.draw(*s) for s in shapes), *ends), {"window": d.of(None, d.size(1, 30))}


def block_sparse_attention(d):
    (heads, kv_heads), batch, size = d.heads(), d.of(1, 1, 1, 1, 2), d.size(1, 32)
    block, queries = d.of(9, 16, 17), d.size(1, 18)
    keys = queries + d.of(0, d.size(0, 20))
    if d.size(0, 1):
        mask = BlockSparse.sliding_with_global(queries, keys, size=block, around=d.size(0, 1), first=d.size(0, 1))
    else:
        mask = BlockSparse.of(torch.rand(-(-queries // block), -(-keys // block)) < 0.6, block)  # rows may be empty
    shapes = ((batch, heads, queries, size), (batch, kv_heads, keys, size), (batch, kv_heads, keys, size))
    return (*(d.sliced(*s) for s in shapes), mask), {"scale": d.of(None, 0.5)}


def paged_decode(d):
    (heads, kv_heads), size, count, page = d.heads(), d.size(1, 40), d.size(1, 3), d.of(4, 16)
    lengths = [d.of(0, d.size(1, 12), d.size(1, 64)) for _ in range(count)]
    width = max(1, max(-(-n // page) for n in lengths))
    kind = d.of(d.dtype, torch.int8)
    pages = Pages.empty(count * width + 2, page, kv_heads, size, kind)
    slots = torch.arange(pages.keys.shape[0] * page)
    filled = d.draw(len(slots), kv_heads, size), d.draw(len(slots), kv_heads, size)
    kernels.kv_append.reference(*filled, pages, slots)
    table = torch.randperm(pages.keys.shape[0])[: count * width].reshape(count, width).to(torch.int32)
    args = d.draw(count, heads, size), pages, table, torch.tensor(lengths, dtype=torch.int32)
    return args, {"window": d.of(None, d.size(1, 60))}


def kv_append(d):
    _, kv_heads = d.heads()
    size, count, page = d.size(1, 40), d.size(0, 5), d.of(4, 16)
    pages = Pages.empty(3, page, kv_heads, size, d.of(d.dtype, torch.int8))
    slots = torch.randperm(3 * page)[:count].to(torch.int32)
    slots[::3] = -1 if d.size(0, 2) == 0 else slots[::3]
    k, v = d.draw(count, kv_heads, size), d.draw(count, kv_heads, size)
    if count and d.size(0, 2) == 0:
        k[0] = 0  # a head without a scale
    return (k, v, pages, slots), {}


def rms_norm(d):
    shape = (*(d.size(0, 5) for _ in range(d.size(1, 2))), d.size(1, 130))
    return (d.draw(*shape), d.draw(shape[-1]), d.of(1e-5, 1e-6)), {}


def residual_rms_norm(d):
    (x, weight, eps), _ = rms_norm(d)
    return (x, d.draw(*x.shape), weight, eps), {}


def rope(d):
    batch, heads, time, half = d.of(1, 1, 2), d.size(1, 5), d.size(0, 4), d.size(1, 20)
    place = torch.randint(0, 4000, (batch, time) if d.size(0, 1) else (time,))
    return (d.sliced(batch, heads, time, 2 * half), *kernels.rope_table(place, 2 * half, 1e4)), {}


def swiglu(d):
    shape = (d.size(0, 9), d.size(1, 300))
    return (d.draw(*shape) * 3, d.draw(*shape)), {}


def grouped_linear(d):
    group, rows, outputs = d.of(32, 64, 96, 128), d.size(0, 20), d.size(1, 70)
    cols = group * d.size(1, 3)
    four = bool(d.size(0, 1))
    codes = torch.randint(0 if four else -127, 16 if four else 128, (outputs, cols))
    scale = torch.rand(outputs, cols // group) * 0.1
    low = -8 * scale * torch.rand(outputs, cols // group) if four else None
    return (d.sliced(rows, cols), GroupedWeight.of(codes, scale, low, group)), {}


def wide(x):
    """The same case in float64; pages and weights as they are, their values dequantised."""
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        return x.double()
    if isinstance(x, Pages) and x.key_scales is None:
        return Pages(x.keys.double(), x.values.double())
    return x


def outcome(op, made):
    """What is compared: tensors."""
    if op == "kv_append":  # as values: where rounding decides, codes may differ by one
        table = torch.arange(made.keys.shape[0])
        return made.dense(table, made.keys.shape[0] * made.page)
    return made if isinstance(made, tuple) else (made,)


def copied(args):
    return tuple(Pages(*(None if t is None else t.clone() for t in (a.keys, a.values, a.key_scales, a.value_scales)))
                 if isinstance(a, Pages) else a for a in args)  # fmt: skip


def fuzz(name, make, shapes):
    """Worst share of the tolerance over so many cases, and the worst error by type."""
    op = kernels.REGISTRY[name]
    path, run = op.path()
    assert path == "triton", f"{name} runs {path}"
    worst, empty, began = {}, 0, time.perf_counter()
    for seed in range(shapes):
        dtype = (torch.float32, torch.float16)[seed % 2]
        torch.manual_seed(seed)
        args, options = make(Dice(seed, dtype))
        expected = outcome(name, op.reference(*(wide(a) for a in copied(args)), **options))
        got = outcome(name, run(*copied(args), **options))
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape, (name, seed)
            if not b.numel():
                empty += 1
                continue
            top = float(b.double().abs().max())
            error = float((a.double() - b.double()).abs().max()) / max(top, 1e-6)
            assert error == error, f"{name}: NaN at seed {seed}"
            kind = str(dtype).removeprefix("torch.")
            worst[kind] = max(worst.get(kind, 0.0), error)
            limit = op.tolerance[dtype]
            assert error <= limit, f"{name}: error {error:.1e} above {limit:.0e} at seed {seed}, {kind}"
        cost = op.cost(*args, **options)
        assert cost.flops >= 0 and cost.bytes >= 0
    return {"op": name, "shapes": shapes, "empty": empty, "worst": worst, "s": round(time.perf_counter() - began, 2)}


MAKERS = (
    attention,
    ragged_attention,
    block_sparse_attention,
    paged_decode,
    kv_append,
    rms_norm,
    residual_rms_norm,
    rope,
    swiglu,
    grouped_linear,
)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for maker in MAKERS:
        if len(sys.argv) < 3 or maker.__name__ in sys.argv[2:]:
            try:
                print(json.dumps(fuzz(maker.__name__, maker, int(sys.argv[1]))), flush=True)
            except Exception as problem:  # each operation is a test of its own
                print(json.dumps({"op": maker.__name__, "failed": f"{type(problem).__name__}: {problem}"}), flush=True)
