"""What the planner plans: jobs and regions as plain numbers, free of Kubernetes."""

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
        intensity_g_per_kwh: of the own generation, counted as the grid's is.
        spans: (first hour, hour at which it ends, share of the demand in (0, 1]); they do not overlap.
    """

    intensity_g_per_kwh: float
    spans: tuple[tuple[int, int, float], ...]

    def mixed(self, grid: Series) -> Series:
        """The effective intensity: share x own + (1 - share) x grid, in periods that break where the share does."""
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
    """A place to run.

    Attributes:
        zone: grid zone that feeds it.
        pue: site energy per IT energy.
        capacity: units of each resource that runs may hold together; a resource that is not listed has no bound.
        on_site: own generation, part of the effective intensity.
        price_per_hour: what an hour of one unit of each resource costs here, in any one currency.
    """

    name: str
    zone: str
    pue: float = 1.0
    capacity: Mapping[str, float] = field(default_factory=dict)
    on_site: OnSite | None = None
    price_per_hour: Mapping[str, float] = field(default_factory=dict)

    def effective(self, grid: Series) -> Series:
        """The intensity that a kilowatt-hour here has, given its zone's."""
        if self.on_site is None:
            return grid
        return Series.of_stretches([self.on_site.mixed(s) for s in grid.stretches])

    def cost_per_hour(self, demand: Mapping[str, float]) -> float:
        """Of holding `demand` for an hour, in the currency of the prices."""
        return sum(units * self.price_per_hour.get(resource, 0.0) for resource, units in demand.items())


@dataclass(frozen=True, slots=True)
class Level:
    """One measured way to run: a power limit, or a number of replicas.

    Attributes:
        speed: work done in an hour, in hours of the work's declared running.
        power_w: draw while it runs so, at the meter, host included.
        demand: units of each resource that it holds instead of the work's own; empty: the same.
        name: what the user calls it.
    """

    speed: float
    power_w: float
    demand: Mapping[str, float] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """One job as the planner sees it: what is left to do, and where and when it may be done.

    Attributes:
        key: namespace/name, the last tie-break.
        earliest: it may not run before.
        finish_by: it must be finished by then.
        remaining: running time still needed, without resume overhead.
        duration: running time of the whole job, for the run-now baseline.
        submitted: when running at once would have started.
        power_w: draw while it runs, at the meter.
        demand: units of each resource that it holds while it runs.
        interruptible: it may be paused at any time.
        overhead: running time that each resume costs.
        started: at least one run did some of the work, so that the next start is a resume.
        running_in: region of the run that is going on now; going on there costs no overhead.
        pending: that run has not begun: it holds nothing yet, and waits for room there.
        margin: share of the duration kept in reserve before the finish-by time.
        asap: the user asked for an immediate start.
        spent_g: grams that its runs emitted so far.
        levels: measured ways to run beside the declared one; one of them serves the whole job.
        running_level: index of the level at which it runs now; None: as declared.
        start_energy_wh: drawn once more at every start and resume, at the meter (loading, warming up).
        move_energy_wh: drawn at every start away from home, at the meter there (fetching the data).
        delay_g_per_hour: what an hour of waiting for its end is worth, in grams; never reported as emissions.
        grams_per_currency: what one unit of currency is worth, in grams; never reported as emissions.
        priority: higher ones are placed first; lower ones get what room is left.
        duration_p90: running time of the whole job that nine runs in ten keep: the deadline is held for it, the grams
            are those of `duration`.
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

    @property
    def reserve(self) -> timedelta:
        """Time kept free before the finish-by for what no plan foresees: a slower node, one more resume."""
        longer = (self.duration_p90 or self.duration) - self.duration
        return max(self.duration * self.margin, self.overhead if self.interruptible else timedelta(0), longer)

    def demand_at(self, level: int | None) -> Mapping[str, float]:
        """What it holds while it runs at one of its levels; None: as declared."""
        return self.demand if level is None else self.levels[level].demand or self.demand

    def latest_start(self) -> datetime:
        """When it must run without further pause to finish in time, whatever the carbon.

        Absolute: it follows from the finish-by time alone and never slides with replanning.
        """
        resume = self.overhead if self.started and (self.running_in is None or self.pending) else timedelta(0)
        speed = 1.0 if self.running_level is None else self.levels[self.running_level].speed
        return self.finish_by - self.reserve - self.remaining / speed - resume


@dataclass(frozen=True, slots=True)
class Fleet:
    """All work to place, and all places.

    Attributes:
        unchanged: keys of work of which nothing changed since the previous plan, made on these very forecasts.
            Where the rest finds good room beside it, its plans are kept as they are.
    """

    work: tuple[Work, ...]
    regions: Mapping[str, Region]
    unchanged: frozenset[str] = frozenset()
