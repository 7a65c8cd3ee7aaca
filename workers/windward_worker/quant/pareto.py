"""`pareto`: what each way of keeping a model costs and how well it then predicts, measured side by side.

Variants are named METHOD[-gGROUP][-wBITS][+kv8]: `float32`, `int8`, `int4` (as the loader rounds them), or a method of
`quantize`, such as `gptq-g128` or `mixed`; `+kv8` keeps the KV cache in int8. A point is dominated where another is no
worse in perplexity, joules, speed and memory, and better in one.
"""

from __future__ import annotations

import logging
import re
import statistics
import tempfile
import time
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from windward_worker.control import Refused
from windward_worker.inference import Engine, Limits, Opened, Request, open_runner
from windward_worker.model import open_model
from windward_worker.quant.perplexity import blocks_needed, perplexity

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
TURNS = 3
TURN_S = 0.5  # a turn goes on until then: a small model's answers are too short to time
PROMPT, ANSWER, TOGETHER = 16, 32, 4
REACH = 1024  # tokens of KV cache that `memory_mb` counts beside the weights
NAME = re.compile(r"(?P<method>[a-z]+(?:32|8|4)?)(?:-g(?P<group>\d+))?(?:-w(?P<bits>\d))?(?P<kv>\+kv8)?")


@dataclass(frozen=True, slots=True)
class Variant:
    """A way of keeping a model. `scheme` None: `weights` as the loader knows them."""

    name: str
    weights: str
    kv: str
    method: str | None = None
    bits: int = 4
    group: int = 32

    @classmethod
    def parse(cls, name: str) -> Variant:
        """Raises Refused for a name that is none."""
        found = NAME.fullmatch(name)
        kv = "int8" if found and found["kv"] else "float16"
        if found and found["method"] in LOADED and not found["bits"]:
            group = int(found["group"] or 32)
            if group == 32:
                return cls(name, found["method"], kv)
            if found["method"] in ("int4", "int8"):  # the loader knows groups of 32 alone
                return cls(name, "stored", kv, "rtn", int(found["method"][3]), group)
        elif found and found["method"] not in LOADED:
            bits = int(found["bits"] or (8 if found["method"] == "smoothquant" else 4))
            return cls(name, "stored", kv, found["method"], bits, int(found["group"] or 32))
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
    opened: Opened
    perplexity: float
    memory: float
    rates: list[float]
    joules: list[float]
    method: str = ""


def pareto(
    model: str, calibration: Path, variants: Seq[str] = DEFAULT, *, tokens: int = 4096, threads: int = 1
) -> list[Point]:  # fmt: skip
    """Measure each variant: perplexity on the text's last fifth; speed and joules of four answers at once, in turns.

    The variants take their turns one after another, so that a busy moment of the machine hits all alike; medians.
    Raises Refused, OSError.
    """
    from windward_worker.quant.run import check_scheme, find_model, split_text

    wanted = [Variant.parse(name) for name in variants]
    from windward_worker.quant.ptq import Scheme

    for variant in wanted:
        if variant.method is not None:
            check_scheme(Scheme(variant.method, variant.bits, variant.group))
    path = find_model(model)
    _, judged = split_text(open_model(path), calibration, tokens)
    with tempfile.TemporaryDirectory(prefix="windward-pareto-") as scratch:
        made: dict[tuple[str, int, int], Path] = {}
        opened = []
        for variant in wanted:
            at = _prepared(variant, model, path, calibration, tokens, threads, Path(scratch), made)
            opened.append(_opened(variant, at, judged, threads))
            log.info("%s: perplexity %.3f", variant.name, opened[-1].perplexity)
        for _ in range(TURNS):
            for each in opened:
                _turn(each, judged)
        return mark([_point(each) for each in opened])


def _prepared(
    variant: Variant,
    model: str,
    path: Path,
    calibration: Path,
    tokens: int,
    threads: int,
    scratch: Path,
    made: dict[tuple[str, int, int], Path],
) -> Path:
    """The model's own path, or a folder with the variant's codes, made once for each scheme."""
    if variant.method is None:
        return path
    from windward_worker.quant.ptq import Scheme
    from windward_worker.quant.run import QuantizeRequest, quantize_model

    key = (variant.method, variant.bits, variant.group)
    if key not in made:
        log.info("quantising: %s, %d bits, groups of %d", *key)
        made[key] = scratch / "-".join(map(str, key))
        scheme = Scheme(*key)
        quantize_model(QuantizeRequest(model, made[key], calibration, scheme, tokens=tokens, threads=threads))
    return made[key]


def _opened(variant: Variant, path: Path, judged: list[int], threads: int) -> _Open:
    blocks = max(blocks_needed(), TOGETHER * ((PROMPT + ANSWER) // 16 + 2))
    opened = open_runner(path, blocks=blocks, weights=variant.weights, kv=variant.kv, threads=threads)
    memory = weight_bytes(opened) + REACH * opened.runner.kv_bytes_per_token
    return _Open(variant, opened, perplexity(opened.runner, judged), memory, [], [])


def weight_bytes(opened: Opened) -> float:
    """Bytes that the runner's weights take in memory; vectors are left out where they are packed."""
    model = getattr(opened.runner, "_model", None)
    if model is not None:
        return float(model.nbytes)
    return 4.0 * opened.runner.config.parameters  # torch's runner on a CPU dequantises


def _turn(each: _Open, judged: list[int]) -> None:
    """Four answers together; the tokens computed by second and by joule are the answers' own."""
    runner = each.opened.runner
    answer = min(ANSWER, runner.config.context - PROMPT - 1)
    engine = Engine(runner, limits=Limits(256, TOGETHER), prefix_cache=False)
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


def table(points: Seq[Point]) -> str:
    """For people: best perplexity first, the frontier starred."""
    rows = [f"{'':2}{'variant':16}{'perplexity':>12}{'J/token':>12}{'tokens/s':>11}{'MB':>10}"]
    for p in sorted(points, key=lambda p: p.perplexity):
        star = "  " if p.dominated else "* "
        rows.append(
            f"{star}{p.variant:16}{p.perplexity:12.3f}{p.joules_per_token:12.5f}{p.tokens_per_s:11.1f}{p.memory_mb:10.2f}"
        )
    methods = ", ".join(sorted({p.method for p in points}))
    return "\n".join([*rows, f"* on the frontier; joules are {methods}; MB with {REACH} tokens of KV cache"])


def documents(points: Seq[Point]) -> list[dict[str, object]]:
    """For programs."""
    return [asdict(p) for p in points]
