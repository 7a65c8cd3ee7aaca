"""One operation, one signature, several ways to compute it.

An `Op` is a reference in plain torch (the definition: short, slow, exact) and fast paths that must agree with it
within the op's tolerance; `tests/kernels` holds every path to that. The cost model gives the arithmetic and the
memory traffic that the definition needs at least, whichever path runs: rooflines and energy attribution use it.

The backend is chosen once, when the first op runs, by the device at hand: a GPU; Triton's interpreter where
TRITON_INTERPRET=1 asks for it (to test kernels without a GPU); else the CPU. `WINDWARD_KERNELS=reference` forces the
references, to tell a wrong kernel from a wrong model.

A path of somebody else's (torch's, over oneDNN or cuDNN) is proven before it first runs: on the op's probes, which are
degenerate shapes (sizes of 0 and 1, odd, non-contiguous), on the processor at hand. Where it is wrong, the next path
runs, at last the definition, and a warning says so. (torch 2.11's int8 product is garbage for an inner size of 1 on a
CPU with VNNI, and for most shapes where oneDNN is kept from using it.)
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

ENV_BACKEND = "WINDWARD_KERNELS"
ENV_INTERPRET = "TRITON_INTERPRET"  # triton's own name; it reads it when it is imported
SLACK = 10.0  # tolerances by which a probe may miss: what is proven is the kernel, not its rounding

Probe = Callable[[], Iterator[tuple[tuple[Any, ...], dict[str, Any]]]]  # arguments of calls, float32 on the CPU

log = logging.getLogger("windward.kernels")


@dataclass(frozen=True, slots=True)
class Cost:
    """The least that an op must do: floating-point operations, and bytes moved to and from memory."""

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class FastPath(Generic[P, R]):
    """Another way to compute an op: its name, the device types it runs on, the function, and whether it can run here.

    `ready` is asked when a call first wants the path, not before: it may build what it needs. `foreign`: the kernel is
    not ours, so it is proven on the op's probes first.
    """

    name: str
    devices: frozenset[str]
    run: Callable[P, R]
    ready: Callable[[], bool] = lambda: True
    foreign: bool = False


class Op(Generic[P, R]):
    """An operation. Calling it runs the best path for the chosen device; `reference` is the definition.

    `tolerance` is, by dtype, the largest relative error (max abs difference over max abs reference) of a fast path.
    """

    def __init__(
        self,
        reference: Callable[P, R],
        cost: Callable[..., Cost],
        tolerance: dict[torch.dtype, float],
        probe: Probe | None = None,
    ) -> None:
        self.name = reference.__name__
        self.reference = reference
        self.cost = cost
        self.tolerance = tolerance
        self.probe = probe
        self.fast_paths: list[FastPath[P, R]] = []
        self._chosen: Callable[P, R] | None = None
        self._faults: dict[str, str] = {}
        functools.update_wrapper(self, reference)

    def fast(
        self, name: str, *devices: str, ready: Callable[[], bool] = lambda: True
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Register the decorated function as a fast path on these device types; the last registered is preferred.

        A path whose name begins with `torch` is foreign.
        """

        def register(run: Callable[P, R]) -> Callable[P, R]:
            self.fast_paths.append(FastPath(name, frozenset(devices), run, ready, name.startswith("torch")))
            self._chosen = None
            return run

        return register

    def path(self) -> tuple[str, Callable[P, R]]:
        """The name and function that a call runs on the chosen device."""
        chosen = device()
        if chosen != "reference":
            for fast in reversed(self.fast_paths):
                if chosen in fast.devices and fast.ready() and not self.fault(fast):
                    return fast.name, fast.run
        return "reference", self.reference

    def fault(self, fast: FastPath[P, R]) -> str:
        """What is wrong with a path on this device; empty where nothing is, or where the path is ours. Looked at once.

        Leaves torch's own generator as it was.
        """
        if not fast.foreign or self.probe is None:
            return ""
        if fast.name not in self._faults:
            self._faults[fast.name] = fault = _disproof(self, fast, self.probe)
            if fault:
                log.warning(
                    "%s: the path %s is wrong on this processor and is not used: %s", self.name, fast.name, fault
                )
        return self._faults[fast.name]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._chosen is None:
            self._chosen = self.path()[1]
        return self._chosen(*args, **kwargs)


def _disproof(operation: Op[..., Any], fast: FastPath[..., Any], probe: Probe) -> str:
    """The first probe that a path fails, in words; empty where it agrees with the definition on all of them."""
    where = "cuda" if device() == "cuda" else "cpu"
    limit = SLACK * operation.tolerance[torch.float32]
    for args, options in probe():
        args, options = on_device(args, where), on_device(options, where)
        try:
            with torch.no_grad():
                got, expected = fast.run(*args, **options), operation.reference(*args, **options)
        except Exception as error:  # whatever it raises: it is not used
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
        for a, b in pairs:
            if a.shape != b.shape or a.dtype != b.dtype:
                return f"{tuple(a.shape)} {a.dtype} instead of {tuple(b.shape)} {b.dtype}"
            off = float((a.double() - b.double()).abs().max()) if b.numel() else 0.0
            if not off <= limit * max(float(b.double().abs().max()) if b.numel() else 0.0, 1e-6):
                sizes = ", ".join(str(tuple(x.shape)) for x in args if isinstance(x, torch.Tensor))
                return f"off by {off:.1e} for arguments of {sizes}"
    return ""


def on_device(x: Any, where: str) -> Any:
    """Tensors of a probe on a device, inside tuples, dicts and dataclasses of ours too."""
    if where == "cpu":
        return x
    if isinstance(x, torch.Tensor):
        return x.to(where)
    if isinstance(x, tuple):
        return tuple(on_device(each, where) for each in x)
    if isinstance(x, dict):
        return {key: on_device(each, where) for key, each in x.items()}
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return dataclasses.replace(x, **{f.name: on_device(getattr(x, f.name), where) for f in dataclasses.fields(x)})
    return x


REGISTRY: dict[str, Op[..., object]] = {}


def op(
    *, cost: Callable[..., Cost], tolerance: dict[torch.dtype, float] | None = None, probe: Probe | None = None
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """Make the decorated reference an `Op` and enter it in `REGISTRY`. `probe`: what foreign paths are proven on."""

    def register(reference: Callable[P, R]) -> Op[P, R]:
        operation = Op(reference, cost, tolerance or DEFAULT_TOLERANCE, probe)
        REGISTRY[operation.name] = operation  # type: ignore[assignment]  # ParamSpec is invariant
        return operation

    return register


DEFAULT_TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@functools.cache
def device() -> str:
    """Whose paths run: `cuda`, `interpreter`, `cpu`, or `reference` where the environment asks for it."""
    backend = os.environ.get(ENV_BACKEND, "auto")
    if backend == "reference":
        return "reference"
    if backend != "auto":
        raise ValueError(f"{ENV_BACKEND}={backend!r} is not known; set auto or reference, or unset it")
    if torch.cuda.is_available():
        return "cuda"
    return "interpreter" if os.environ.get(ENV_INTERPRET) == "1" else "cpu"


def triton_here() -> bool:
    """Whether Triton's paths are of use: a GPU, or its interpreter asked for, and the package installed."""
    wanted = torch.cuda.is_available() or os.environ.get(ENV_INTERPRET) == "1"
    return wanted and importlib.util.find_spec("triton") is not None
