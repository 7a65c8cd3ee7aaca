"""Launch options tried on this GPU, the fastest kept: `python -m windward_kernels.triton` writes tuned.json anew.

A trial runs the operation as its callers do, is held to its definition, and is timed by CUDA events; options that do
not compile, do not fit or compute something else are passed over. Entries of other GPUs stay.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from windward_kernels import GroupedWeight, Pages, RowWeight
from windward_kernels.grouped import grouped_linear
from windward_kernels.pages import paged_decode
from windward_kernels.products import w8a8_linear
from windward_kernels.ragged import ragged_attention
from windward_kernels.registry import Op
from windward_kernels.triton import decode, flash, grouped, launch
from windward_kernels.triton.paths import proven

log = logging.getLogger("windward.kernels")
Timer = Callable[[Callable[[], Any]], float]  # median milliseconds of a call


@dataclass(frozen=True, slots=True)
class Trial:
    """A kernel at one size: its operation, how it is launched, the inputs, and the options worth trying."""

    kernel: str
    size: int
    op: Op[..., Any]
    run: Callable[..., Any]
    inputs: Callable[[], tuple[Any, ...]]
    options: Mapping[str, Sequence[int]]

    def candidates(self) -> Iterator[dict[str, int]]:
        """Every combination."""
        for values in itertools.product(*self.options.values()):
            yield dict(zip(self.options, values, strict=True))


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def _flash(head_dim: int) -> tuple[Any, ...]:
    ends = torch.tensor([0, 2048, 4096], dtype=torch.int32, device="cuda")
    return _draw(4096, 8, head_dim), _draw(4096, 2, head_dim), _draw(4096, 2, head_dim), ends, ends


def _decode(head_dim: int) -> tuple[Any, ...]:
    pages = Pages.empty(16 * 256, 16, 8, head_dim, torch.bfloat16, "cuda")
    for side in (pages.keys, pages.values):
        side.normal_()
    table = torch.arange(16 * 256, dtype=torch.int32, device="cuda").reshape(16, 256)
    return _draw(16, 32, head_dim), pages, table, torch.full((16,), 4096, dtype=torch.int32, device="cuda")


def _grouped(cols: int) -> tuple[Any, ...]:
    scale = torch.rand(4096, cols // 128, device="cuda") * 0.1
    codes = torch.randint(0, 16, (4096, cols), device="cuda")
    return _draw(16, cols), GroupedWeight.of(codes, scale, -8 * scale, 128)


def _w8a8(cols: int) -> tuple[Any, ...]:
    return _draw(256, cols), RowWeight.of(_draw(4096, cols))


SPEED = {"num_warps": (4, 8), "num_stages": (2, 3, 4)}


def trials() -> list[Trial]:
    """What is tuned: heads of 64 and 128, products of 2048 and 4096 columns."""
    listed: list[Trial] = []
    for head_dim in (64, 128):
        tiles = {"TILE_Q": (64, 128), "TILE_K": (32, 64, 128), **SPEED}
        inputs = (lambda d=head_dim: _flash(d)), (lambda d=head_dim: _decode(d))
        listed.append(Trial("flash", head_dim, ragged_attention, flash.ragged_attention, inputs[0], tiles))
        keys = {"TILE_K": (16, 32, 64, 128), **SPEED}
        listed.append(Trial("decode", head_dim, paged_decode, decode.paged_decode, inputs[1], keys))
    for cols in (2048, 4096):
        inputs = (lambda c=cols: _grouped(c)), (lambda c=cols: _w8a8(c))
        narrow = {"TILE_M": (16, 32), "TILE_N": (32, 64, 128), **SPEED}
        listed.append(Trial("grouped", cols, grouped_linear, grouped.grouped_linear, inputs[0], narrow))
        wide = {"TILE_M": (64, 128), "TILE_N": (64, 128), "TILE_K": (64, 128), **SPEED}
        listed.append(Trial("w8a8", cols, w8a8_linear, grouped.w8a8_linear, inputs[1], wide))
    return listed


def fastest(trial: Trial, timer: Timer) -> dict[str, int] | None:
    """The options of the quickest right candidate, `None` where none is quicker than the kernel's own choice."""
    args = trial.inputs()
    best, least = None, timer(lambda: trial.run(*args))
    for options in trial.candidates():
        launch._trial[trial.kernel] = options
        try:
            if proven(trial.op, trial.run, lambda: args):
                took = timer(lambda: trial.run(*args))
                if took < least:
                    best, least = options, took
        finally:
            del launch._trial[trial.kernel]
    log.info("%s at %d: %s, %.4f ms", trial.kernel, trial.size, best or "as it was", least)
    return best


def tune(name: str, chosen: Sequence[Trial], timer: Timer, path: Path = launch.TUNED) -> dict[str, Any]:
    """Tune for the GPU of this name and write the table; returns its entry."""
    document = json.loads(path.read_text())
    entry: dict[str, Any] = {}
    for trial in chosen:
        options = fastest(trial, timer)
        if options is not None:
            entry.setdefault(trial.kernel, {})[str(trial.size)] = options
    document["gpus"][name] = entry
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return entry
