"""Hooks that any training may use."""

from __future__ import annotations

from collections.abc import Callable

from windward_worker.control import PauseRequest


class BaseHook:
    """A `Hook` that does nothing: override what is wanted."""

    def before_batch(self) -> None:
        """Nothing to do."""

    def after_step(self, step: int, loss: float, seconds: float) -> None:
        """Nothing to do."""


class PauseHook(BaseHook):
    """Unwinds with PauseRequested between micro-batches once a pause is requested."""

    def __init__(self, pause: PauseRequest) -> None:
        self._pause = pause

    def before_batch(self) -> None:
        self._pause.check()


class CheckpointHook(BaseHook):
    """Calls `save` after each `every` steps, but for the last step, which its caller keeps with the results."""

    def __init__(self, every: int, steps: int, save: Callable[[], None]) -> None:
        self._every = every
        self._steps = steps
        self._save = save

    def after_step(self, step: int, loss: float, seconds: float) -> None:
        if step % self._every == 0 and step < self._steps:
            self._save()
