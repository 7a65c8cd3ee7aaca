"""From a model's path to something that runs it here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windward_kernels.cpp import available, isa, why_not
from windward_kernels.cpp.library import KV_GROUP
from windward_worker.control import Refused
from windward_worker.control.errors import refusing
from windward_worker.inference.block_manager import BLOCK_SIZE
from windward_worker.inference.runner import CpuRunner, Runner
from windward_worker.model.config import ModelConfig
from windward_worker.model.families import family_of
from windward_worker.model.packed import PackedModel, fits_cpu_kernels
from windward_worker.model.stored import FIX, ModelFile, open_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger("windward.infer")
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A runner, and the file's tokenizer and chat template."""

    runner: Runner
    tokenizer: Tokenizer
    file: ModelFile


def compiled(config: ModelConfig) -> bool:
    """Whether the compiled CPU kernels run such a model here; else torch does."""
    return not _gpu() and available() and fits_cpu_kernels(config)


def block_bytes(config: ModelConfig, weights: str, kv: str) -> int:
    """Bytes of keys and values that one KV block takes over all layers, with the runner that `open_runner` chooses."""
    state = family_of(config).state(config)
    if not compiled(config):
        return state.numbers_per_token * BLOCK_SIZE * (4 if _wide(weights, kv) else 2)
    heads = 2 * state.layers * state.heads  # of keys and of values
    halves = {"int8": BLOCK_SIZE, "int4": -(-state.head_dim // KV_GROUP) * 2 * BLOCK_SIZE}.get(kv, 0)
    bits = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}[kv]
    return heads * (BLOCK_SIZE * state.head_dim * bits // 8 + 2 * halves)


def _wide(weights: str, kv: str) -> bool:
    """Whether torch's runner computes in float32: always on a CPU, and where it is asked for."""
    return not _gpu() or "float32" in (weights, kv)


def blocks_for(sequences: int, tokens: int) -> int:
    """KV blocks with which so many sequences of so many tokens run without preemption."""
    return sequences * (-(-tokens // BLOCK_SIZE) + 1)


def _gpu() -> bool:
    """Whether a GPU can be used; torch, which takes seconds to import, is asked only where a driver is loaded."""
    if not DRIVER.exists():
        return False
    import torch

    return torch.cuda.is_available()


def open_runner(
    path: Path,
    *,
    blocks: int,
    weights: str = "stored",
    kv: str = "float16",
    threads: int = 1,
    context: int | None = None,
) -> OpenedModel:
    """Open a model with the best runner for this machine: the GPU's, the compiled CPU one, or plain torch.

    `weights`: as the file has them (`stored`), or float32, int8, int4. The compiled runner honours `weights` and `kv`;
    torch's computes in float32, or in bfloat16 on a GPU unless float32 is asked for. Raises Refused for a form that the
    runner does not have, and for a file that cannot be opened, whatever is wrong with it.
    """
    file = open_model(path)
    with refusing(file.name, FIX):
        return _opened(file, blocks=blocks, weights=weights, kv=kv, threads=threads, context=context)


def _opened(file: ModelFile, *, blocks: int, weights: str, kv: str, threads: int, context: int | None) -> OpenedModel:
    gpu = _gpu()
    if compiled(file.config):
        model = PackedModel(file, weights, context=context)
        log.info("%d MB of weights, kernels %s, %d threads", model.nbytes // 10**6, isa(), threads)
        return OpenedModel(CpuRunner(model, blocks=blocks, kv=kv, threads=threads), file.tokenizer(), file)
    import torch

    from windward_worker.inference.torch_runner import TorchRunner
    from windward_worker.model.load import load_file

    if not gpu:
        log.warning("plain torch instead of the compiled kernels: %s", why_not() or "the model's heads do not fit")
        torch.set_num_threads(threads)
    if weights not in ("stored", "float32") or kv not in ("float16", "float32"):
        why = "on a GPU" if gpu else why_not() or "the model's heads do not fit the compiled kernels"
        raise Refused(
            f"weights {weights} with keys and values in {kv}: plain torch runs here, in float ({why}); drop both"
        )
    loaded = load_file(file, context)
    device, dtype = "cuda" if gpu else "cpu", torch.float32 if _wide(weights, kv) else torch.bfloat16
    return OpenedModel(TorchRunner(loaded.decoder.to(device, dtype), blocks=blocks), loaded.tokenizer, file)
