"""`quantize`: a model and a text in, a folder of codes out that every runner opens, perplexity before and after."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from windward_worker.compress.calibrate import windows_of
from windward_worker.compress.grid import BITS, GROUPS
from windward_worker.compress.perplexity import blocks_needed, perplexity
from windward_worker.compress.ptq import quantise
from windward_worker.compress.recipe import QuantisationResult, Scheme
from windward_worker.compress.recipes import RECIPES
from windward_worker.control import Refused
from windward_worker.inference import open_runner
from windward_worker.model import ModelFile, open_model, package_file
from windward_worker.model.load import load_file, write_folder

log = logging.getLogger("windward.quantize")
WINDOW = 256  # tokens of a calibration window
EVALUATED = 2048  # tokens, at most, of the text's last fifth, which calibration never sees


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """The command's arguments. `tokens`: of calibration text, at most."""

    model: str
    out: Path
    calibration: Path
    scheme: Scheme
    tokens: int = 4096
    threads: int = 1


def find_model(name: str) -> Path:
    """A .gguf file, a model folder, or the name of an installed package that holds one. Raises Refused."""
    path = Path(name)
    if path.exists():
        return path
    if path.suffix or len(path.parts) != 1:
        raise Refused(f"--model: {name} does not exist; give a .gguf file, a model folder or a package's name")
    return package_file(name)


def split_text(file: ModelFile, path: Path, tokens: int) -> tuple[list[int], list[int]]:
    """Token ids to calibrate on, and to judge by: the text's last fifth. Raises Refused."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise Refused(f"--calibration: {path} cannot be read: {error.strerror}; give a text file") from error
    ids = file.tokenizer().encode(text[: 40 * (tokens + EVALUATED)]).ids
    cut = len(ids) * 4 // 5
    if cut < 64 or len(ids) - cut < 16:
        raise Refused(f"--calibration: {path} has {len(ids)} tokens; give a text of 80 or more, better thousands")
    return ids[:cut], ids[cut:][:EVALUATED]


def check_scheme(scheme: Scheme) -> None:
    """Raises Refused with the name of what is wrong."""
    if scheme.method not in RECIPES:
        raise Refused(f"--method: {scheme.method!r} is not known; give one of {', '.join(RECIPES)}")
    if scheme.bits not in BITS:
        raise Refused(f"--bits: {scheme.bits} is not known; give 4 or 8")
    if scheme.group not in GROUPS:
        raise Refused(f"--group: {scheme.group} is not known; give one of {', '.join(map(str, GROUPS))}")
    RECIPES[scheme.method].check(scheme)


def measure(path: Path, ids: list[int], *, weights: str = "stored", threads: int = 1) -> float:
    """Perplexity of a model with the best runner of this machine and a float32 cache. Raises Refused."""
    opened = open_runner(path, blocks=blocks_needed(), weights=weights, kv="float32", threads=threads)
    return perplexity(opened.runner, ids)


def quantize_model(request: QuantizeRequest) -> QuantisationResult:
    """Quantise and write; returns what was done. Raises Refused, OSError."""
    check_scheme(request.scheme)
    if request.tokens < 64:
        raise Refused(f"--tokens: {request.tokens} are too few to calibrate on; give 64 or more")
    path = find_model(request.model)
    if request.out.exists() and not (request.out / "config.json").is_file():
        raise Refused(f"--out: {request.out} exists and is no model folder; give a new one")
    torch.set_num_threads(request.threads)
    file = open_model(path)
    ids, _ = split_text(file, request.calibration, request.tokens)
    length = min(WINDOW, file.config.max_position_embeddings, len(ids))
    windows = windows_of(ids, length, max(1, min(request.tokens, len(ids)) // length))
    loaded = load_file(file)
    result = quantise(
        loaded.decoder, windows, request.scheme, lambda i: log.info("layer %d/%d", i + 1, file.config.num_hidden_layers)
    )
    weights = {
        name: tensor.detach().contiguous()
        for name, tensor in loaded.decoder.state_dict().items()
        if name not in result.matrices
    }
    for name, matrix in result.matrices.items():
        weights |= matrix.tensors(name)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    more = {"quantization_config": described(request.scheme, result)}
    write_folder(weights, file.config, loaded.tokenizer, request.out, more=more, template=file.chat_template())
    return result


def described(scheme: Scheme, result: QuantisationResult) -> dict[str, Any]:
    """For config.json. Other libraries do not know `quant_method` windward, and say so instead of misreading it."""
    description: dict[str, Any] = {"quant_method": "windward", "method": scheme.method, "bits": scheme.bits}
    description |= {"group_size": scheme.group, "mean_bits": round(result.mean_bits, 3), "left_in_float": result.left}
    return {**description, **RECIPES[scheme.method].describe(scheme, result)}


def quantize(request: QuantizeRequest) -> dict[str, Any]:
    """The command: perplexity of the text's last fifth before, quantise, and after. Raises Refused, OSError."""
    check_scheme(request.scheme)
    path = find_model(request.model)
    _, judged = split_text(open_model(path), request.calibration, request.tokens)
    before = measure(path, judged, weights="float32", threads=request.threads)
    result = quantize_model(request)
    after = measure(request.out, judged, threads=request.threads)
    errors = list(result.errors.values())
    return {
        "out": str(request.out),
        **described(request.scheme, result),
        "perplexity_before": round(before, 4),
        "perplexity_after": round(after, 4),
        "perplexity_tokens": len(judged) - 1,
        "output_error": round(sum(errors) / max(1, len(errors)), 6),
        "bytes": sum(f.stat().st_size for f in request.out.glob("*.safetensors")),
    }
