"""Input types of the planner: jobs and regions as plain numbers, without Kubernetes objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from windward.domain.series import Series, distinct
from windward_api.greenjob import Fallback


@dataclass(frozen=True, slots=True)
class OnSite:
    """Declared generation on site: a share of the demand in some hours of the day (UTC).

    Attributes:
        intensity_g_per_kwh: of the own generation, of the same kind (signal, scope, basis) as the grid's.
        spans: (first hour, hour at which it ends, share of the demand in (0, 1]); they do not overlap.
    """

    intensity_g_per_kwh: float
    spans: tuple[tuple[int, int, float], ...]

    def mixed(self, grid: Series) -> Series:
        """Returns the effective intensity, share x own + (1 - share) x grid; periods break at its hours."""
        hour_s, day_s = 3600.0, 86_400.0
        first, last = float(grid.edges[0]), float(grid.edges[-1])
        days = np.arange(np.floor(first / day_s), np.ceil(last / day_s)) * day_s
        breaks = [days + h * hour_s for span in self.spans for h in span[:2]]
        edges = distinct(np.concatenate([grid.edges, *breaks]))
        edges = edges[(edges >= first) & (edges <= last)]
        period = np.searchsorted(grid.edges, edges[:-1], side="right") - 1
        hour = np.mod((edges[:-1] + edges[1:]) / 2, day_s) / hour_s
        share = np.zeros(len(hour))
        for begins, ends, part in self.spans:
            share[(hour >= begins) & (hour < ends)] = part
        values = share * self.intensity_g_per_kwh + (1 - share) * grid.intensity_g_per_kwh[period]
        return replace(
            grid, edges=edges, intensity_g_per_kwh=values, quality=tuple(grid.quality[i] for i in period.tolist())
        )


@dataclass(frozen=True, slots=True)
class Region:
    """A region as the planner sees it.

    Attributes:
        zone: grid zone that feeds it.
        pue: site energy per IT energy.
        capacity: units of each resource that runs may hold together; a resource that is not listed is unbounded.
        on_site: own generation, part of the effective intensity.
        price_per_hour: cost of one unit of each resource for an hour, in one currency for all regions.
    """

    name: str
    zone: str
    pue: float = 1.0
    capacity: Mapping[str, float] = field(default_factory=dict)
    on_site: OnSite | None = None
    price_per_hour: Mapping[str, float] = field(default_factory=dict)

    def effective(self, grid: Series) -> Series:
        """Returns the intensity of a kilowatt-hour here, with on-site generation, given the zone's series."""
        if self.on_site is None:
            return grid
        return Series.of_stretches([self.on_site.mixed(s) for s in grid.stretches])

    def cost_per_hour(self, demand: Mapping[str, float]) -> float:
        """Returns the cost of holding `demand` for an hour, in the currency of the prices."""
        return sum(units * self.price_per_hour.get(resource, 0.0) for resource, units in demand.items())


@dataclass(frozen=True, slots=True)
class Level:
    """A power level: a measured way to run, such as a power limit or a number of replicas.

    Attributes:
        speed: work done per hour, in hours of running as declared.
        power_w: mean power while running, at the meter, host included.
        demand: units of each resource held instead of the work's own; empty: the same.
        name: as in the spec.
    """

    speed: float
    power_w: float
    demand: Mapping[str, float] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One job as the planner sees it: its remaining work, and where and when it may run.

    Attributes:
        key: namespace/name, the last tie-break.
        earliest: earliest permitted start.
        finish_by: time by which it must be finished.
        remaining: running time still needed, without resume overhead.
        duration: running time of the whole job, for the run-now baseline.
        submitted: start of the run-now baseline.
        power_w: mean power while running, at the meter.
        demand: units of each resource held while running.
        interruptible: whether it may be paused at any time.
        overhead: additional running time of each resume.
        started: whether a run did some of the work already, so that the next start is a resume.
        running_in: region of the live run; continuing there costs no overhead.
        pending: whether the live run's pod still waits for room; it holds nothing yet.
        min_saving: share of the baseline that a later start must save.
        margin: share of the duration kept in reserve before the finish-by time.
        asap: whether the user requested an immediate start.
        spent_g: grams that its runs emitted so far.
        levels: power levels beside the declared one; one level serves the whole job.
        running_level: index of the level of the live run; None: as declared.
        start_energy_wh: energy of every start and resume, at the meter (loading, warming up).
        move_energy_wh: energy of every start away from home, at the meter there (fetching the data).
        delay_g_per_hour: price of an hour until the job's end, in grams; never reported as emissions.
        grams_per_currency: price of one unit of currency, in grams; never reported as emissions.
        priority: higher priorities are placed first; lower ones get the room that is left.
        duration_known: whether anybody knows how long it takes; if not, it starts at once.
        duration_note: what `duration` rests on, as a sentence for the explanation; '': as declared.
        duration_p90: 90 % quantile of the whole job's running time: the finish-by time is kept for it, the grams are
            those of `duration`.
    """

    key: str
    earliest: datetime
    finish_by: datetime
    remaining: timedelta
    duration: timedelta
    submitted: datetime
    power_w: float
    regions: tuple[str, ...]
    home: str
    demand: Mapping[str, float] = field(default_factory=dict)
    interruptible: bool = False
    overhead: timedelta = timedelta(0)
    started: bool = False
    running_in: str | None = None
    pending: bool = False
    min_saving: float = 0.0
    fallback: Fallback = Fallback.RUN_NOW
    margin: float = 0.05
    asap: bool = False
    spent_g: float = 0.0
    levels: tuple[Level, ...] = ()
    running_level: int | None = None
    start_energy_wh: float = 0.0
    move_energy_wh: float = 0.0
    delay_g_per_hour: float = 0.0
    grams_per_currency: float = 0.0
    priority: int = 0
    duration_p90: timedelta | None = None
    duration_known: bool = True
    duration_note: str = ""

    @property
    def reserve(self) -> timedelta:
        """Time kept free before the finish-by time for a slower node or one more resume."""
        longer = (self.duration_p90 or self.duration) - self.duration
        return max(self.duration * self.margin, self.overhead if self.interruptible else timedelta(0), longer)

    def demand_at(self, level: int | None) -> Mapping[str, float]:
        """Returns units of each resource held at a power level; None: as declared."""
        return self.demand if level is None else self.levels[level].demand or self.demand

    def latest_start(self) -> datetime:
        """Returns the last moment from which it must run without a pause to finish in time.

        It follows from the finish-by time and the remaining work alone, so replanning never moves it.
        """
        resume = self.overhead if self.started and (self.running_in is None or self.pending) else timedelta(0)
        speed = 1.0 if self.running_level is None else self.levels[self.running_level].speed
        return self.finish_by - self.reserve - self.remaining / speed - resume


@dataclass(frozen=True, slots=True)
class Fleet:
    """All jobs to place, and all regions.

    Attributes:
        unchanged: keys of work that has not changed since the previous plan, which used the same forecasts. Its plans
            are kept where the other work can be added beside them.
    """

    work: tuple[Work, ...]
    regions: Mapping[str, Region]
    unchanged: frozenset[str] = frozenset()
