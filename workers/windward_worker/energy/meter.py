"""The port to everything that can tell joules, and what all counters share."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from windward_api.contract import Method
from windward_worker.control.errors import MeterError

RESET_GAP_S = 10.0  # a counter that restarts within a longer silence does not show what was drawn before


class DeviceAbsent(MeterError):
    """There is no such device: nothing of it is left uncounted."""


class EnergyUnknown(MeterError):
    """The energy since the last reading cannot be told, not later either; the meter counts on from here.

    Attributes:
        at_least_j: what was drawn at the least.
        shared: the device works for others too: what it drew before says nothing about this work's share.
    """

    def __init__(self, why: str, *, at_least_j: float = 0.0, shared: bool = False) -> None:
        super().__init__(why)
        self.at_least_j = at_least_j
        self.shared = shared


def boot_s() -> float:
    """Seconds of a clock that goes on while the machine is suspended, as counters and emissions do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Meter(Protocol):
    """The energy that one component spent on this work since the meter was made.

    Promise: `read_j()` is 0 at first or close to it, never falls, never is NaN, and may be called from any one thread
    at any rate. It survives a wrap or reset of the counter below it. It raises `MeterError` where the sensor cannot be
    read: a later call may work and then counts what was missed, but for `EnergyUnknown`. `close()` may be called twice.
    `method`, `source` and `max_w` are of the step that was read last. A meter of several devices lists their meters as
    `parts`, so that each may fail alone; one that knows what its counter showed beyond this work tells it as `idle_j`
    and `others_j`. One conformance suite (`tests/worker/energy`) runs over all meters.
    """

    @property
    def component(self) -> str:
        """`cpu`, `gpu`, `dram` or `other`."""

    @property
    def method(self) -> Method:
        """How the joules come to be."""

    @property
    def source(self) -> str:
        """Where they come from, such as `nvml` or `rapl x cpu-time share`."""

    @property
    def max_w(self) -> float:
        """The most that the component can draw, in watts: readings above it are implausible."""

    def read_j(self) -> float:
        """Joules since this meter was made. Raises MeterError."""

    def close(self) -> None:
        """Let go of the sensor."""


def parts_of(meter: Meter) -> tuple[Meter, ...]:
    """The meters of single devices that a meter is made of; itself where it is one."""
    parts: tuple[Meter, ...] = getattr(meter, "parts", (meter,))
    return parts


class CounterSum:
    """Accumulates a raw counter that only grows, until it wraps at `wrap_at` or restarts from zero.

    A fall is a wrap where the energy that this implies is possible in the time passed at the most plausible rate, else
    a reset; then what the counter shows since its restart is counted, if that is possible. Units are the caller's;
    rates are in those units per second.
    """

    def __init__(self, first: float, at_s: float, *, wrap_at: float | None = None) -> None:
        self.total = 0.0
        self.resets = 0
        self._last = first
        self._last_s = at_s
        self._wrap_at = wrap_at

    def add(self, value: float, at_s: float, max_rate: float) -> float:
        """Take in a reading at a monotonic time in seconds; returns what was added.

        Raises EnergyUnknown where the counter may have wrapped more than once, or restarted after a long silence.
        """
        gap_s = at_s - self._last_s
        step = value - self._last
        self._last, self._last_s = value, at_s
        if self._wrap_at is not None and max_rate * gap_s >= self._wrap_at:
            why = f"its counter was not read for {gap_s:.0f} s and may have wrapped more than once"
            raise EnergyUnknown(why, at_least_j=step if step >= 0 else max(0.0, step + self._wrap_at))
        if step < 0:
            step = self._fallen(step, value, gap_s, max_rate)
        self.total += step
        return step

    def _fallen(self, step: float, value: float, gap_s: float, max_rate: float) -> float:
        possible = max_rate * (gap_s + 1.0)  # a second of slack for sensors that update late
        wrapped = step + self._wrap_at if self._wrap_at is not None else -1.0
        if 0 <= wrapped <= possible:
            return wrapped
        self.resets += 1
        shown = value if value <= possible else 0.0
        if gap_s > RESET_GAP_S:
            raise EnergyUnknown(f"its counter restarted while not read for {gap_s:.0f} s", at_least_j=shown)
        return shown
