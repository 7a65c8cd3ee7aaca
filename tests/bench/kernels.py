"""Each operation against the roofline of this machine, and against its peers in torch: `make bench-kernels`.

Bandwidth and peak are measured in the same run, before and after (the mean stands): a copy and a read of 256 MB, and
torch's own float32 product (bfloat16 on a GPU). An operation's roofline time is the larger of its bytes over the
bandwidth and its FLOPs over the peak; its share is that time over the measured one. Integer kernels may pass 1 where
they multiply faster than float32. Ours and the peers run in turn, medians of the turns; weights rotate, so that none is
found in the cache. One thread on a CPU, and its own CPU seconds: wall time on a quiet machine, and blind to others'
processes (not to their use of caches and memory). Prints a line for each case with its bound from kernels.yaml; closes
with JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import windward_kernels as kernels  # noqa: E402
from windward_kernels import BlockSparse, Causal, GroupedWeight, Pages, RowWeight, cpp  # noqa: E402

GPU = torch.cuda.is_available()
DEVICE, DTYPE = ("cuda", torch.bfloat16) if GPU else ("cpu", torch.float32)
TURNS = 7
TURN_S = 0.03  # a turn's calls go on until then
FAR = 96e6  # bytes of copies between which calls rotate: more than a last-level cache
WIDTH, HIDDEN = (4096, 14336) if GPU else (576, 1536)  # Llama 3 8B; SmolLM2 135M
HEADS, KV_HEADS, HEAD_DIM = (32, 8, 128) if GPU else (9, 3, 64)
PREFILL, PAST, TOGETHER = (4096, 8192, 64) if GPU else (512, 2048, 16)
Call = Callable[[], Any]
clock = time.perf_counter if GPU else time.process_time


@dataclass(slots=True)
class Case:
    """An operation at one shape: copies of its arguments (several where one would stay in the cache); peers' calls."""

    name: str
    op: Any
    args: list[tuple[Any, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    peers: dict[str, list[Call]] = field(default_factory=dict)

    def calls(self) -> list[Call]:
        return [lambda a=a: self.op(*a, **self.options) for a in self.args]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=DTYPE, device=DEVICE)


def settle() -> None:
    if GPU:
        torch.cuda.synchronize()


def turn(calls: list[Call], spins: list[int]) -> float:
    """Seconds of a call: as many as fill the turn; `spins` remembers which copy is next."""
    settle()
    began, count = clock(), 0
    while True:
        calls[spins[0] % len(calls)]()
        spins[0] += 1
        count += 1
        if count % 16 == 0 or not GPU:  # a GPU is waited for now and then
            settle()
            passed = clock() - began
            if passed > TURN_S:
                return passed / count


def measured(sides: dict[str, list[Call]], turns: int = TURNS) -> dict[str, float]:
    """Median seconds of each side's call, the sides in turn. The first turn, which warms up, does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    spins = {name: [0] for name in sides}
    for i in range(turns + 1):
        for name, calls in sides.items():
            took = turn(calls, spins[name])
            if i:
                times[name].append(took)
    return {name: statistics.median(t) for name, t in times.items()}


def roofline() -> tuple[float, float]:
    """Bytes and floating-point operations a second that this machine reaches."""
    count = 64 << 20
    a, b = torch.ones(count, dtype=torch.float32, device=DEVICE), torch.empty(count, device=DEVICE)
    size = 8192 if GPU else 1024
    x, y = draw(size, size), draw(size, size)
    took = measured({"copy": [lambda: b.copy_(a)], "read": [lambda: a.sum()], "product": [lambda: x @ y]}, 5)
    return max(2 * 4 * count / took["copy"], 4 * count / took["read"]), 2 * size**3 / took["product"]


def copies(nbytes: float) -> int:
    return max(1, min(64, round(FAR / max(nbytes, 1))))


def attention_cases() -> Iterator[Case]:
    q, k, v = (draw(1, h, PREFILL, HEAD_DIM) for h in (HEADS, KV_HEADS, KV_HEADS))
    sdpa = [lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)]
    yield Case("attention, prefill", kernels.attention, [(q, k, v)], peers={"sdpa": sdpa, **flex(q, k, v)})
    window = PREFILL // 8
    seen = Causal(window=window).visible(PREFILL, PREFILL, q.device)
    masked = [lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)]
    options = {"mask": Causal(window=window)}
    yield Case("attention, window of an eighth", kernels.attention, [(q, k, v)], options, {"sdpa, masked": masked})
    long = 4 * PREFILL
    ql, kl, vl = (draw(1, h, long, HEAD_DIM) for h in (HEADS, KV_HEADS, KV_HEADS))
    sparse = BlockSparse.sliding_with_global(long, long, size=64, around=2, first=1)
    sparse = BlockSparse(sparse.begin.to(DEVICE), sparse.blocks.to(DEVICE), sparse.size)
    dense = [lambda: F.scaled_dot_product_attention(ql, kl, vl, is_causal=True, enable_gqa=True)]
    name = f"block-sparse attention, {sparse.visible(long, long).float().mean() * 2:.0%} of causal"
    yield Case(name, kernels.block_sparse_attention, [(ql, kl, vl, sparse)], peers={"sdpa, dense": dense})
    ends = torch.tensor([0, PREFILL // 4, PREFILL // 2, PREFILL], dtype=torch.int32, device=DEVICE)
    ragged = tuple(t[0].transpose(0, 1).contiguous() for t in (q, k, v))
    yield Case("ragged attention, three sequences", kernels.ragged_attention, [(*ragged, ends, ends)])


def flex(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> dict[str, list[Call]]:
    """FlexAttention's compiled kernel, where torch.compile works."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    try:
        block = create_block_mask(lambda b, h, i, j: i >= j, None, None, q.shape[2], k.shape[2], device=DEVICE)
        compiled = torch.compile(flex_attention)
        compiled(q, k, v, block_mask=block, enable_gqa=True)
    except Exception as problem:  # its compiler may raise anything
        print(f"flex_attention is left out: {type(problem).__name__}: {str(problem).splitlines()[0][:100]}")
        return {}
    return {"flex": [lambda: compiled(q, k, v, block_mask=block, enable_gqa=True)]}


def decode_cases() -> Iterator[Case]:
    """Sixteen sequences of one query each over pages: split-KV decoding of torch's pages in every kind."""
    blocks = PAST // 16
    for name, kind in (("float", DTYPE), ("int8", torch.int8), ("int4", kernels.INT4)):
        pages = Pages.empty(TOGETHER * blocks, 16, KV_HEADS, HEAD_DIM, kind, DEVICE)
        filled = draw(2, TOGETHER * PAST, KV_HEADS, HEAD_DIM)
        kernels.kv_append(*filled, pages, torch.arange(TOGETHER * PAST, device=DEVICE))
        table = torch.randperm(TOGETHER * blocks, device=DEVICE).reshape(TOGETHER, blocks).to(torch.int32)
        lengths = torch.full((TOGETHER,), PAST, dtype=torch.int32, device=DEVICE)
        args = [(draw(TOGETHER, HEADS, HEAD_DIM), pages, table, lengths)]
        peers = {}
        if name == "float":
            q, k, v = (draw(TOGETHER, h, n, HEAD_DIM) for h, n in ((HEADS, 1), (KV_HEADS, PAST), (KV_HEADS, PAST)))
            peers["sdpa, dense"] = [lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)]
        yield Case(f"paged decode, {name}", kernels.paged_decode, args, peers=peers)
    k, v = draw(2, 256, KV_HEADS, HEAD_DIM)
    pages = Pages.empty(16, 16, KV_HEADS, HEAD_DIM, torch.int8, DEVICE)
    yield Case("KV append, int8", kernels.kv_append, [(k, v, pages, torch.arange(256, device=DEVICE))])


def compiled_cases() -> Iterator[Case]:
    """The CPU extension: attention over its own pages, and products with packed weights."""
    from windward_kernels.cpp import PagePool, SequenceInput, Step

    for kind in ("float32", "float16", "int8"):
        blocks = PAST // 16
        pool = PagePool(kind, layers=1, blocks=TOGETHER * blocks, kv_heads=KV_HEADS, head_dim=HEAD_DIM)
        tables = [range(i * blocks, (i + 1) * blocks) for i in range(TOGETHER)]
        kv = torch.randn(2, PAST, KV_HEADS, HEAD_DIM).numpy()
        for table in tables:
            pool.append(0, Step.of([SequenceInput([0] * PAST, 0, list(table))]), *kv)
        step = Step.of([SequenceInput([0], PAST - 1, list(table)) for table in tables])
        args = [(draw(TOGETHER, HEADS, HEAD_DIM), pool, 0, step)]
        peers = {}
        if kind == "float32":
            q, k, v = (draw(TOGETHER, h, n, HEAD_DIM) for h, n in ((HEADS, 1), (KV_HEADS, PAST), (KV_HEADS, PAST)))
            peers["sdpa, dense"] = [lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)]
            first = Step.of([SequenceInput([0] * PREFILL, 0, list(tables[0]))])
            q1, k1, v1 = (draw(1, h, PREFILL, HEAD_DIM) for h in (HEADS, KV_HEADS, KV_HEADS))
            sdpa = [lambda: F.scaled_dot_product_attention(q1, k1, v1, is_causal=True, enable_gqa=True)]
            whole = [(draw(PREFILL, HEADS, HEAD_DIM), pool, 0, first)]
            yield Case("compiled attention, prefill", kernels.paged_attention, whole, peers={"sdpa": sdpa})
        yield Case(f"compiled decode, {kind}", kernels.paged_attention, args, peers=peers)


def packed_cases(rows: int) -> Iterator[Case]:
    """float32, int8 and int4 weights of the feed-forward's first matrix, and torch's products of the same kinds."""
    from windward_kernels.cpp import pack, quantise_int4, quantise_int8

    x = draw(rows, WIDTH)
    weight = torch.randn(2 * HIDDEN, WIDTH) * 0.05
    dense = [weight.clone() for _ in range(copies(weight.nbytes))]
    linear = [lambda w=w: F.linear(x, w) for w in dense]
    label = "one token" if rows == 1 else f"{rows} tokens"
    kinds = (("F32", weight.numpy()), ("Q8_0", quantise_int8(weight.numpy())), ("Q4_1", quantise_int4(weight.numpy())))
    for kind, raw in kinds:
        made = pack(kind, raw, *weight.shape)
        weights = [made, *(pack(kind, raw, *weight.shape) for _ in range(copies(made.nbytes) - 1))]
        peers = {"torch linear, float32": linear, **(torch_peers(kind, x, weight))}
        name = {"F32": "float32", "Q8_0": "int8 (W8A8)", "Q4_1": "int4 (W4A8)"}[kind]
        yield Case(f"packed linear, {name}, {label}", kernels.packed_linear, [(x, w) for w in weights], peers=peers)


def torch_peers(kind: str, x: torch.Tensor, weight: torch.Tensor) -> dict[str, list[Call]]:
    """torch's own weight-only products on a CPU (bfloat16 activations), which take the weight in their own layout."""
    wide = x.to(torch.bfloat16)
    if kind == "Q8_0":
        scale = (weight.abs().amax(1) / 127).to(torch.bfloat16)
        codes = (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        some = [codes.clone() for _ in range(copies(codes.nbytes))]
        return {"torch int8pack": [lambda c=c: torch._weight_int8pack_mm(wide, c, scale) for c in some]}
    if kind == "Q4_1":
        codes = torch.randint(0, 16, weight.shape, dtype=torch.int32)
        packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
        zeros = torch.rand(weight.shape[1] // 32, weight.shape[0], 2).to(torch.bfloat16)
        some = [packed.clone() for _ in range(copies(packed.nbytes))]
        return {"torch int4pack": [lambda c=c: torch._weight_int4pack_mm_for_cpu(wide, c, 32, zeros) for c in some]}
    return {}


def product_cases(rows: int) -> Iterator[Case]:
    """Products of torch's and Triton's paths."""
    x, weight = draw(rows, WIDTH), draw(HIDDEN, WIDTH) * 0.05
    label = "one token" if rows == 1 else f"{rows} tokens"
    dense = [weight.clone() for _ in range(copies(weight.nbytes))]
    linear = {"torch linear": [lambda w=w: F.linear(x, w) for w in dense]}
    yield Case(f"linear, {label}", kernels.linear, [(x, w) for w in dense])
    integers = RowWeight.of(weight)
    eights = [RowWeight(integers.codes.clone(), integers.scale) for _ in range(copies(integers.nbytes))]
    yield Case(f"W8A8, {label}", kernels.w8a8_linear, [(x, w) for w in eights], peers=linear)
    if GPU:
        codes = torch.randint(0, 16, weight.shape, device=DEVICE)
        scale = torch.rand(HIDDEN, WIDTH // 128, device=DEVICE) * 0.01
        fours = GroupedWeight.of(codes, scale, -8 * scale, 128)
        yield Case(f"W4A16, {label}", kernels.grouped_linear, [(x, fours)], peers=linear)
        if kernels.fp8_linear.path()[0] != "reference":
            floats = RowWeight.of(weight, torch.float8_e4m3fn)
            yield Case(f"FP8, {label}", kernels.fp8_linear, [(x, floats)], peers=linear)


def small_cases() -> Iterator[Case]:
    """What lies between the products, over tensors that no cache holds."""
    pairs = [(draw(PREFILL, WIDTH), draw(PREFILL, WIDTH)) for _ in range(copies(2 * PREFILL * WIDTH * DTYPE.itemsize))]
    weight = draw(WIDTH)
    peers = {"torch": [lambda x=x: F.rms_norm(x, (WIDTH,), weight, 1e-5) for x, _ in pairs]}
    yield Case("RMSNorm", kernels.rms_norm, [(x, weight, 1e-5) for x, _ in pairs], peers=peers)
    peers = {"torch, two steps": [lambda x=x, y=y: F.rms_norm(x + y, (WIDTH,), weight, 1e-5) for x, y in pairs]}
    args = [(x, y, weight, 1e-5) for x, y in pairs]
    yield Case("RMSNorm with residual", kernels.residual_rms_norm, args, peers=peers)
    peers = {"torch, two steps": [lambda x=x, y=y: F.silu(x) * y for x, y in pairs]}
    yield Case("SwiGLU", kernels.swiglu, pairs, peers=peers)
    turned = kernels.rope_table(torch.arange(PREFILL, device=DEVICE), HEAD_DIM, 1e4)
    heads = [(x.view(1, PREFILL, HEADS, HEAD_DIM).transpose(1, 2), *turned) for x, _ in pairs]
    yield Case("RoPE", kernels.rope, heads)
    generators = [torch.Generator().manual_seed(i) for i in range(TOGETHER)]
    logits = draw(TOGETHER, 49152)
    peers = {"torch multinomial": [lambda: torch.multinomial(logits.float().softmax(-1), 1)]}
    yield Case("sampling", kernels.sample, [(logits, 1.0, generators)], peers=peers)


def cases() -> Iterator[Case]:
    yield from attention_cases()
    yield from decode_cases()
    for rows in (1, PREFILL):
        yield from product_cases(rows)
        if not GPU and cpp.available():
            yield from packed_cases(rows)
    if not GPU and cpp.available():
        yield from compiled_cases()
    yield from small_cases()


@dataclass(frozen=True, slots=True)
class Figure:
    """A case's outcome. `share` of the roofline; `bound` by memory or arithmetic; `versus`: peer's time over ours."""

    name: str
    path: str
    ms: float
    flops: float
    moved: float
    versus: dict[str, float]

    def share(self, bandwidth: float, peak: float) -> tuple[float, str]:
        times = {"memory": self.moved / bandwidth, "arithmetic": self.flops / peak}
        bound = max(times, key=lambda k: times[k])
        return 1e3 * times[bound] / self.ms, bound


def figure(case: Case) -> Figure:
    took = measured({"ours": case.calls(), **case.peers})
    cost = case.op.cost(*case.args[0], **case.options)
    versus = {peer: took[peer] / took["ours"] for peer in case.peers}
    return Figure(case.name, case.op.path()[0], 1e3 * took["ours"], cost.flops, cost.bytes, versus)


@contextlib.contextmanager
def turn_of_the_machine() -> Iterator[None]:
    """Where several benches share a machine: hold the lock that BENCH_LOCK names."""
    path = os.environ.get("BENCH_LOCK")
    with Path(path).open("a") if path else contextlib.nullcontext() as file:
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def judged(value: float, bound: dict[str, Any] | None) -> str:
    if bound is None:
        return ""
    return f"{'ok  ' if value >= bound['at_least'] else 'OVER'} at least {bound['at_least']:g}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose names hold this word")
    arguments = parser.parse_args()
    import yaml

    torch.set_num_threads(1)
    torch.manual_seed(0)
    cpp.available() and cpp.set_threads(1)
    with turn_of_the_machine(), torch.inference_mode():
        before = roofline()
        found = [figure(case) for case in cases() if arguments.only in case.name]
        after = roofline()
    bandwidth, peak = ((a + b) / 2 for a, b in zip(before, after, strict=True))
    drift = max(abs(a / b - 1) for a, b in zip(before, after, strict=True))
    print(
        f"{kernels.device()}: {bandwidth / 1e9:.1f} GB/s, {peak / 1e9:.1f} GFLOP/s, {drift:.0%} apart before and after"
    )
    bounds = yaml.safe_load((HERE / "kernels.yaml").read_text())["bounds"].get(DEVICE, {})
    document: dict[str, Any] = {
        "bench": "kernels",
        "device": kernels.device(),
        "isa": cpp.isa() if cpp.available() else None,
    }
    document |= {
        "gb_s": round(bandwidth / 1e9, 2),
        "gflop_s": round(peak / 1e9, 1),
        "drift": round(drift, 3),
        "cases": {},
    }
    for each in found:
        share, bound = each.share(bandwidth, peak)
        peers = ", ".join(
            f"{ratio:.2f}x {peer} {judged(ratio, bounds.get(f'{each.name} / {peer}'))}".rstrip()
            for peer, ratio in each.versus.items()
        )
        said = judged(share, bounds.get(each.name))
        print(f"{each.name:40} {each.path:13} {each.ms:9.4f} ms {share:6.0%} of {bound:10} {said:18} {peers}".rstrip())
        versus = {peer: round(ratio, 3) for peer, ratio in each.versus.items()}
        entry = {"path": each.path, "ms": round(each.ms, 5), "roofline": round(share, 3), "bound": bound}
        document["cases"][each.name] = {**entry, **({"vs": versus} if versus else {})}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
