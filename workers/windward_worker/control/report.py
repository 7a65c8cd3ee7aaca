"""Report and live progress: what a run tells about itself, within the size that survives."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from windward_api.contract import REPORT_LIMIT_BYTES, EnergyComponent, EnergySeries, Method, Progress, Report
from windward_worker.control.files import write_atomic

LEAST_STEP_S, MOST_STEP_S = 1e-3, 100 * 366 * 86400.0


def short(message: str) -> str:
    """As a report takes it: 512 characters at most, and none that UTF-8 cannot say."""
    return message.encode("utf-8", "backslashreplace").decode()[:512]


def widen(joules: Sequence[float], factor: int) -> list[float]:
    """Sum each `factor` neighbouring steps; the last one may be partial."""
    return [sum(joules[i : i + factor]) for i in range(0, len(joules), factor)]


def _compact(joules: Sequence[float]) -> tuple[float, ...]:
    """Steps in whole millijoules, which print short, but the last: it takes the rest, so that the sum stays.

    The running total is rounded down, not each step, so no step turns negative and no error piles up.
    """
    total = sum(joules)
    marks = [int(min(mark, total) * 1000) for mark in itertools.accumulate(joules[:-1])]
    steps = [(b - a) / 1000 for a, b in itertools.pairwise([0, *marks])]
    return (*steps, max(0.0, total - sum(steps)))


def _encode(report: Report, factor: int) -> bytes:
    energy = report.energy
    if energy is not None:
        components = tuple(
            EnergyComponent(name=c.name, method=c.method, source=c.source, joules=_compact(widen(c.joules, factor)))
            for c in energy.components
        )
        energy = EnergySeries(start=energy.start, step_s=energy.step_s * factor, components=components)
    document = report.model_copy(update={"energy": energy}).model_dump(mode="json", exclude_none=True)
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")  # a path in a message may hold what is no UTF-8


def encode_report(report: Report) -> bytes:
    """The report as JSON of at most `REPORT_LIMIT_BYTES`.

    Its energy step is widened, by a whole factor, just until it fits; each component's sum is kept to float rounding.
    Where one step is still too long, metrics go first, then the message, then the names of components: joules by
    method and progress always arrive. What is no finite number is left out (`sane`).
    """
    report = sane(report)
    longest = max((len(c.joules) for c in report.energy.components), default=1) if report.energy else 1
    factor = 1
    while True:
        data = _encode(report, factor)
        if len(data) <= REPORT_LIMIT_BYTES:
            return data
        if factor >= longest:
            break
        factor = min(longest, max(factor + 1, int(factor * 1.1)))
    progress = report.progress.model_copy(update={"metrics": {}}) if report.progress is not None else None
    bare = report.model_copy(update={"progress": progress})
    data = _encode(bare, factor)
    if len(data) > REPORT_LIMIT_BYTES:
        bare = bare.model_copy(update={"message": ""})
        data = _encode(bare, factor)
    if len(data) > REPORT_LIMIT_BYTES:
        data = _encode(bare.model_copy(update={"energy": _by_method(bare.energy)}), 1)
    return data


def _by_method(energy: EnergySeries | None) -> EnergySeries | None:
    """One component for each method, one step."""
    if energy is None:
        return None
    totals: dict[Method, float] = {}
    longest = max((len(c.joules) for c in energy.components), default=1)
    for component in energy.components:
        totals[component.method] = totals.get(component.method, 0.0) + sum(component.joules)
    merged = tuple(EnergyComponent(name="other", method=m, source="merged", joules=(j,)) for m, j in totals.items())
    return EnergySeries(start=energy.start, step_s=energy.step_s * max(1, longest), components=merged)


def sane(report: Report) -> Report:
    """The report without what is no finite number, or no time: a reader's arithmetic must not fail on it."""
    progress = None if report.progress is None else sane_progress(report.progress)
    units = report.run_units if math.isfinite(report.run_units) else 0.0
    return report.model_copy(update={"progress": progress, "run_units": units, "energy": _sane_energy(report.energy)})


def sane_progress(progress: Progress) -> Progress:
    """The same, but for metrics and sums that are not finite."""
    joules = progress.energy_j
    return progress.model_copy(
        update={
            "fraction": progress.fraction if 0 <= progress.fraction <= 1 else 0.0,
            "units_done": progress.units_done if math.isfinite(progress.units_done) else 0.0,
            "energy_j": joules if joules is None or math.isfinite(joules) else None,
            "metrics": {name: value for name, value in progress.metrics.items() if math.isfinite(value)},
        }
    )


def _sane_energy(energy: EnergySeries | None) -> EnergySeries | None:
    """Components whose joules add up to a number; None where there is no such, or the series is in no calendar."""
    if energy is None or not LEAST_STEP_S <= energy.step_s <= MOST_STEP_S:
        return None
    kept = tuple(c for c in energy.components if math.isfinite(sum(c.joules)))
    longest = max((len(c.joules) for c in kept), default=0)
    if not kept or not 1970 <= energy.start.year < 9000 or energy.step_s * longest > MOST_STEP_S:
        return None
    return energy.model_copy(update={"components": kept})


def write_report(path: Path | None, report: Report) -> None:
    """Leave the report in `path`, in place and in one write: Kubernetes mounts that very file."""
    if path is None:
        return
    data = encode_report(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


def read_report(path: Path | None) -> Report | None:
    """The report in `path`, sane; None where there is none, or none that is valid."""
    if path is None:
        return None
    try:
        return sane(Report.model_validate_json(path.read_bytes()[: 4 * REPORT_LIMIT_BYTES]))
    except (OSError, ValueError):  # pydantic's is one of these
        return None


def read_progress(path: Path | None) -> Progress | None:
    """The progress in `path`; None where there is none, or none that is valid."""
    if path is None:
        return None
    try:
        return sane_progress(Progress.model_validate_json(path.read_bytes()[: 1 << 16]))
    except (OSError, ValidationError):
        return None


class ProgressFile:
    """The live progress of a run: replaced atomically, at most once in `every_s` seconds, but for the last."""

    def __init__(self, path: Path | None, every_s: float = 1.0) -> None:
        self._path = path
        self._every_s = every_s
        self._next = 0.0

    def due(self) -> bool:
        """Whether a `write` now would be kept; ask before computing what to write."""
        return self._path is not None and time.monotonic() >= self._next

    def write(self, progress: Progress, *, last: bool = False) -> None:
        """Replace the file, or do nothing if it is too soon and not the last. Raises OSError."""
        if self._path is None or not (last or self.due()):
            return
        self._next = time.monotonic() + self._every_s
        document = sane_progress(progress).model_dump(mode="json", exclude_none=True)
        data = json.dumps(document, allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")
        write_atomic(self._path, data, durable=False)
