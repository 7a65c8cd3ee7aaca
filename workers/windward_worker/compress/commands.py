"""The commands `quantize` and `pareto`: their arguments, and what they print. Heavy libraries come when one runs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from windward_worker.control import Refused, write_atomic

if TYPE_CHECKING:
    from argparse import _SubParsersAction

COMMANDS = ("quantize", "pareto")


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both. Words and numbers are checked when the command runs, so that one voice refuses."""
    quantize = commands.add_parser("quantize", help="round a model's weights to 4 or 8 bits, and say what that costs")
    pareto = commands.add_parser("pareto", help="perplexity, joules, speed and memory of a model's variants")
    for command in (quantize, pareto):
        command.add_argument("--model", required=True, help="a .gguf file, a model folder, or a package with one")
        command.add_argument("--calibration", required=True, type=Path, help="a text file; its last fifth is the judge")
        command.add_argument("--tokens", type=int, default=4096, help="of the text to calibrate on, at most")
        command.add_argument("--threads", type=int, default=1, help="CPU threads")
        command.add_argument("-o", "--output", default="table", help="table or json")
    quantize.add_argument("--method", default="gptq", help="rtn, gptq, awq, smoothquant or mixed")
    quantize.add_argument("--bits", type=int, help="4 or 8 (default: 4; mixed chooses)")
    quantize.add_argument("--group", type=int, default=32, help="columns that share a scale: 32, 64 or 128")
    quantize.add_argument("--budget", type=float, help="mixed: mean stored bits a weight, with scales (default: 6)")
    quantize.add_argument(
        "--out", required=True, type=Path, help="the folder to write; one that holds a model is replaced"
    )
    pareto.add_argument("--variants", help="names or folders, by comma, such as float32,int4+kv8,gptq-g128,./mine")
    pareto.add_argument(
        "--confidence",
        help="instead: four bits of a key where attention is sure, from shares by comma, such as never,0.9,0.5,0",
    )
    pareto.add_argument("--svg", type=Path, help="write the frontier as an SVG page")


def run_command(arguments: argparse.Namespace) -> int:
    """Run one of COMMANDS; returns 0. Raises Refused, OSError."""
    if arguments.output not in ("table", "json"):
        raise Refused(f"--output: {arguments.output!r} is not known; give table or json")
    if arguments.threads < 1:
        raise Refused(f"--threads: {arguments.threads}; give 1 or more")
    return _quantize(arguments) if arguments.command == "quantize" else _pareto(arguments)


def _quantize(arguments: argparse.Namespace) -> int:
    from windward_worker.compress.recipe import Scheme
    from windward_worker.compress.recipes import RECIPES
    from windward_worker.compress.run import QuantizeRequest, quantize

    recipe = RECIPES.get(arguments.method)
    chooses = recipe is not None and recipe.chooses_bits
    if chooses and arguments.bits is not None:
        raise Refused(
            f"--bits: {arguments.bits}, but {arguments.method} chooses the bits of each layer; give --budget instead"
        )
    if not chooses and arguments.budget is not None:
        raise Refused(f"--budget: {arguments.budget:g} is for --method mixed alone; leave it out, or choose mixed")
    budget = 6.0 if arguments.budget is None else arguments.budget
    scheme = Scheme(arguments.method, arguments.bits or 4, arguments.group, budget)
    request = QuantizeRequest(
        arguments.model, arguments.out, arguments.calibration, scheme, arguments.tokens, arguments.threads
    )
    report = quantize(request)
    if arguments.output == "json":
        sys.stdout.write(json.dumps(report) + "\n")
        return 0
    before, after = report["perplexity_before"], report["perplexity_after"]
    left = f"; left in float: {', '.join(report['left_in_float'])}" if report["left_in_float"] else ""
    sys.stdout.write(
        f"{report['out']}: {report['method']}, {report['mean_bits']:.2f} bits a weight in the blocks, "
        f"{report['bytes'] / 1e6:.2f} MB{left}\n"
        f"perplexity of {report['perplexity_tokens']} tokens: {before:.4f} before, {after:.4f} after "
        f"({100 * (after / before - 1):+.2f} %)\n"
    )
    return 0


def _confidence(arguments: argparse.Namespace) -> int:
    import torch

    from windward_worker.compress.confident import NEVER, measure_confidence, table
    from windward_worker.compress.run import find_model, split_text
    from windward_worker.model import load_path, open_model

    try:
        words = [word.strip() for word in arguments.confidence.split(",")]
        thresholds = [NEVER if word == "never" else float(word) for word in words]
    except ValueError as error:
        raise Refused(f"--confidence: {arguments.confidence!r}: {error}; give shares such as never,0.9,0.5,0") from None
    path = find_model(arguments.model)
    _, judged = split_text(open_model(path), arguments.calibration, arguments.tokens)
    torch.set_num_threads(arguments.threads)
    measured = measure_confidence(load_path(path).decoder, judged, thresholds)
    if arguments.output == "json":
        sys.stdout.write(json.dumps({"model": arguments.model, "confidence": [asdict(c) for c in measured]}) + "\n")
    else:
        sys.stdout.write(table(measured) + "\n")
    return 0


def _pareto(arguments: argparse.Namespace) -> int:
    if arguments.confidence is not None:
        for name in ("variants", "svg"):
            if getattr(arguments, name) is not None:
                raise Refused(f"--{name}: has no part in --confidence, which measures one model; leave one of them out")
        return _confidence(arguments)
    from windward_worker.compress.page import page
    from windward_worker.compress.pareto import DEFAULT, documents, pareto, table

    names = [n.strip() for n in arguments.variants.split(",")] if arguments.variants else DEFAULT
    frontier = pareto(arguments.model, arguments.calibration, names, tokens=arguments.tokens, threads=arguments.threads)
    points, left_out = frontier.points, frontier.left_out
    title = f"{Path(arguments.model).name}: accuracy and energy"
    if arguments.svg is not None:
        write_atomic(arguments.svg, page(points, title, left_out).encode())
    document = {"model": arguments.model, "points": documents(points), "left_out": dict(left_out)}
    if arguments.output == "json":
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.write(table(points, left_out) + "\n")
    return 0
