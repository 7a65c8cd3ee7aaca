"""One operation, one signature, several ways to compute it.

An `Op` is a reference in plain torch (the definition: short, slow, exact) and fast paths that must agree with it
within the op's tolerance; `tests/kernels` holds every path to that. The cost model gives the arithmetic and the
memory traffic that the definition needs at least, whichever path runs: rooflines and energy attribution use it.

The backend is chosen once, when the first op runs, by the device at hand: a GPU; Triton's interpreter where
TRITON_INTERPRET=1 asks for it (to test kernels without a GPU); else the CPU. `WINDWARD_KERNELS=reference` forces the
references, to tell a wrong kernel from a wrong model.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

ENV_BACKEND = "WINDWARD_KERNELS"
ENV_INTERPRET = "TRITON_INTERPRET"  # triton's own name; it reads it when it is imported


@dataclass(frozen=True, slots=True)
class Cost:
    """The least that an op must do: floating-point operations, and bytes moved to and from memory."""

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class FastPath(Generic[P, R]):
    """Another way to compute an op: its name, the device types it runs on, the function, and whether it can run here.

    `ready` is asked when a call first wants the path, not before: it may build what it needs.
    """

    name: str
    devices: frozenset[str]
    run: Callable[P, R]
    ready: Callable[[], bool] = lambda: True


class Op(Generic[P, R]):
    """An operation. Calling it runs the best path for the chosen device; `reference` is the definition.

    `tolerance` is, by dtype, the largest relative error (max abs difference over max abs reference) of a fast path.
    """

    def __init__(
        self, reference: Callable[P, R], cost: Callable[..., Cost], tolerance: dict[torch.dtype, float]
    ) -> None:
        self.name = reference.__name__
        self.reference = reference
        self.cost = cost
        self.tolerance = tolerance
        self.fast_paths: list[FastPath[P, R]] = []
        self._chosen: Callable[P, R] | None = None
        functools.update_wrapper(self, reference)

    def fast(
        self, name: str, *devices: str, ready: Callable[[], bool] = lambda: True
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Register the decorated function as a fast path on these device types; the last registered is preferred."""

        def register(run: Callable[P, R]) -> Callable[P, R]:
            self.fast_paths.append(FastPath(name, frozenset(devices), run, ready))
            self._chosen = None
            return run

        return register

    def path(self) -> tuple[str, Callable[P, R]]:
        """The name and function that a call runs on the chosen device."""
        chosen = device()
        if chosen != "reference":
            for fast in reversed(self.fast_paths):
                if chosen in fast.devices and fast.ready():
                    return fast.name, fast.run
        return "reference", self.reference

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._chosen is None:
            self._chosen = self.path()[1]
        return self._chosen(*args, **kwargs)


REGISTRY: dict[str, Op[..., object]] = {}


def op(
    *, cost: Callable[..., Cost], tolerance: dict[torch.dtype, float] | None = None
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Make the decorated reference an `Op` and enter it in `REGISTRY`."""

    def register(reference: Callable[P, R]) -> Op[P, R]:
        made = Op(reference, cost, tolerance or DEFAULT_TOLERANCE)
        REGISTRY[made.name] = made  # type: ignore[assignment]  # ParamSpec is invariant
        return made

    return register


DEFAULT_TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@functools.cache
def device() -> str:
    """Whose paths run: `cuda`, `interpreter`, `cpu`, or `reference` where the environment asks for it."""
    asked = os.environ.get(ENV_BACKEND, "auto")
    if asked == "reference":
        return "reference"
    if asked != "auto":
        raise ValueError(f"{ENV_BACKEND}={asked!r} is not known; set auto or reference, or unset it")
    if torch.cuda.is_available():
        return "cuda"
    return "interpreter" if os.environ.get(ENV_INTERPRET) == "1" else "cpu"


def triton_here() -> bool:
    """Whether Triton's paths are of use: a GPU, or its interpreter asked for, and the package installed."""
    wanted = torch.cuda.is_available() or os.environ.get(ENV_INTERPRET) == "1"
    return wanted and importlib.util.find_spec("triton") is not None
