"""`pareto`: what each way of keeping a model costs and how well it then predicts, measured side by side.

Variants are named METHOD[-gGROUP][-wBITS][+kv8|+kv4]: `float32`, `int8`, `int4` (as the loader rounds them), a method
of `quantize`, such as `gptq-g128` or `mixed`, or the folder that it wrote, such as `./mine`. `+kv8` keeps the KV cache
in int8, `+kv4` in int4, which plain torch runs: its perplexity and KV bytes count, its speed and joules are torch's. A
point is dominated where another is no worse in perplexity, joules, speed and memory, and better in one.
"""

from __future__ import annotations

import logging
import math
import re
import statistics
import tempfile
import time
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from windward_worker.compress.perplexity import blocks_needed, perplexity
from windward_worker.compress.recipe import Scheme
from windward_worker.compress.recipes import RECIPES
from windward_worker.control import Refused
from windward_worker.inference import BatchLimits, Engine, OpenedModel, Request, open_runner
from windward_worker.model import open_model

log = logging.getLogger("windward.pareto")
LOADED = ("stored", "float32", "int8", "int4")
DEFAULT = (
    "float32",
    "int8",
    "smoothquant",
    "int4",
    "int4+kv8",
    "gptq-g32",
    "awq-g32",
    "int4-g128",
    "gptq-g128",
    "mixed",
)
KV = {"+kv8": "int8", "+kv4": "int4"}
TURNS = 3
TURN_S = 0.5  # a turn goes on until then: a small model's answers are too short to time
PROMPT, ANSWER, TOGETHER = 16, 32, 4
REACH = 1024  # tokens of KV cache that `memory_mb` counts beside the weights
NAME = re.compile(r"(?P<method>[a-z]+(?:32|8|4)?)(?:-g(?P<group>\d+))?(?:-w(?P<bits>\d))?(?P<kv>\+kv[48])?")


@dataclass(frozen=True, slots=True)
class Variant:
    """A way of keeping a model. `scheme` None: `weights` as the loader knows them."""

    name: str
    weights: str
    kv: str
    method: str | None = None
    bits: int = 4
    group: int = 32
    folder: Path | None = None  # already quantised

    @classmethod
    def parse(cls, name: str) -> Variant:
        """Raises Refused for a name that is none."""
        if "/" in name:
            at, _, kv = name.rpartition("+kv") if name.endswith(tuple(KV)) else (name, "", "")
            folder = Path(at)
            if not (folder / "config.json").is_file():
                raise Refused(f"--variants: {folder} is no model folder; give one that `quantize` wrote")
            return cls(folder.name + name[len(at) :], "stored", KV.get(f"+kv{kv}", "float16"), folder=folder)
        match = NAME.fullmatch(name)
        kv = KV.get(match["kv"] or "", "float16") if match else ""
        if match and kv == "int4" and match["method"] in ("int8", "int4"):
            raise Refused(
                f"--variants: {name!r}: an int4 cache runs in torch; give float32, stored, a method or a folder"
            )
        if match and match["group"] and match["method"] in ("stored", "float32"):
            raise Refused(f"--variants: {name!r}: {match['method']} has no groups; leave -g{match['group']} out")
        recipe = RECIPES.get(match["method"]) if match else None
        if match and match["bits"] and recipe is not None and recipe.chooses_bits:
            raise Refused(f"--variants: {name!r}: {recipe.name} chooses its bits itself; leave -w{match['bits']} out")
        if match and match["method"] in LOADED and not match["bits"]:
            group = int(match["group"] or 32)
            if group == 32:
                return cls(name, match["method"], kv)
            if match["method"] in ("int4", "int8"):  # the loader knows groups of 32 alone
                return cls(name, "stored", kv, "rtn", int(match["method"][3]), group)
        elif match and match["method"] not in LOADED:
            bits = int(match["bits"] or (4 if recipe is None else recipe.default_bits))
            return cls(name, "stored", kv, match["method"], bits, int(match["group"] or 32))
        raise Refused(f"--variants: {name!r} is none; give names such as float32, int4+kv8, gptq-g128, rtn-g64-w8")


@dataclass(frozen=True, slots=True)
class Point:
    """One variant, measured. `method`: how the joules came to be."""

    variant: str
    perplexity: float
    joules_per_token: float
    method: str
    tokens_per_s: float
    memory_mb: float
    dominated: bool = False

    def costs(self) -> tuple[float, float, float, float]:
        """All that should be small."""
        return self.perplexity, self.joules_per_token, -self.tokens_per_s, self.memory_mb


@dataclass(frozen=True, slots=True)
class Frontier:
    """What was measured, and what could not be, with the reasons: a variant that did not run has no point."""

    points: tuple[Point, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def mark(points: Seq[Point]) -> list[Point]:
    """The same points, `dominated` set."""

    def beats(a: Point, b: Point) -> bool:
        pairs = list(zip(a.costs(), b.costs(), strict=True))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    return [replace(p, dominated=any(beats(other, p) for other in points)) for p in points]


@dataclass(slots=True)
class _Open:
    """A variant, opened: what it takes, and what its turns show."""

    variant: Variant
    opened: OpenedModel
    perplexity: float
    memory: float
    rates: list[float]
    joules: list[float]
    method: str = ""


def pareto(
    model: str, calibration: Path, variants: Seq[str] = DEFAULT, *, tokens: int = 4096, threads: int = 1
) -> Frontier:  # fmt: skip
    """Measure each variant: perplexity on the text's last fifth; speed and joules of four answers at once, in turns.

    The variants take their turns one after another, so that a busy moment of the machine hits all alike; medians.
    One that cannot run here is left out, and the reason kept. Raises Refused where none can, OSError.
    """
    from windward_worker.compress.run import check_scheme, find_model, split_text

    parsed = [Variant.parse(name) for name in variants]

    for variant in parsed:
        if variant.method is not None:
            check_scheme(Scheme(variant.method, variant.bits, variant.group))
    path = find_model(model)
    _, judged = split_text(open_model(path), calibration, tokens)
    with tempfile.TemporaryDirectory(prefix="windward-pareto-") as scratch:
        prepared = _Prepared(model, path, calibration, tokens, threads, Path(scratch))
        opened, left_out = [], []
        for variant in parsed:
            try:
                opened.append(_opened(variant, prepared.folder(variant), judged, threads))
            except Refused as error:
                left_out.append((variant.name, str(error)))
                log.warning("%s is left out: %s", variant.name, error)
                continue
            log.info("%s: perplexity %.3f", variant.name, opened[-1].perplexity)
        if not opened:
            raise Refused("--variants: none can run here: " + "; ".join(f"{n}: {why}" for n, why in left_out))
        for _ in range(TURNS):
            for each in opened:
                _turn(each, judged)
        return Frontier(tuple(mark([_point(each) for each in opened])), tuple(left_out))


@dataclass(slots=True)
class _Prepared:
    """Folders of quantised variants, each scheme made once, in `scratch`."""

    model: str
    path: Path
    calibration: Path
    tokens: int
    threads: int
    scratch: Path
    folders: dict[tuple[str, int, int], Path] = field(default_factory=dict)

    def folder(self, variant: Variant) -> Path:
        """The model's own path, or a folder with the variant's codes. Raises Refused, OSError."""
        if variant.method is None:
            return variant.folder or self.path
        from windward_worker.compress.run import QuantizeRequest, quantize_model

        key = (variant.method, variant.bits, variant.group)
        if key not in self.folders:
            log.info("quantising: %s, %d bits, groups of %d", *key)
            self.folders[key] = self.scratch / "-".join(map(str, key))
            request = QuantizeRequest(
                self.model, self.folders[key], self.calibration, Scheme(*key), self.tokens, self.threads
            )
            quantize_model(request)
        return self.folders[key]


def _opened(variant: Variant, path: Path, judged: list[int], threads: int) -> _Open:
    blocks = max(blocks_needed(), TOGETHER * ((PROMPT + ANSWER) // 16 + 2))
    if variant.kv == "int4":
        torch.set_num_threads(threads)
        opened = _int4_cache(path, blocks)
    else:
        opened = open_runner(path, blocks=blocks, weights=variant.weights, kv=variant.kv, threads=threads)
    memory = weight_bytes(opened) + REACH * opened.runner.kv_bytes_per_token
    reached = perplexity(opened.runner, judged)
    if not math.isfinite(reached):
        raise Refused(f"its perplexity is {reached}: weights or activations are out of range; quantise it otherwise")
    return _Open(variant, opened, reached, memory, [], [])


def _int4_cache(path: Path, blocks: int) -> OpenedModel:
    from windward_worker.compress.paged import PagedRunner
    from windward_worker.model import load_path

    loaded = load_path(path)
    return OpenedModel(PagedRunner(loaded.decoder, blocks=blocks, kind="int4"), loaded.tokenizer, open_model(path))


def weight_bytes(opened: OpenedModel) -> float:
    """Bytes that the runner's weights take in memory; vectors are left out where they are packed."""
    model = getattr(opened.runner, "_model", None)
    if model is not None:
        return float(model.nbytes)
    return 4.0 * opened.runner.config.num_parameters  # torch's runner on a CPU dequantises


def _turn(each: _Open, judged: list[int]) -> None:
    """Four answers together; the tokens computed by second and by joule are the answers' own."""
    runner = each.opened.runner
    answer = min(ANSWER, runner.config.max_position_embeddings - PROMPT - 1)
    engine = Engine(runner, limits=BatchLimits(256, TOGETHER), prefix_cache=False)
    prompts = [tuple(judged[i * 3 : i * 3 + PROMPT]) for i in range(TOGETHER)]
    began = time.monotonic()
    answers, passed = [], 0.0
    while passed < TURN_S:
        answers += engine.generate([Request(p, answer, ignore_eos=True) for p in prompts])
        passed = time.monotonic() - began
    engine.close()
    count = sum(len(a.tokens) for a in answers)
    each.rates.append(count / passed)
    each.joules.append(sum(a.joules for a in answers) / count)
    each.method = answers[0].method.value


def _point(each: _Open) -> Point:
    middle = statistics.median
    return Point(
        each.variant.name,
        round(each.perplexity, 4),
        round(middle(each.joules), 6),
        each.method,
        round(middle(each.rates), 2),
        round(each.memory / 1e6, 3),
    )


def table(points: Seq[Point], left_out: Seq[tuple[str, str]] = ()) -> str:
    """For people: best perplexity first, the frontier starred; changes against the first that ran; then who did not."""
    first = points[0]
    rows = [f"{'':2}{'variant':16}{'perplexity':>12}{'change':>10}{'J/token':>12}{'tokens/s':>11}{'MB':>10}"]
    for p in sorted(points, key=lambda p: p.perplexity):
        star = "  " if p.dominated else "* "
        change = f"{100 * (p.perplexity / first.perplexity - 1):+.2f} %"
        rows.append(
            f"{star}{p.variant:16}{p.perplexity:12.3f}{change:>10}{p.joules_per_token:12.5f}{p.tokens_per_s:11.1f}"
            f"{p.memory_mb:10.2f}"
        )
    methods = ", ".join(sorted({p.method for p in points}))
    note = f"* on the frontier; change: of perplexity against {first.variant}; joules are {methods}; "
    note += f"MB with {REACH} tokens of KV cache"
    if any(p.variant.endswith("+kv4") for p in points):
        note += "; +kv4 runs in plain torch, whose weights are float32 in memory"
    return "\n".join([*rows, note, *(f"left out: {name}: {why}" for name, why in left_out)])


def documents(points: Seq[Point]) -> list[dict[str, object]]:
    """For programs."""
    return [asdict(p) for p in points]
