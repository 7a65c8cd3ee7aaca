"""Turns meters into a series: joules per step of time, per component and method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from windward_api.contract import EnergySeries, Method
from windward_worker.control.clock import now
from windward_worker.control.errors import MeterError
from windward_worker.energy.meter import EnergyUnknown, Meter, boot_s, parts_of
from windward_worker.energy.sampled_meter import Estimate, SampledMeter, SeriesKey
from windward_worker.energy.step_series import WORST, StepSeries, components_of


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
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._meters = tuple(meters)
        self._sampled = [SampledMeter(part) for meter in meters for part in parts_of(meter)]
        self._reported_j = 0.0
        self._start_wall = wall()
        self._sampled_s = monotonic()
        self._steps = StepSeries(period_s, self._sampled_s)
        self._declare(declared_w)

    def _declare(self, declared_w: float | None) -> None:
        """The declared draw is that of the GPUs where there are any, else of the CPUs; in equal parts."""
        for component in ("gpu", "cpu", "other"):
            sampled_meters = [t for t in self._sampled if t.meter.component == component]
            if sampled_meters and declared_w is not None:
                for sampled in sampled_meters:
                    sampled.declared_w = declared_w / len(sampled_meters)
                return

    def __enter__(self) -> EnergyRecorder:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> EnergyRecorder:
        """Begin the series now and sample in the background; what was drawn before is in no step."""
        self._start_wall = self._wall()
        self._sampled_s = self._steps.start_s = self._monotonic()
        for sampled in self._sampled:
            sampled.last_s = self._sampled_s
            with suppress(MeterError):  # the next sample tells
                sampled.last_j = sampled.meter.read_j()
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
            for sampled in self._sampled:
                self._book(sampled.give_up(self._sampled_s))
        for meter in self._meters:
            meter.close()

    def sample(self) -> None:
        """Read all meters now."""
        with self._lock:
            for sampled in self._sampled:
                self._read(sampled)
            self._sampled_s = self._monotonic()
            self._reported_j = max(self._reported_j, self._total_j())

    def _read(self, sampled: SampledMeter) -> None:
        try:
            joules = sampled.meter.read_j()
        except EnergyUnknown as gap:
            self._book(sampled.gap(gap, self._monotonic()))
        except MeterError as error:
            sampled.fail(error)
        else:
            from_s, at_s = sampled.last_s, self._monotonic()
            taken_j = sampled.take(joules, at_s)
            meter = sampled.meter
            self._steps.add(SeriesKey(meter.component, meter.method, meter.source), taken_j, from_s, at_s)

    def _book(self, estimate: Estimate | None) -> None:
        if estimate is not None:
            self._steps.add(estimate.key, estimate.joules, estimate.from_s, estimate.to_s)

    def _pending(self) -> list[Estimate]:
        """What meters that do not answer now would count, if they never do."""
        estimates = (sampled.pending(self._sampled_s) for sampled in self._sampled)
        return [each for each in estimates if each is not None]

    def _total_j(self) -> float:
        return self._steps.total_j + sum(e.joules for e in self._pending())

    @property
    def total_j(self) -> float:
        """Joules up to the last sample. Does not fall while it runs, though a meter that comes back may tell less than
        was estimated; after `stop`, the sum of the series."""
        with self._lock:
            return self._total_j() if self._end.is_set() else self._reported_j

    @property
    def clamped_j(self) -> float:
        """Joules that were cut as implausible; above 0, the meter deserves a look."""
        return sum(sampled.clamped_j for sampled in self._sampled)

    @property
    def failures(self) -> int:
        """Samples that a meter could not give."""
        return sum(sampled.failures for sampled in self._sampled)

    @property
    def unattributed(self) -> dict[str, float]:
        """Joules that counters showed and that are in no series: of idling, of other work; empty where there are none.

        The series (but its estimates), both of these and what was cut add up to the counters.
        """
        totals = {
            f"energy_{whose}_j": sum(getattr(sampled.meter, f"{whose}_j", 0.0) for sampled in self._sampled)
            for whose in ("idle", "others")
        }
        return {name: joules for name, joules in totals.items() if joules > 0}

    @property
    def method(self) -> Method:
        """The weakest of the components; `measured` only where every one is."""
        with self._lock:
            methods = [sampled.meter.method for sampled in self._sampled]
            methods += self._steps.methods + [each.key.method for each in self._pending()]
        return max(methods, key=WORST.index, default=Method.MODELLED)

    @property
    def notes(self) -> list[str]:
        """One short sentence on each thing that the reader of the numbers should know: cuts, losses, estimates."""
        with self._lock:
            sentences = [note for sampled in self._sampled for note in sampled.notes(self._sampled_s)]
        return list(dict.fromkeys(sentences))

    @contextmanager
    def window(self, name: str) -> Iterator[Window]:
        """Measure what happens inside: samples at both ends, also while the background thread goes on."""
        window = Window(name)
        self.sample()
        before_j = self.total_j
        try:
            yield window
        finally:
            self.sample()
            window.energy = Energy(max(0.0, self.total_j - before_j), self.method)

    def series(self) -> EnergySeries:
        """The joules per step so far, one component for each method: `gpu`, and beside it `gpu-estimated`."""
        with self._lock:
            steps, step_s = self._steps.with_estimates(self._pending()), self._steps.step_s
        components = components_of(steps, [sampled.meter.component for sampled in self._sampled])
        return EnergySeries(start=self._start_wall, step_s=step_s, components=components)
