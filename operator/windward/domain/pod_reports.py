"""What the pods of one run reported, as one report.

Energy is the sum over all pods that ran, each series spread over a common step; progress is the mean over the pods that
are expected, useful work the sum. Energy that some pods did not report is never taken for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from windward_api.contract import (
    MOST,
    MOST_STEPS,
    EnergyComponent,
    EnergySeries,
    Method,
    Outcome,
    Progress,
    Report,
)

MOST_COMPONENTS = 16
MESSAGE_LIMIT = 512
_BY_STRENGTH = tuple(Method)  # measured, modelled, estimated
_WORST_FIRST = (Outcome.FAILED, Outcome.PAUSED, Outcome.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class PodReport:
    """How one pod ended.

    Attributes:
        slot: the place in the group that it had; a pod that replaces another one has the same. Unique where unknown.
        code: exit code; -1: none is known.
        ran: whether a container of it ran.
        report: what it reported; None: nothing.
    """

    slot: str
    code: int
    ran: bool
    report: Report | None


def combined(pods: Sequence[PodReport], expected_pods: int) -> Report | None:
    """Returns the report of a run from those of its pods, in the order in which they ended; None where none reported.

    Args:
        expected_pods: how many pods are to end well before all is done.
    """
    reports = [p.report for p in pods if p.report is not None]
    if not reports:
        return None
    if len(pods) == 1 and expected_pods <= 1:
        return reports[0]
    silent = sum(1 for p in pods if p.ran and (p.report is None or p.report.energy is None))
    series = [r.energy for r in reports if r.energy is not None]
    note = f"{silent} of {len(pods)} pods reported no energy: declared watts count" if series and silent else ""
    checkpoints = {r.checkpoint for r in reports}
    return Report(
        outcome=next(o for o in _WORST_FIRST if any(r.outcome is o for r in reports)),
        progress=_progress(pods, expected_pods),
        run_units=min(MOST, sum(r.run_units for r in reports)),
        checkpoint=checkpoints.pop() if len(checkpoints) == 1 else None,
        energy=summed(series) if series and not silent else None,
        message="; ".join(dict.fromkeys(m for m in (note, *(r.message for r in reports)) if m))[:MESSAGE_LIMIT],
    )


def _progress(pods: Sequence[PodReport], expected_pods: int) -> Progress | None:
    """Mean over the expected pods: what ended with 0 is done, what said nothing has done nothing. None where no pod
    reported progress: then running time counts."""
    last = {p.slot: p for p in pods}.values()  # a pod that replaced another one speaks for both
    progress = [p.report.progress for p in last if p.report is not None and p.report.progress is not None]
    if not progress:
        return None
    shares = [1.0 if p.code == 0 else _share(p) for p in last]
    units = {p.unit for p in progress}
    times = [p.updated_at for p in progress if p.updated_at is not None]
    energies = [p.energy_j for p in progress if p.energy_j is not None]
    return Progress(
        fraction=min(1.0, sum(shares) / max(expected_pods, len(shares))),
        units_done=min(MOST, sum(p.units_done for p in progress)) if len(units) == 1 else 0,
        unit=units.pop() if len(units) == 1 else "unit",
        updated_at=max(times, key=datetime.timestamp) if times else None,
        energy_j=min(MOST, sum(energies)) if energies else None,
    )


def _share(pod: PodReport) -> float:
    progress = pod.report.progress if pod.report is not None else None
    return progress.fraction if progress is not None else 0.0


def summed(series: Sequence[EnergySeries]) -> EnergySeries:
    """Returns the sum of energy series, in steps of the widest of them.

    Power is constant within a step, so that a step that lies in two of the new ones is divided by time: the total is
    kept. Components of one name are added; of their methods the weakest holds.
    """
    if len(series) == 1:
        return series[0]
    start = min(s.start for s in series)
    ends_s = [_offset_s(s, start) + s.step_s * _steps(s) for s in series]
    step_s = max(max(s.step_s for s in series), max(ends_s) / (MOST_STEPS - 1))
    steps = min(MOST_STEPS, int(max(ends_s) / step_s) + 1)
    names = list(dict.fromkeys(c.name for s in series for c in s.components))
    shown = names if len(names) <= MOST_COMPONENTS else names[: MOST_COMPONENTS - 1]
    parts: dict[str, list[tuple[EnergySeries, EnergyComponent]]] = {}
    for s in series:
        for c in s.components:
            parts.setdefault(c.name if c.name in shown else "other", []).append((s, c))
    components = tuple(_component(name, of, start, step_s, steps) for name, of in parts.items())
    return EnergySeries(start=start, step_s=step_s, components=components)


def _component(
    name: str, parts: Sequence[tuple[EnergySeries, EnergyComponent]], start: datetime, step_s: float, steps: int
) -> EnergyComponent:
    joules = [0.0] * steps
    for series, component in parts:
        for at, amount in _spread(component.joules, _offset_s(series, start), series.step_s, step_s):
            joules[min(at, steps - 1)] += amount
    return EnergyComponent(
        name=name,
        method=max((c.method for _, c in parts), key=_BY_STRENGTH.index),
        source="+".join(dict.fromkeys(c.source for _, c in parts))[:64],
        joules=tuple(min(MOST, j) for j in joules),
    )


def _spread(joules: Sequence[float], offset_s: float, own_step_s: float, step_s: float) -> Iterable[tuple[int, float]]:
    """Yields what each own step, not wider than the new one, gives to the one or two new steps in which it lies."""
    for i, amount in enumerate(joules):
        begin_s = offset_s + i * own_step_s
        at = int(begin_s / step_s)
        within = min(1.0, max(0.0, ((at + 1) * step_s - begin_s) / own_step_s))
        yield at, amount * within
        if within < 1.0:
            yield at + 1, amount - amount * within


def _offset_s(series: EnergySeries, start: datetime) -> float:
    return (series.start - start).total_seconds()


def _steps(series: EnergySeries) -> int:
    return max((len(c.joules) for c in series.components), default=0)
