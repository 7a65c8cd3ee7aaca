"""Turns meters into a series: joules per step of time, per component and method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from windward_api.contract import EnergyComponent, EnergySeries, Method
from windward_worker.control.clock import now
from windward_worker.control.errors import MeterError
from windward_worker.control.report import widen
from windward_worker.energy.meter import EnergyUnknown, Meter, boot_s, parts_of
from windward_worker.energy.track import Estimate, Lane, Track

MAX_STEPS = 4096  # then neighbouring steps are merged: the memory of a run of months stays small
WORST = (Method.MEASURED, Method.MODELLED, Method.ESTIMATED)


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


def _spread(lane: list[float], joules: float, begin: float, end: float, step_s: float) -> None:
    """Put `joules` into the steps between two times after the start, by their share of it."""
    first, last = int(begin / step_s), int(end / step_s)
    lane += [0.0] * (last + 1 - len(lane))
    if first == last:
        lane[first] += joules
        return
    for index in range(first, last + 1):
        overlap = min(end, (index + 1) * step_s) - max(begin, index * step_s)
        lane[index] += joules * max(0.0, overlap) / (end - begin)


class EnergyRecorder:
    """Samples meters in the background from `start` to `stop`. Use as a context manager, or call both.

    A sample above the component's plausible maximum (max_w times the time passed) is clamped to it and `clamped_j`
    tells how much was cut; no step is ever negative. A meter that fails is retried at the next sample, and what its
    counter shows then is spread over the gap. As long as it does not come back, and where it cannot tell what the gap
    took, the gap is estimated: with the mean power of the device before, or its share of `declared_w`, marked as such.
    `notes` says all that.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        *,
        declared_w: float | None = None,
        period_s: float = 1.0,
        monotonic: Callable[[], float] = boot_s,
        wall: Callable[[], datetime] = now,
    ) -> None:
        self._period_s = period_s
        self._step_s = period_s
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._meters = tuple(meters)
        self._tracks = [Track(part) for meter in meters for part in parts_of(meter)]
        self._lanes: dict[Lane, list[float]] = {}
        self._told_j = 0.0
        self._start_wall = wall()
        self._start_s = self._sampled_s = monotonic()
        self._declare(declared_w)

    def _declare(self, declared_w: float | None) -> None:
        """The declared draw is that of the GPUs where there are any, else of the CPUs; in equal parts."""
        for component in ("gpu", "cpu", "other"):
            tracks = [t for t in self._tracks if t.meter.component == component]
            if tracks and declared_w is not None:
                for track in tracks:
                    track.declared_w = declared_w / len(tracks)
                return

    def __enter__(self) -> EnergyRecorder:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> EnergyRecorder:
        """Begin the series now and sample in the background; what was drawn before is in no step."""
        self._start_wall, self._start_s = self._wall(), self._monotonic()
        self._sampled_s = self._start_s
        for track in self._tracks:
            track.last_s = self._start_s
            with suppress(MeterError):  # the next sample tells
                track.last_j = track.meter.read_j()
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
        with self._lock:
            for track in self._tracks:
                self._book(track.give_up(self._sampled_s))
        for meter in self._meters:
            meter.close()

    def sample(self) -> None:
        """Read all meters now."""
        with self._lock:
            for track in self._tracks:
                self._read(track)
            self._sampled_s = self._monotonic()
            self._told_j = max(self._told_j, self._total_j())

    def _read(self, track: Track) -> None:
        try:
            joules = track.meter.read_j()
        except EnergyUnknown as gap:
            self._book(track.gap(gap, self._monotonic()))
        except MeterError as error:
            track.fail(error)
        else:
            from_s, at_s = track.last_s, self._monotonic()
            taken_j = track.take(joules, at_s)
            self._put(Lane(track.meter.component, track.meter.method, track.meter.source), taken_j, from_s, at_s)

    def _book(self, estimate: Estimate | None) -> None:
        if estimate is not None:
            self._put(estimate.lane, estimate.joules, estimate.from_s, estimate.to_s)

    def _put(self, lane: Lane, joules: float, from_s: float, to_s: float) -> None:
        begin, end = max(from_s - self._start_s, 0.0), max(to_s - self._start_s, 0.0)
        while int(end / self._step_s) >= MAX_STEPS:
            self._step_s *= 2
            self._lanes = {each: widen(steps, 2) for each, steps in self._lanes.items()}
        _spread(self._lanes.setdefault(lane, []), joules, begin, end, self._step_s)

    def _pending(self) -> list[Estimate]:
        """What meters that do not answer now would count, if they never do."""
        estimates = (track.pending(self._sampled_s) for track in self._tracks)
        return [each for each in estimates if each is not None]

    def _total_j(self) -> float:
        return sum(sum(steps) for steps in self._lanes.values()) + sum(e.joules for e in self._pending())

    @property
    def total_j(self) -> float:
        """Joules up to the last sample. Does not fall while it runs, though a meter that comes back may tell less than
        was estimated; after `stop`, the sum of the series."""
        with self._lock:
            return self._total_j() if self._end.is_set() else self._told_j

    @property
    def clamped_j(self) -> float:
        """Joules that were cut as implausible; above 0, the meter deserves a look."""
        return sum(track.clamped_j for track in self._tracks)

    @property
    def failures(self) -> int:
        """Samples that a meter could not give."""
        return sum(track.failures for track in self._tracks)

    @property
    def unattributed(self) -> dict[str, float]:
        """Joules that counters showed and that are in no series: of idling, of other work; empty where there are none.

        The series (but its estimates), both of these and what was cut add up to the counters.
        """
        totals = {
            f"energy_{whose}_j": sum(getattr(track.meter, f"{whose}_j", 0.0) for track in self._tracks)
            for whose in ("idle", "others")
        }
        return {name: joules for name, joules in totals.items() if joules > 0}

    @property
    def method(self) -> Method:
        """The weakest of the components; `measured` only where every one is."""
        with self._lock:
            methods = [track.meter.method for track in self._tracks]
            methods += [lane.method for lane in self._lanes] + [each.lane.method for each in self._pending()]
        return max(methods, key=WORST.index, default=Method.MODELLED)

    @property
    def notes(self) -> list[str]:
        """One short sentence on each thing that the reader of the numbers should know: cuts, losses, estimates."""
        with self._lock:
            said = [note for track in self._tracks for note in track.notes(self._sampled_s)]
        return list(dict.fromkeys(said))

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
            made.energy = Energy(max(0.0, self.total_j - before_j), self.method)

    def _all(self) -> dict[Lane, list[float]]:
        """Lanes with what is pending, in a copy."""
        lanes = {lane: list(steps) for lane, steps in self._lanes.items()}
        for each in self._pending():
            begin, end = max(each.from_s - self._start_s, 0.0), max(each.to_s - self._start_s, 0.0)
            _spread(lanes.setdefault(each.lane, []), each.joules, begin, end, self._step_s)
        return lanes

    def series(self) -> EnergySeries:
        """The joules per step so far, one component for each method: `gpu`, and beside it `gpu-estimated`."""
        with self._lock:
            lanes, step_s = self._all(), self._step_s
        merged: dict[tuple[str, Method], tuple[list[str], list[float]]] = {}
        order = [track.meter.component for track in self._tracks]
        for lane in sorted(lanes, key=lambda each: (order.index(each.component), WORST.index(each.method))):
            sources, steps = merged.setdefault((lane.component, lane.method), ([], []))
            sources.append(lane.source)
            steps += [0.0] * (len(lanes[lane]) - len(steps))
            for index, joules in enumerate(lanes[lane]):
                steps[index] += joules
        components, named = [], set[str]()
        for (component, method), (sources, steps) in merged.items():
            name = component if component not in named else f"{component}-{method}"
            named.add(name)
            source = " + ".join(sorted(set(sources)))[:64]
            components.append(EnergyComponent(name=name, method=method, source=source, joules=tuple(steps)))
        return EnergySeries(start=self._start_wall, step_s=step_s, components=tuple(components))
