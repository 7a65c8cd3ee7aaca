"""One optimiser step after another, for any model and loss. What training means beyond that comes as hooks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from windward_worker.checkpoint import Checkpoint
from windward_worker.control import Diverged
from windward_worker.train.optimiser import AdamW

FLOOR = 0.1  # of the peak learning rate, at the end
M = TypeVar("M", bound=nn.Module)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a tenth of the steps, at most 100; then a cosine down to FLOOR. A function of the step alone.

    Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts.
    """
    warm = min(100, max(1, steps // 10))
    if step < warm:
        return peak * (step + 1) / warm
    turn = (step - warm) / max(1, steps - warm)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * turn)))


class Batches(Protocol):
    """Where training examples come from. A batch is a function of its place alone, so a resume needs only the step."""

    def batch(self, first: int, size: int) -> Tensor:
        """Examples number `first` to `first + size` since the very start."""


class Hook(Protocol):
    """Takes part in a training: watches its steps, and may pause it by raising PauseRequested."""

    def before_batch(self) -> None:
        """Called before each micro-batch; nothing is lost if it raises."""

    def after_step(self, step: int, loss: float, seconds: float) -> None:
        """`step` steps are done; `loss` is the mean of the last one, which took `seconds`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many steps, of how many examples each (`batch_size` x `accumulation`), at which peak learning rate."""

    steps: int
    batch_size: int
    accumulation: int = 1
    learning_rate: float = 1e-3

    @property
    def examples_per_step(self) -> int:
        return self.batch_size * self.accumulation


class Trainer(Generic[M]):
    """Model, optimiser and place in the data. Given the same parts, step n is the same whatever happened before.

    (Bit for bit on the CPU with the same number of threads; on a GPU up to the order of its sums.)
    """

    def __init__(
        self,
        model: M,
        loss: Callable[[M, Tensor], Tensor],
        batches: Batches,
        schedule: Schedule,
        hooks: Sequence[Hook] = (),
    ) -> None:
        """`loss`: of a model on a batch, the mean over its examples, a scalar. The model lies on its device already."""
        self.model = model
        self.schedule = schedule
        self.step = 0
        self.hooks = list(hooks)
        self._loss = loss
        self._batches = batches
        self._names = [name for name, _ in model.named_parameters()]
        self._optimiser = AdamW(list(model.parameters()))
        self._device = next(model.parameters()).device

    def run(self) -> None:
        """Train to the last step. Raises Diverged, and whatever a hook raises."""
        while self.step < self.schedule.steps:
            begun_s = time.monotonic()
            loss = self.advance()
            seconds = time.monotonic() - begun_s
            for hook in self.hooks:
                hook.after_step(self.step, loss, seconds)

    def advance(self) -> float:
        """One optimiser step; returns its mean loss.

        Raises Diverged where loss or gradient is not finite, and whatever a hook raises before a micro-batch: then the
        step is as if never begun.
        """
        schedule = self.schedule
        first = self.step * schedule.examples_per_step
        total = 0.0
        self._optimiser.clear()
        for micro in range(schedule.accumulation):
            for hook in self.hooks:
                hook.before_batch()
            batch = self._batches.batch(first + micro * schedule.batch_size, schedule.batch_size)
            loss = self._loss(self.model, batch.to(self._device)) / schedule.accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise Diverged(f"step {self.step + 1}: the loss is {total}")
        rate = learning_rate(self.step, schedule.steps, schedule.learning_rate)
        try:
            self._optimiser.step(self.step + 1, rate)
        except Diverged as error:
            raise Diverged(f"step {self.step + 1}: {error}") from None
        self.step += 1
        return total

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """All tensors that training changes: kind, parameter name, tensor."""
        held = {"model": self._optimiser.weights, "mean": self._optimiser.mean, "square": self._optimiser.square}
        for kind, tensors in held.items():
            for name, tensor in zip(self._names, tensors, strict=True):
                yield kind, name, tensor

    def check_finite(self) -> None:
        """Raises Diverged where a weight, or a mean of its gradients, is not finite."""
        for kind, name, tensor in self._tensors():
            if not bool(torch.isfinite(tensor).all()):
                raise Diverged(f"step {self.step}: {kind} of {name} is not finite")

    def snapshot(self) -> dict[str, Tensor]:
        """All that `restore` needs besides the step. Raises Diverged where it is not finite."""
        self.check_finite()
        tensors = {f"{kind}.{name}": tensor.detach() for kind, name, tensor in self._tensors()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self._device)
        return tensors

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint whose tensors `snapshot` gave."""
        with torch.no_grad():
            for kind, name, tensor in self._tensors():
                tensor.copy_(checkpoint.tensors[f"{kind}.{name}"])
        torch.set_rng_state(checkpoint.tensors["rng.cpu"].clone())
        if self._device.type == "cuda" and "rng.cuda" in checkpoint.tensors:
            torch.cuda.set_rng_state(checkpoint.tensors["rng.cuda"].clone(), self._device)
        self.step = checkpoint.step
