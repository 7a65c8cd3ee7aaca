"""Every fast path of this process' device against its definition in float64, on random shapes: run by test_fuzz.py.

`python fuzz.py SHAPES [OPERATION...]` prints a JSON line for each operation and path: torch's on a CPU, Triton's in
its interpreter with TRITON_INTERPRET=1, both on a GPU. `python fuzz.py SHAPES chosen` does so for the path that a
call runs on this processor, and for nothing else. A path that the registry found wrong here has its `fault` instead
of errors. (The compiled extension's are in test_cpp.py.) Shapes are tiny (a program takes the interpreter 20 ms) but
odd: one token, no token, sequences without keys, queries that see nothing.
"""

import json
import logging
import sys
import time

import numpy as np
import torch

import windward_kernels as kernels
from windward_kernels import INT4, BlockSparse, Causal, GroupedWeight, Pages, RowWeight
from windward_kernels.products import FP8

DEVICE = kernels.device()
DTYPES = (
    torch.float32,
    torch.float16 if DEVICE == "interpreter" else torch.bfloat16,
)  # the interpreter has no bfloat16
if DEVICE != "cpu":
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
    kind = d.of(d.dtype, torch.int8, INT4)
    size += size % 2 if kind == INT4 else 0
    pages = Pages.empty(count * width + 2, page, kv_heads, size, kind)
    slots = torch.arange(pages.keys.shape[0] * page)
    filled = d.draw(len(slots), kv_heads, size), d.draw(len(slots), kv_heads, size)
    kernels.kv_append.reference(*filled, pages, slots)
    table = torch.randperm(pages.keys.shape[0])[: count * width].reshape(count, width).to(torch.int32)
    args = d.draw(count, heads, size), pages, table, torch.tensor(lengths, dtype=torch.int32)
    return args, {"window": d.of(None, d.size(1, 60))}


def kv_append(d):
    _, kv_heads = d.heads()
    size, count, page = 2 * d.size(1, 20), d.size(0, 3), d.of(4, 16)
    pages = Pages.empty(3, page, kv_heads, size, d.of(d.dtype, torch.int8, INT4))
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


def w8a8_linear(d):
    rows, cols, outputs = d.size(0, 20), d.size(1, 90), d.size(1, 70)
    x = d.sliced(rows, cols)
    if rows > 1:
        x[1] = 0  # a token without a scale
    return (x, RowWeight.of(torch.randn(outputs, cols))), {}


def fp8_linear(d):
    rows, cols, outputs = d.size(0, 20), d.of(d.size(1, 90), 16 * d.size(1, 5)), 16 * d.size(1, 4)
    return (d.sliced(rows, cols), RowWeight.of(torch.randn(outputs, cols), FP8)), {}


def linear(d):
    lead = tuple(d.size(0, 4) for _ in range(d.size(1, 2)))
    cols = d.size(1, 90)
    return (d.draw(*lead, cols), d.draw(d.size(1, 70), cols)), {}


class Replayed:
    """Generators' seeds: `fresh` gives each run its own, so that all of them draw the same numbers."""

    def __init__(self, seeds):
        self._seeds = seeds

    def fresh(self):
        return [torch.Generator().manual_seed(s) for s in self._seeds]


def sample(d):
    rows, columns = d.size(0, 2), d.of(d.size(1, 40), d.size(1000, 2100))  # one tile, or several
    seeds = [d.size(0, 10**9) for _ in range(rows)]
    return (d.sliced(rows, columns) * 3, d.of(0.0, 0.3, 1.0, 2.5), Replayed(seeds)), {}


def missed(tokens, logits, temperature, generators):
    """How far each row's draw lies outside its token's share of the distribution, plus one: 1 is a hit."""
    if temperature == 0:
        return 1 + logits.amax(-1) - logits.gather(-1, tokens[:, None])[:, 0]
    ends = (logits / temperature).softmax(-1).cumsum(-1)
    draws = torch.stack([torch.rand((), dtype=torch.float64, generator=g) for g in generators]) if generators else ends
    high = ends.gather(-1, tokens[:, None])[:, 0]
    low = torch.where(tokens > 0, ends.gather(-1, (tokens - 1).clamp_min(0)[:, None])[:, 0], 0.0)
    return 1 + (draws - high).clamp_min(0) + (low - draws).clamp_min(0) if len(tokens) else tokens.double()


def wide(x):
    """The same case in float64; pages and weights as they are, their values dequantised."""
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        return x.double()
    if isinstance(x, Pages) and x.key_scales is None:
        return Pages(x.keys.double(), x.values.double())
    return x


def outcome(op, made, args):
    """What is compared: tensors."""
    if op == "kv_append":  # as values: where rounding decides, codes may differ by one
        table = torch.arange(made.keys.shape[0])
        return made.dense(table, made.keys.shape[0] * made.page)
    if op == "sample":
        return (missed(made, wide(args[0]), args[1], args[2].fresh()),)
    return made if isinstance(made, tuple) else (made,)


def copied(args):
    """The same case, once more: pages are written to, and generators drawn from."""

    def pages(a):
        return Pages(*(None if t is None else t.clone() for pair in zip(*a.sides(), strict=True) for t in pair))

    return tuple(pages(a) if isinstance(a, Pages) else a.fresh() if isinstance(a, Replayed) else a for a in args)


def fuzz(name, path, shapes):
    """Worst error by type over so many cases of an operation's path."""
    op, make = kernels.REGISTRY[name], MAKERS[name]
    worst, empty, began = {}, 0, time.process_time()
    for seed in range(shapes):
        dtype = DTYPES[seed % 2]
        torch.manual_seed(seed)
        args, options = make(Dice(seed, dtype))
        expected = outcome(name, op.reference(*(wide(a) for a in copied(args)), **options), args)
        got = outcome(name, path.run(*copied(args), **options), args)
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
        cost = op.cost(*copied(args), **options)
        assert cost.flops >= 0 and cost.bytes >= 0
    seconds = round(time.process_time() - began, 2)
    return {"op": name, "path": path.name, "shapes": shapes, "empty": empty, "worst": worst, "s": seconds}


MAKERS = {
    make.__name__: make
    for make in (
        attention,
        ragged_attention,
        block_sparse_attention,
        paged_decode,
        kv_append,
        rms_norm,
        residual_rms_norm,
        rope,
        swiglu,
        linear,
        grouped_linear,
        w8a8_linear,
        fp8_linear,
        sample,
    )
}


def paths(op):
    """Those that this device runs; on a CPU also that of FP8, which torch emulates there."""
    wanted = {"triton"} if DEVICE == "interpreter" else {p.name for p in op.fast_paths} - {"cpp"}
    emulated = {"torch-scaled-mm"} if DEVICE == "cpu" else set()
    return [p for p in op.fast_paths if p.name in wanted and (DEVICE in p.devices or p.name in emulated)]


def called(op):
    """What a call runs on this processor, under the name of its path; nothing where there is the definition alone."""
    several = any(DEVICE in path.devices for path in op.fast_paths)
    return [kernels.FastPath(op.path()[0], frozenset(), op)] if several else []


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.basicConfig()
    chosen = "chosen" in sys.argv
    for name in MAKERS:
        if len(sys.argv) > 2 and not chosen and name not in sys.argv[2:]:
            continue
        op = kernels.REGISTRY[name]
        for path in called(op) if chosen else paths(op):
            if not chosen and (fault := op.fault(path)):
                print(json.dumps({"op": name, "path": path.name, "fault": fault}), flush=True)
                continue
            try:
                print(json.dumps(fuzz(name, path, int(sys.argv[1]))), flush=True)
            except Exception as problem:  # each operation is a test of its own
                failed = {"op": name, "path": path.name, "failed": f"{type(problem).__name__}: {problem}"}
                print(json.dumps(failed), flush=True)
