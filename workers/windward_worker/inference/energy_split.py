"""Whose joules these are: energy of the steps to the sequences that they served, the rest to idling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from windward_api.contract import Method
from windward_worker.energy import EnergyRecorder
from windward_worker.inference.sequence import Sequence


@dataclass(slots=True)
class EnergyUse:
    """Joules of a stretch; set when it closes."""

    joules: float = 0.0


class EnergySplit:
    """Reads the meter now and then and shares out what it shows.

    Of the joules since the last reading, the part of that time which steps took is split over the sequences by the
    floating-point operations of their tokens in it; what was drawn between steps is `idle_j`. A meter's reading costs
    milliseconds, so readings are at least `period_s` apart unless a sequence ends and must know its share.
    """

    def __init__(
        self, recorder: EnergyRecorder, *, period_s: float = 0.5, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._recorder = recorder
        self._monotonic = monotonic
        self._period_s = period_s
        recorder.sample()
        self._last_j, self._last_s = recorder.total_j, monotonic()
        self._busy_s = 0.0
        self._seen: dict[int, Sequence] = {}
        self.idle_j = 0.0
        self.active_j = 0.0

    @property
    def method(self) -> Method:
        return self._recorder.method

    @property
    def step_w(self) -> float:
        """Mean draw since the engine began, while stepping; 0 before the first reading."""
        return self._active_w

    _active_w = 0.0

    def step(self, seconds: float, sequences: Iterable[Sequence]) -> None:
        """A step took so long, for these sequences (their `flops` counted)."""
        self._busy_s += seconds
        self._seen.update((s.id, s) for s in sequences)
        ended = any(s.finish_reason is not None for s in self._seen.values())
        if ended or self._monotonic() - self._last_s > self._period_s:
            self.settle()

    def settle(self) -> None:
        """Read the meter and share out."""
        self._recorder.sample()
        joules, now_s = self._recorder.total_j, self._monotonic()
        drawn_j, passed_s = joules - self._last_j, now_s - self._last_s
        busy = min(1.0, self._busy_s / passed_s) if passed_s > 0 else 0.0
        flops = sum(s.flops for s in self._seen.values())
        active_j = drawn_j * busy if flops else 0.0
        for sequence in self._seen.values():
            sequence.joules += active_j * sequence.flops / flops if flops else 0.0
            sequence.flops = 0.0
        self.active_j += active_j
        self.idle_j += drawn_j - active_j
        if self._busy_s > 0:
            self._active_w = active_j / self._busy_s
        self._last_j, self._last_s, self._busy_s = joules, now_s, 0.0
        self._seen.clear()

    @contextmanager
    def measure_apart(self) -> Iterator[EnergyUse]:
        """Measure work between two steps that belongs to none of the sequences."""
        self.settle()
        idle_j, use = self.idle_j, EnergyUse()
        try:
            yield use
        finally:
            self.settle()
            use.joules = self.idle_j - idle_j
            self.idle_j = idle_j
            self.active_j += use.joules
