"""The port to everything that can tell joules, and a helper that all counters share."""

from __future__ import annotations

from typing import Protocol

from windward_api.contract import Method


class Meter(Protocol):
    """The energy of one component since the meter was made.

    Promise: `read_j()` is 0 at first or close to it, never falls, never is NaN, and may be called from any one thread
    at any rate. It survives a wrap or reset of the counter below it: energy across a reset may be lost, never invented.
    It raises `MeterError` where the sensor cannot be read; the next call may work again. `close()` may be called twice.
    One conformance suite (`tests/worker/energy`) runs over all meters.
    """

    @property
    def component(self) -> str:
        """`cpu`, `gpu`, `dram` or `other`."""

    @property
    def method(self) -> Method:
        """How the joules come to be."""

    @property
    def source(self) -> str:
        """Where they come from: `nvml`, `rapl`, `model:cpu-time`, `model:declared`."""

    @property
    def max_w(self) -> float:
        """The most that the component can draw, in watts: readings above it are implausible."""

    def read_j(self) -> float:
        """Joules since this meter was made. Raises MeterError."""

    def close(self) -> None:
        """Let go of the sensor."""


class CounterSum:
    """Accumulates a raw counter that only grows, until it wraps at `wrap_at` or restarts from zero.

    A fall is a wrap where the energy that this implies is possible in the time passed at `max_w`, else a reset; then
    what the counter shows since its restart is counted, if that is possible. Units are the caller's; `max_rate` is in
    those units per second.
    """

    def __init__(self, first: float, at_s: float, *, max_rate: float, wrap_at: float | None = None) -> None:
        self.total = 0.0
        self.resets = 0
        self._last = first
        self._last_s = at_s
        self._max_rate = max_rate
        self._wrap_at = wrap_at

    def add(self, value: float, at_s: float) -> float:
        """Take in a reading at a monotonic time in seconds; returns the total."""
        possible = self._max_rate * (at_s - self._last_s + 1.0)  # a second of slack for sensors that update late
        step = value - self._last
        if step < 0:
            step = value - self._last + self._wrap_at if self._wrap_at is not None else -1.0
            if not 0 <= step <= possible:
                self.resets += 1
                step = value if value <= possible else 0.0
        self._last, self._last_s = value, at_s
        self.total += step
        return self.total
