"""Turns meters into a series: joules per step of time, per component."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from windward_api.contract import EnergyComponent, EnergySeries, Method
from windward_worker.control.clock import now
from windward_worker.control.errors import MeterError
from windward_worker.control.report import widen
from windward_worker.energy.meter import Meter

MAX_STEPS = 4096  # then neighbouring steps are merged: the memory of a run of months stays small
SENSOR_LAG_S = 0.2  # a counter may show energy this much later than it was drawn


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules, and how they came to be: the weakest method among the components."""

    joules: float
    method: Method


@dataclass(slots=True)
class Window:
    """A named stretch of a run; `energy` is set when it closes."""

    name: str
    energy: Energy = Energy(0.0, Method.MODELLED)


@dataclass(slots=True)
class _Track:
    """One meter's samples so far."""

    meter: Meter
    joules: list[float] = field(default_factory=list)
    last_j: float = 0.0
    last_s: float = 0.0
    clamped_j: float = 0.0
    failures: int = 0


class EnergyRecorder:
    """Samples meters in the background from `start` to `stop`. Use as a context manager, or call both.

    A sample above the component's plausible maximum (max_w times the time passed) is clamped to it and `clamped_j`
    tells how much was cut; no step is ever negative. A meter that fails is retried at the next sample, and what its
    counter shows then is spread over the gap.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        *,
        period_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = now,
    ) -> None:
        self._period_s = period_s
        self._step_s = period_s
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._tracks = [_Track(meter) for meter in meters]
        self._start_wall = wall()
        self._start_s = monotonic()

    def __enter__(self) -> EnergyRecorder:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> EnergyRecorder:
        """Begin the series now and sample in the background."""
        self._start_wall, self._start_s = self._wall(), self._monotonic()
        for track in self._tracks:
            track.last_s = self._start_s
        self._thread = threading.Thread(target=self._loop, name="energy", daemon=True)
        self._thread.start()
        return self

    def _loop(self) -> None:
        while not self._end.wait(self._period_s):
            self.sample()

    def stop(self) -> None:
        """Take a last sample and let go of the meters; a second call does nothing."""
        if self._end.is_set():
            return
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self.sample()
        for track in self._tracks:
            track.meter.close()

    def sample(self) -> None:
        """Read all meters now."""
        with self._lock:
            for track in self._tracks:
                self._read(track)

    def _read(self, track: _Track) -> None:
        try:
            joules = track.meter.read_j()
        except MeterError:
            track.failures += 1
            return
        at_s = self._monotonic()
        limit_j = track.meter.max_w * (at_s - track.last_s + SENSOR_LAG_S)
        delta_j = max(0.0, joules - track.last_j)
        track.clamped_j += max(0.0, delta_j - limit_j)
        self._spread(track, min(delta_j, limit_j), track.last_s, at_s)
        track.last_j, track.last_s = max(joules, track.last_j), at_s

    def _spread(self, track: _Track, joules: float, from_s: float, to_s: float) -> None:
        """Put `joules` into the steps between two times, by their share of it."""
        begin, end = from_s - self._start_s, max(to_s - self._start_s, 0.0)
        while int(end / self._step_s) >= MAX_STEPS:
            self._step_s *= 2
            for each in self._tracks:
                each.joules = widen(each.joules, 2)
        first, last = int(begin / self._step_s), int(end / self._step_s)
        track.joules += [0.0] * (last + 1 - len(track.joules))
        if first == last:
            track.joules[first] += joules
            return
        for index in range(first, last + 1):
            overlap = min(end, (index + 1) * self._step_s) - max(begin, index * self._step_s)
            track.joules[index] += joules * max(0.0, overlap) / (end - begin)

    @property
    def total_j(self) -> float:
        """Joules up to the last sample."""
        with self._lock:
            return sum(sum(track.joules) for track in self._tracks)

    @property
    def clamped_j(self) -> float:
        """Joules that were cut as implausible; above 0, the meter deserves a look."""
        return sum(track.clamped_j for track in self._tracks)

    @property
    def failures(self) -> int:
        """Samples that a meter could not give."""
        return sum(track.failures for track in self._tracks)

    @property
    def method(self) -> Method:
        """`measured` only where every component is."""
        methods = {track.meter.method for track in self._tracks}
        return Method.MEASURED if methods == {Method.MEASURED} else Method.MODELLED

    @contextmanager
    def window(self, name: str) -> Iterator[Window]:
        """Measure what happens inside: samples at both ends, also while the background thread goes on."""
        made = Window(name)
        self.sample()
        before_j = self.total_j
        try:
            yield made
        finally:
            self.sample()
            made.energy = Energy(self.total_j - before_j, self.method)

    def series(self) -> EnergySeries:
        """The joules per step so far."""
        with self._lock:
            components = tuple(
                EnergyComponent(
                    name=t.meter.component, method=t.meter.method, source=t.meter.source, joules=tuple(t.joules)
                )
                for t in self._tracks
                if t.joules
            )
            return EnergySeries(start=self._start_wall, step_s=self._step_s, components=components)
