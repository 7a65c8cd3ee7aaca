"""The arithmetic of joules, grams and savings: every figure can be computed again from what stands beside it.

    grams = sum over intervals of  joules / 3.6e6  x  mean intensity over the interval (g/kWh)  x  PUE

operational emissions, location-based (GHG Protocol Scope 2 guidance; the E x I of SCI, ISO/IEC 21031). The saving is
against running at once, at home: the useful work, which is what was kept, at the mean power that was seen, unbroken
from submission. Of a run at a power level, what it would have taken as declared (`AsDeclared`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Region
from windward.domain.observed import Observed
from windward.domain.run import Phase, Run
from windward.domain.series import Quality, Series
from windward.lifecycle.decide import end_of
from windward.lifecycle.work import home_of, power_w, speed_of
from windward_api.contract import EXIT_PAUSED, Method
from windward_api.greenjob import GreenJobSpec

JOULES_PER_KWH = 3.6e6
GAP = timedelta(minutes=1)  # a shorter stretch without a meter is start-up and clocks, not worth calling it estimated
_WHOLE_SECOND = timedelta(seconds=1)  # the kubelet tells ends of runs in whole seconds, rounded down
_WORST = [Method.MEASURED, Method.MODELLED, Method.ESTIMATED]


def energy_of_run(observed: Observed, run: Run, region: Region, now: datetime) -> list[EnergyInterval]:
    """What one run used, as rows for the book; empty before it started.

    The run's own report counts, each step placed in the planned time (under a warped clock a measured joule stands
    for `time_scale` joules). Where there is no report, and for each minute and more that it leaves out, declared watts
    x running time, marked estimated.
    """
    if run.started_at is None:
        return []
    watts = power_w(observed.job.spec, run.level)
    end = run.finished_at or now
    told = _reported(observed, run, region) if run.report is not None and run.report.energy is not None else []
    gap = GAP * run.time_scale
    rows = list(told)
    for start, stop in _uncovered(told, run.started_at, end):
        if not told or stop - start >= gap:
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
    over = run.finished_at + _WHOLE_SECOND * run.time_scale if run.finished_at is not None else None
    rows = []
    for component in series.components:
        for i, joules in enumerate(component.joules):
            start = run.started_at + (offset + timedelta(seconds=i * series.step_s)) * run.time_scale
            end = start + timedelta(seconds=series.step_s) * run.time_scale
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
    """Declared watts in pieces of at most an hour, so that each is weighed with its own hours."""
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
        run_now_g: the counterfactual; None where its hours are unknown.
        method: the weakest method among the rows.
        settled: every intensity that it rests on is measured and no longer revised, or recorded; none is a forecast or
            an estimate.
        mean_power_w: over the running time.
    """

    energy_j: float
    emissions_g: float | None
    run_now_g: float | None
    method: str
    settled: bool
    mean_power_w: float
    run_time_s: float
    pieces: tuple[Piece, ...]

    @property
    def saved_g(self) -> float | None:
        """May be negative."""
        if self.emissions_g is None or self.run_now_g is None:
            return None
        return self.run_now_g - self.emissions_g


@dataclass(frozen=True, slots=True)
class Piece:
    """One row of the book weighed: what a stranger multiplies again."""

    row: EnergyInterval
    intensity_g_per_kwh: float | None
    emissions_g: float | None


def account(
    observed: Observed,
    rows: Sequence[EnergyInterval],
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
    settled_until: datetime | None = None,
) -> Account:
    """Weigh a job's energy.

    Args:
        rows: its energy so far, over all runs.
        intensities: zone -> best known intensity from submission to the last row's end.
        regions: for the zone and PUE of the home region.
        settled_until: measured values of later periods may still be revised; None: none is.
    """
    pieces = tuple(_weigh(r, _effective(r, intensities, regions)) for r in rows)
    energy_j = sum(r.joules for r in rows)
    grams = [p.emissions_g for p in pieces]
    run_time_s = _run_time_s(rows)
    mean_w = energy_j / run_time_s if run_time_s > 0 else 0.0
    return Account(
        energy_j=energy_j,
        emissions_g=None if any(g is None for g in grams) else sum(g for g in grams if g is not None),
        run_now_g=_run_now_g(observed, rows, intensities, regions),
        method=max((r.method for r in rows), key=lambda m: _WORST.index(Method(m)), default=""),
        settled=bool(rows) and all(_settled(p.row, intensities.get(p.row.zone), settled_until) for p in pieces),
        mean_power_w=mean_w,
        run_time_s=run_time_s,
        pieces=pieces,
    )


def _effective(row: EnergyInterval, intensities: Mapping[str, Series], regions: Mapping[str, Region]) -> Series | None:
    """What a kilowatt-hour of this row was worth: the zone's intensity, with what the region generates itself. A region
    that was moved to another zone or deleted since counts as the row says: all from the grid."""
    series, region = intensities.get(row.zone), regions.get(row.region)
    return region.effective(series) if series is not None and region is not None and region.zone == row.zone else series


def _weigh(row: EnergyInterval, series: Series | None) -> Piece:
    if series is None or not series.covers(row.start, row.end) or row.end <= row.start:
        return Piece(row, None, None)
    intensity = series.mean(row.start, row.end)
    return Piece(row, intensity, row.joules / JOULES_PER_KWH * intensity * row.pue)


def _settled(row: EnergyInterval, series: Series | None, until: datetime | None) -> bool:
    final = until is None or row.end <= until
    found = series.quality_over(row.start, row.end) if series is not None else ()
    return bool(found) and all(q is Quality.RECORDED or (final and q is Quality.MEASURED) for q in found)


def _run_time_s(rows: Sequence[EnergyInterval]) -> float:
    """Running time over all runs: the components of one run run side by side."""
    spans: dict[tuple[int, str], tuple[datetime, datetime]] = {}
    for r in rows:
        key = (r.attempt, r.pod_uid)
        a, b = spans.get(key, (r.start, r.end))
        spans[key] = (min(a, r.start), max(b, r.end))
    return sum((b - a).total_seconds() for a, b in spans.values())


@dataclass(frozen=True, slots=True)
class AsDeclared:
    """What a run at a power level would have been without it.

    Attributes:
        speed: its useful time is to be multiplied by this.
        draw: and its power by this.
    """

    attempt: int
    level: str
    speed: float
    draw: float


@dataclass(frozen=True, slots=True)
class Reference:
    """The same work as declared, in one go.

    Attributes:
        useful_s: running time of what was kept, without resumes.
        power_w: mean over the runs of which something was kept.
        levels: the runs that were at a level.
    """

    useful_s: float
    power_w: float
    levels: tuple[AsDeclared, ...]


def reference(observed: Observed, rows: Sequence[EnergyInterval]) -> Reference:
    """Returns what the useful work of the runs in `rows` would have taken as declared, in one go.

    Work is useful when it was kept: what failed, was lost or had to be done again is overhead on our side only, so that
    waste never raises a saving (docs/accounting.md).
    """
    runs = {r.attempt: r for r in observed.runs}
    declared_s = observed.job.spec.duration.total_seconds()
    told_s = untold_s = time_s = energy_j = kept = 0.0
    levels, attempts = [], sorted({r.attempt for r in rows})
    for attempt in attempts:
        mine, run = [r for r in rows if r.attempt == attempt], runs.get(attempt)
        ran_s, joules, speed, draw = _run_time_s(mine), sum(r.joules for r in mine), 1.0, 1.0
        useful_s = _kept_s(observed, run, ran_s, kept, resumed=told_s + untold_s > 0)
        if run is not None and run.level and ran_s > 0:
            speed, draw = _as_declared(observed.job.spec, run.level, joules / ran_s)
            levels.append(AsDeclared(attempt, run.level, speed, draw))
        if useful_s <= 0:
            continue
        if run is not None and run.told is not None:
            told_s, kept = told_s + speed * useful_s, max(kept, run.told)
        else:
            untold_s += speed * useful_s
        time_s += speed * ran_s
        energy_j += speed * draw * joules
    if len(attempts) > 1:  # nobody says how much of it was done twice: at most what the whole was to take
        untold_s = min(untold_s, max(0.0, declared_s - told_s))
    return Reference(told_s + untold_s, energy_j / time_s if time_s > 0 else 0.0, tuple(levels))


def _kept_s(observed: Observed, run: Run | None, ran_s: float, kept: float, *, resumed: bool) -> float:
    """Running time of one run whose work was kept.

    Args:
        run: None where nothing is known of it but its energy.
        kept: share of the whole job that was done and safe before it.
        resumed: it began with loading what others had done, which running at once would not have needed.
    """
    worked_s = max(0.0, ran_s - observed.job.overhead().total_seconds()) if resumed else ran_s
    if run is None or run.phase.live or run.phase is Phase.SUCCEEDED:
        return worked_s
    if run.told is not None:
        share = run.told - kept
        if share <= 0:
            return 0.0
        left_s = share * observed.job.spec.duration.total_seconds() / speed_of(observed.job.spec, run.level)
        return worked_s if run.phase is Phase.PAUSED else min(worked_s, left_s)
    return worked_s if run.phase is Phase.PAUSED and run.exit_code == EXIT_PAUSED else 0.0


def _as_declared(spec: GreenJobSpec, level: str, seen_w: float) -> tuple[float, float]:
    """(speed, draw), both as declared. A run that draws more than its level says would have drawn the declared power
    at most, or a cap that is not kept would save on paper."""
    declared_w = power_w(spec)
    draw = declared_w / power_w(spec, level)
    if draw > 1.0 and seen_w > 0:
        draw = max(1.0, min(draw, declared_w / seen_w))
    return speed_of(spec, level), draw


def _run_now_g(
    observed: Observed,
    rows: Sequence[EnergyInterval],
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
) -> float | None:
    """The counterfactual: the useful work, from submission, at home, as declared. What failed for good has none."""
    over = end_of(observed)
    if over is not None and not over.succeeded:
        return None
    home = regions.get(home_of(observed.job.spec))
    submitted = observed.job.metadata.creation_timestamp
    if home is None or submitted is None or not rows:
        return None
    same = reference(observed, rows)
    series = intensities.get(home.zone)
    end = submitted + timedelta(seconds=same.useful_s)
    if series is None or same.useful_s == 0 or not series.covers(submitted, end):
        return None
    return same.power_w * same.useful_s / JOULES_PER_KWH * home.effective(series).mean(submitted, end) * home.pue
