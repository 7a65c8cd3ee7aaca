"""The baseline: the useful work of a job as declared, without a pause, from its submission, in its home region; and
what each lever saved against it.

Useful work is what was kept (docs/accounting.md). Of each run a stretch of time counts as kept: all but the resume, or
as much as its reported progress covers, or none. The energy of that stretch is the useful energy, so work that failed,
was lost or was repeated never raises the baseline: it counts only as overhead of the actual runs.
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
from windward_api.contract import EXIT_PAUSED
from windward_api.greenjob import GreenJobSpec

JOULES_PER_KWH = 3.6e6
_FROM_BEST = (Quality.MEASURED, Quality.RECORDED, Quality.ESTIMATED, Quality.FORECAST)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of one run.

    Attributes:
        ran_s: its running time.
        start, end: the stretch whose work was kept; equal where none was.
        share: of the stretch that counts, where runs do not report what they repeated; else 1.
        speed, draw: by which its time and its power are multiplied to have run as declared.
    """

    attempt: int
    level: str
    ran_s: float
    start: datetime
    end: datetime
    share: float
    speed: float
    draw: float

    @property
    def useful_s(self) -> float:
        """Running time of the kept work as declared."""
        return (self.end - self.start).total_seconds() * self.share * self.speed

    def part_of(self, row: EnergyInterval) -> tuple[datetime, datetime, float] | None:
        """(start, end, joules) of a row's useful part; None where it has none."""
        start, end = max(row.start, self.start), min(row.end, self.end)
        if start >= end:
            return None
        return start, end, row.joules * ((end - start) / (row.end - row.start)) * self.share


@dataclass(frozen=True, slots=True)
class Baseline:
    """The same useful work at once, at home, as declared.

    Attributes:
        energy_j: at the meter, before PUE.
        quality: the weakest of the intensities that it was weighed with.
        kept: what was kept of each run.
    """

    region: Region
    start: datetime
    end: datetime
    energy_j: float
    intensity_g_per_kwh: float
    emissions_g: float
    quality: Quality
    kept: tuple[Kept, ...]

    @property
    def useful_s(self) -> float:
        return (self.end - self.start).total_seconds()

    @property
    def power_w(self) -> float:
        return self.energy_j / self.useful_s


@dataclass(frozen=True, slots=True)
class Levers:
    """What each lever saved, in grams; negative where it cost. They add up to the saving.

    Attributes:
        hours_g: running when it ran instead of at once.
        place_g: running where it ran instead of at home.
        power_g: the power levels at which it ran.
        overhead_g: resumes, moves, and work that failed, was lost or was done again: never positive.
    """

    hours_g: float
    place_g: float
    power_g: float
    overhead_g: float


def weakest(qualities: Sequence[Quality]) -> Quality:
    """Returns the quality that a figure resting on all of these has."""
    return max(qualities, key=_FROM_BEST.index)


def effective(row: EnergyInterval, intensities: Mapping[str, Series], regions: Mapping[str, Region]) -> Series | None:
    """Returns the intensity series of a row: that of its zone, mixed with the region's on-site generation; None where
    the zone is unknown. Of a region that was deleted or moved to another zone, only the grid's intensity counts."""
    series, region = intensities.get(row.zone), regions.get(row.region)
    return region.effective(series) if series is not None and region is not None and region.zone == row.zone else series


def running_s(rows: Sequence[EnergyInterval]) -> float:
    """Returns the running time over all runs: the components of one run run side by side."""
    spans: dict[tuple[int, str], tuple[datetime, datetime]] = {}
    for r in rows:
        a, b = spans.get((r.attempt, r.pod_uid), (r.start, r.end))
        spans[r.attempt, r.pod_uid] = (min(a, r.start), max(b, r.end))
    return sum((b - a).total_seconds() for a, b in spans.values())


def kept_of(observed: Observed, rows: Sequence[EnergyInterval]) -> tuple[Kept, ...]:
    """Returns what was kept of each run that has rows, by attempt."""
    runs = {r.attempt: r for r in observed.runs}
    spec, overhead, takes = observed.job.spec, observed.job.overhead(), counted_duration(observed, rows)
    out: list[Kept] = []
    done, untold = 0.0, set()
    for attempt in sorted({r.attempt for r in rows}):
        run_rows, run = [r for r in rows if r.attempt == attempt], runs.get(attempt)
        start, end = min(r.start for r in run_rows), max(r.end for r in run_rows)
        level, ran_s = run.level if run is not None else "", running_s(run_rows)
        resumed = any(k.useful_s > 0 for k in out)
        begin = min(start + overhead, end) if resumed else start
        stop = _kept_until(takes / speed_of(spec, level), run, begin, end, done)
        progress = run.done_share if run is not None else None
        if progress is None:
            untold.add(attempt)
        elif stop > begin:
            done = max(done, progress)
        speed, draw = (
            as_declared(spec, level, sum(r.joules for r in run_rows) / ran_s) if level and ran_s > 0 else (1.0, 1.0)
        )
        out.append(Kept(attempt, level, ran_s, begin, max(begin, stop), 1.0, speed, draw))
    return _bounded(out, untold, takes)


def counted_duration(observed: Observed, rows: Sequence[EnergyInterval]) -> timedelta:
    """Returns the running time of the whole work that its account rests on: as declared; where nothing is, what it was
    planned with, and no less than its runs took."""
    declared = observed.job.spec.duration
    return declared or max(observed.durations.expected, timedelta(seconds=running_s(rows)))


def _bounded(kept: list[Kept], untold: set[int], takes: timedelta) -> tuple[Kept, ...]:
    """Caps the useful time at the duration of the work where a job had several runs and they do not report what they
    repeated."""
    untold_s = sum(k.useful_s for k in kept if k.attempt in untold)
    most_s = max(0.0, takes.total_seconds() - sum(k.useful_s for k in kept if k.attempt not in untold))
    if len(kept) < 2 or untold_s <= most_s:
        return tuple(kept)
    share = most_s / untold_s
    return tuple(
        Kept(k.attempt, k.level, k.ran_s, k.start, k.end, share if k.attempt in untold else 1.0, k.speed, k.draw)
        for k in kept
    )


def _kept_until(takes: timedelta, run: Run | None, begin: datetime, end: datetime, done: float) -> datetime:
    """Until when the work of a run was kept; `begin` where none was.

    Args:
        takes: the running time of the whole work at the level of the run.
        run: None where nothing is known of it but its energy.
        done: share of the whole job that was done and safe before it.
    """
    if run is None or run.phase.live or run.phase is Phase.SUCCEEDED:
        return end
    if run.done_share is not None:
        share = run.done_share - done
        if share <= 0:
            return begin
        if run.phase is Phase.PAUSED:
            return end
        return min(end, begin + share * takes)
    return end if run.phase is Phase.PAUSED and run.exit_code == EXIT_PAUSED else begin


def as_declared(spec: GreenJobSpec, level: str, seen_w: float) -> tuple[float, float]:
    """Returns (speed, draw): the factors from a run at a level to one as declared. A run that drew more than its level
    states is scaled to the declared power at most; otherwise a cap that is not kept would appear as a saving."""
    declared_w = power_w(spec)
    draw = declared_w / power_w(spec, level)
    if draw > 1.0 and seen_w > 0:
        draw = max(1.0, min(draw, declared_w / seen_w))
    return speed_of(spec, level), draw


def baseline_of(
    observed: Observed,
    rows: Sequence[EnergyInterval],
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
) -> Baseline | None:
    """Returns the baseline; None where home or its hours are not known, or the work failed for good."""
    over = end_of(observed)
    home = regions.get(home_of(observed.job.spec))
    submitted = observed.job.metadata.creation_timestamp
    if home is None or submitted is None or not rows or (over is not None and not over.succeeded):
        return None
    kept = kept_of(observed, rows)
    by_attempt = {k.attempt: k for k in kept}
    energy_j = 0.0
    for row in rows:
        k = by_attempt[row.attempt]
        part = k.part_of(row)
        energy_j += part[2] * k.speed * k.draw if part is not None else 0.0
    series, useful_s = intensities.get(home.zone), sum(k.useful_s for k in kept)
    end = submitted + timedelta(seconds=useful_s)
    if series is None or end <= submitted or not series.covers(submitted, end):
        return None
    mean = home.effective(series).mean(submitted, end)
    grams = energy_j / JOULES_PER_KWH * mean * home.pue
    quality = weakest(series.quality_over(submitted, end))
    return Baseline(home, submitted, end, energy_j, mean, grams, quality, kept)


def levers_of(
    baseline: Baseline,
    rows: Sequence[EnergyInterval],
    emissions_g: float,
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
) -> Levers | None:
    """Returns what each lever saved, one after another: hours, then place, then power; the rest is overhead.

    None where the hours of a run are not known at home.
    """
    home, by_attempt = baseline.region, {k.attempt: k for k in baseline.kept}
    at_home = home.effective(intensities[home.zone])
    later_g = there_g = useful_g = 0.0
    for row in rows:
        k = by_attempt[row.attempt]
        part, here = k.part_of(row), effective(row, intensities, regions)
        if part is None:
            continue
        start, end, joules = part
        if here is None or not here.covers(start, end) or not at_home.covers(start, end):
            return None
        kwh = joules / JOULES_PER_KWH
        later_g += kwh * k.speed * k.draw * at_home.mean(start, end) * home.pue
        there_g += kwh * k.speed * k.draw * here.mean(start, end) * row.pue
        useful_g += kwh * here.mean(start, end) * row.pue
    return Levers(baseline.emissions_g - later_g, later_g - there_g, there_g - useful_g, useful_g - emissions_g)
