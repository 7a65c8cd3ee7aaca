"""From a model's path to something that runs it here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windward_kernels.cpp import available, isa, why_not
from windward_worker.control.errors import refusing
from windward_worker.inference.blocks import PAGE
from windward_worker.inference.runner import CpuRunner, Runner
from windward_worker.model.packed import PackedModel, fits
from windward_worker.model.stored import FIX, ModelFile, open_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger("windward.infer")
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Opened:
    """A runner, and the file's tokenizer and chat template."""

    runner: Runner
    tokenizer: Tokenizer
    file: ModelFile


def blocks_for(sequences: int, tokens: int) -> int:
    """KV blocks with which so many sequences of so many tokens run without preemption."""
    return sequences * (-(-tokens // PAGE) + 1)


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
) -> Opened:
    """Open a model with the best runner for this machine: the GPU's, the compiled CPU one, or plain torch.

    `weights`: as the file has them (`stored`), or float32, int8, int4. The compiled runner honours `weights` and `kv`;
    torch's computes in float32 (CPU) or bfloat16 (GPU) and refuses other forms than its own. Raises Refused for these,
    and for a file that cannot be opened, whatever is wrong with it.
    """
    file = open_model(path)
    with refusing(file.name, FIX):
        return _opened(file, blocks=blocks, weights=weights, kv=kv, threads=threads, context=context)


def _opened(file: ModelFile, *, blocks: int, weights: str, kv: str, threads: int, context: int | None) -> Opened:
    gpu = _gpu()
    if not gpu and available() and fits(file.config):
        model = PackedModel(file, weights, context=context)
        log.info("%d MB of weights, kernels %s, %d threads", model.nbytes // 10**6, isa(), threads)
        return Opened(CpuRunner(model, blocks=blocks, kv=kv, threads=threads), file.tokenizer(), file)
    import torch

    from windward_worker.inference.torch_runner import TorchRunner
    from windward_worker.model.load import load_file

    if not gpu:
        log.warning("plain torch instead of the compiled kernels: %s", why_not() or "the model's heads do not fit")
        torch.set_num_threads(threads)
    loaded = load_file(file)
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    return Opened(TorchRunner(loaded.decoder.to(device, dtype), blocks=blocks), loaded.tokenizer, file)
