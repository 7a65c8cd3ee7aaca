"""Joules per step of time that samples and estimates add up to, by device, method and source. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from windward_api.contract import EnergyComponent, Method
from windward_worker.control.report import widen
from windward_worker.energy.sampled_meter import Estimate, SeriesKey

MAX_STEPS = 4096  # then neighbouring steps are merged: the memory of a run of months stays small
WORST = (Method.MEASURED, Method.MODELLED, Method.ESTIMATED)


def _spread(steps: list[float], joules: float, begin: float, end: float, step_s: float) -> None:
    """Put `joules` into the steps between two times after the start, by their share of it."""
    first, last = int(begin / step_s), int(end / step_s)
    steps += [0.0] * (last + 1 - len(steps))
    if first == last:
        steps[first] += joules
        return
    for index in range(first, last + 1):
        overlap = min(end, (index + 1) * step_s) - max(begin, index * step_s)
        steps[index] += joules * max(0.0, overlap) / (end - begin)


class StepSeries:
    """Accumulates joules into steps of `step_s` seconds after `start_s`; steps grow as the run gets long.

    Times are of one monotonic clock; what lies before `start_s` counts in the first step.
    """

    def __init__(self, step_s: float, start_s: float) -> None:
        self.step_s = step_s
        self.start_s = start_s
        self._steps: dict[SeriesKey, list[float]] = {}

    def add(self, key: SeriesKey, joules: float, from_s: float, to_s: float) -> None:
        """Spread joules evenly over the time in which they were drawn."""
        begin, end = self._since_start(from_s, to_s)
        while int(end / self.step_s) >= MAX_STEPS:
            self.step_s *= 2
            self._steps = {each: widen(steps, 2) for each, steps in self._steps.items()}
        _spread(self._steps.setdefault(key, []), joules, begin, end, self.step_s)

    def _since_start(self, from_s: float, to_s: float) -> tuple[float, float]:
        return max(from_s - self.start_s, 0.0), max(to_s - self.start_s, 0.0)

    @property
    def total_j(self) -> float:
        return sum(sum(steps) for steps in self._steps.values())

    @property
    def methods(self) -> list[Method]:
        return [key.method for key in self._steps]

    def with_estimates(self, estimates: Iterable[Estimate]) -> dict[SeriesKey, list[float]]:
        """A copy of all steps, with estimates added that do not count yet."""
        steps = {key: list(each) for key, each in self._steps.items()}
        for estimate in estimates:
            begin, end = self._since_start(estimate.from_s, estimate.to_s)
            _spread(steps.setdefault(estimate.key, []), estimate.joules, begin, end, self.step_s)
        return steps


def components_of(steps: Mapping[SeriesKey, Sequence[float]], order: Sequence[str]) -> tuple[EnergyComponent, ...]:
    """One component for each device kind and method, sources joined: `gpu`, and beside it `gpu-estimated`.

    `order`: the kinds of device as they shall come.
    """
    merged: dict[tuple[str, Method], tuple[list[str], list[float]]] = {}
    for key in sorted(steps, key=lambda each: (order.index(each.component), WORST.index(each.method))):
        sources, total = merged.setdefault((key.component, key.method), ([], []))
        sources.append(key.source)
        total += [0.0] * (len(steps[key]) - len(total))
        for index, joules in enumerate(steps[key]):
            total[index] += joules
    components, named = [], set[str]()
    for (component, method), (sources, total) in merged.items():
        name = component if component not in named else f"{component}-{method}"
        named.add(name)
        source = " + ".join(sorted(set(sources)))[:64]
        components.append(EnergyComponent(name=name, method=method, source=source, joules=tuple(total)))
    return tuple(components)
