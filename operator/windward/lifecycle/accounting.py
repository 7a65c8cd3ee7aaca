"""Computes energy, emissions and savings of a job. Every figure can be recomputed from the inputs reported with it.

    grams = sum over intervals of  joules / 3.6e6  x  mean intensity over the interval (g/kWh)  x  PUE

These are operational, location-based emissions (GHG Protocol Scope 2 guidance; the E x I of SCI, ISO/IEC 21031). The
saving is measured against the `baseline`: running at once, in the home region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Region
from windward.domain.observed import Observed
from windward.domain.run import Run
from windward.domain.series import Quality, Series
from windward.lifecycle.baseline import JOULES_PER_KWH, Baseline, baseline_of, effective, kept_of, running_s, weakest
from windward.lifecycle.decide import end_of
from windward.lifecycle.work import power_w
from windward_api.contract import Method

GAP = timedelta(minutes=1)  # a shorter stretch without a meter is start-up and clocks, not worth calling it estimated
_WHOLE_SECOND = timedelta(seconds=1)  # the kubelet tells ends of runs in whole seconds, rounded down
_WORST = [Method.MEASURED, Method.MODELLED, Method.ESTIMATED]


def energy_of_run(observed: Observed, run: Run, region: Region, now: datetime) -> list[EnergyInterval]:
    """Returns the energy of one run as rows for the ledger; empty before it started.

    Uses the run's own energy report, with each step placed in planned time (under a warped clock a measured joule
    counts as `time_scale` joules). Gaps of a minute or more, or the whole run if there is no report, are filled with
    declared watts x time and marked estimated.
    """
    if run.started_at is None:
        return []
    watts = power_w(observed.job.spec, run.level)
    end = run.finished_at or now
    reported = _reported(observed, run, region) if run.report is not None and run.report.energy is not None else []
    gap = GAP * run.time_scale
    rows = list(reported)
    for start, stop in _uncovered(reported, run.started_at, end):
        if not reported or stop - start >= gap:
            rows += _hourly(observed, run, region, watts, start, stop)
    return rows


def _uncovered(rows: Sequence[EnergyInterval], start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Stretches of [start, end) in which no component was metered."""
    out, at = [], start
    for row in sorted(rows, key=lambda r: r.start):
        if row.start > at:
            out.append((at, min(row.start, end)))
        at = max(at, row.end)
    return [(a, b) for a, b in [*out, (at, end)] if a < b]


def _row(observed: Observed, run: Run, region: Region, **rest: object) -> EnergyInterval:
    return EnergyInterval(
        uid=observed.uid,
        attempt=run.attempt,
        pod_uid=run.pod_uid,
        region=region.name,
        zone=region.zone,
        pue=region.pue,
        time_scale=run.time_scale,
        **rest,  # type: ignore[arg-type]
    )


def _reported(observed: Observed, run: Run, region: Region) -> list[EnergyInterval]:
    assert run.report is not None and run.report.energy is not None and run.started_at is not None
    series = run.report.energy
    real_start = run.started_real or run.started_at
    # Clocks differ: a series that seems to begin before its run is moved as a whole: no two steps share a start.
    offset = max(timedelta(0), series.start - real_start)
    here = run.started_real is not None  # on this machine: ends are exact, and there is one clock
    over = run.finished_at + (timedelta(0) if here else _WHOLE_SECOND) if run.finished_at is not None else None
    rows: list[EnergyInterval] = []
    for component in series.components:
        for i, joules in enumerate(component.joules):
            start = run.started_at + (offset + timedelta(seconds=i * series.step_s)) * run.time_scale
            end = start + timedelta(seconds=series.step_s) * run.time_scale
            if i == 0 and here and offset.total_seconds() <= series.step_s:
                start = run.started_at  # the meter was there before the work: its first step begins with it
            if over is not None and here and start >= over:
                # The meter was read for the last time a moment after the end: that is of the last step.
                if i:
                    rows[-1] = replace(rows[-1], joules=rows[-1].joules + joules * run.time_scale)
                    continue
                start = run.started_at
            if over is not None and start < over:
                end = min(end, over)  # the last step is cut short: nothing is drawn after the end
            rows.append(
                _row(
                    observed, run, region, component=component.name, start=start, end=end,
                    joules=joules * run.time_scale, method=str(component.method), source=component.source,
                )
            )  # fmt: skip
    return rows


def _hourly(
    observed: Observed, run: Run, region: Region, watts: float, start: datetime, end: datetime
) -> list[EnergyInterval]:
    """Declared watts in intervals of at most an hour, so that each is weighed with the intensity of its own hour."""
    rows = []
    while start < end:
        stop = min(end, start + timedelta(hours=1))
        joules = watts * (stop - start).total_seconds()
        rows.append(
            _row(
                observed, run, region, component="declared", start=start, end=stop,
                joules=joules, method=str(Method.ESTIMATED), source="declared watts x time",
            )
        )  # fmt: skip
        start = stop
    return rows


@dataclass(frozen=True, slots=True)
class Account:
    """What a job used and emitted so far.

    Attributes:
        energy_j: at the meter, before PUE.
        emissions_g: None where an interval's intensity is unknown.
        baseline: the same useful work at once, at home; None where its hours are unknown or the work failed for good.
        method: the weakest method among the rows.
        settled: every intensity that it rests on, the baseline's too, is measured and no longer revised, or recorded;
            none is a forecast or an estimate.
        mean_power_w: over the running time.
    """

    energy_j: float
    emissions_g: float | None
    baseline: Baseline | None
    method: str
    settled: bool
    mean_power_w: float
    run_time_s: float
    intervals: tuple[WeighedInterval, ...]

    @property
    def run_now_g(self) -> float | None:
        """Grams of the baseline."""
        return self.baseline.emissions_g if self.baseline is not None else None

    @property
    def saved_g(self) -> float | None:
        """May be negative."""
        if self.emissions_g is None or self.run_now_g is None:
            return None
        return self.run_now_g - self.emissions_g


@dataclass(frozen=True, slots=True)
class WeighedInterval:
    """One row of the ledger with its intensity and grams.

    Attributes:
        quality: the weakest of the intensities that it was weighed with; None where they are unknown.
    """

    row: EnergyInterval
    intensity_g_per_kwh: float | None
    emissions_g: float | None
    quality: Quality | None = None


def account(
    observed: Observed,
    rows: Sequence[EnergyInterval],
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
    settled_until: datetime | None = None,
) -> Account:
    """Returns the account of a job: its energy, emissions and baseline.

    Args:
        rows: its energy so far, over all runs.
        intensities: zone -> best known intensity from submission to the last row's end.
        regions: for the zone and PUE of the home region.
        settled_until: measured values of later periods may still be revised; None: none is.
    """
    intervals = tuple(_weigh(r, effective(r, intensities, regions)) for r in rows)
    baseline = baseline_of(observed, rows, intensities, regions)
    spans = [(intensities.get(r.zone), r.start, r.end) for r in rows]
    if baseline is not None:
        spans.append((intensities.get(baseline.region.zone), baseline.start, baseline.end))
    energy_j = sum(r.joules for r in rows)
    grams = [p.emissions_g for p in intervals]
    run_time_s = running_s(rows)
    mean_w = energy_j / run_time_s if run_time_s > 0 else 0.0
    return Account(
        energy_j=energy_j,
        emissions_g=None if any(g is None for g in grams) else sum(g for g in grams if g is not None),
        baseline=baseline,
        method=max((r.method for r in rows), key=lambda m: _WORST.index(Method(m)), default=""),
        settled=_both_sides(observed, baseline, rows) and all(_settled(*span, settled_until) for span in spans),
        mean_power_w=mean_w,
        run_time_s=run_time_s,
        intervals=intervals,
    )


def _weigh(row: EnergyInterval, series: Series | None) -> WeighedInterval:
    if series is None or not series.covers(row.start, row.end) or row.end <= row.start:
        return WeighedInterval(row, None, None)
    intensity = series.mean(row.start, row.end)
    quality = weakest(series.quality_over(row.start, row.end))
    return WeighedInterval(row, intensity, row.joules / JOULES_PER_KWH * intensity * row.pue, quality)


def _both_sides(observed: Observed, baseline: Baseline | None, rows: Sequence[EnergyInterval]) -> bool:
    """Whether both sides are known: work that failed for good, or of which nothing was kept, has no baseline."""
    over = end_of(observed)
    failed = over is not None and not over.succeeded
    return bool(rows) and (baseline is not None or failed or not any(k.useful_s for k in kept_of(observed, rows)))


def _settled(series: Series | None, start: datetime, end: datetime, until: datetime | None) -> bool:
    if series is None or not series.covers(start, end):
        return False  # a part that nobody knows yet has no quality that could say so
    final = until is None or end <= until
    qualities = series.quality_over(start, end)
    return bool(qualities) and all(q is Quality.RECORDED or (final and q is Quality.MEASURED) for q in qualities)
