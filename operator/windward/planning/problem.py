"""The planning problem of one job: its sites, its time window, and which windows are feasible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.series import Series
from windward.planning.capacity import Occupancy
from windward.planning.windows import Site, WindowQuery, levels_of, site_of

_ROUNDING_S = 1e-6  # rounding error of a datetime in epoch seconds


def covers(site: Site, start: float, end: float) -> bool:
    """Returns whether the site's series covers all of [start, end)."""
    edges = site.series.edges
    return bool(edges[0] <= start + _ROUNDING_S and end <= edges[-1] + _ROUNDING_S)


class Problem:
    """One job at the time of planning. Times are epoch seconds.

    Attributes:
        known: the job's regions that exist.
        sites: those with a usable forecast, at the declared power.
        lanes: the sites, and each site at each power level.
        earliest, latest_end: the time window; it ends the reserve before the finish-by time.
        effective: region -> intensity with on-site generation.
    """

    def __init__(
        self,
        work: Work,
        fleet: Fleet,
        forecasts: Mapping[str, Forecast],
        now: datetime,
        occupancy: Occupancy,
        effective: Mapping[str, Series],
    ) -> None:
        self.work, self.fleet, self.forecasts, self.now, self.occupancy = work, fleet, forecasts, now, occupancy
        self.effective = effective
        self.known = tuple(r for r in work.regions if r in fleet.regions)
        self.sites = tuple(self._sites())
        self.lanes = (*self.sites, *(v for p in self.sites for v in levels_of(work, p)))
        self.earliest = max(work.earliest, now).timestamp()
        self.latest_start = work.latest_start()
        self.latest_end = (work.finish_by - work.reserve).timestamp()

    def _sites(self) -> list[Site]:
        out = []
        for name in self.known:
            region = self.fleet.regions[name]
            forecast = self.forecasts.get(region.zone)
            if forecast is not None and forecast.series is not None and forecast.freshness.usable:
                out.append(site_of(self.work, region, self.effective[name]))
        return out

    @property
    def is_due(self) -> bool:
        """Whether the job must start at once to finish in time."""
        return self.earliest >= self.latest_start.timestamp()

    @property
    def free(self) -> bool:
        """Whether the job has a choice of when or where to run, so that it can make room for others."""
        held = self.work.asap or not self.work.duration_known or self.work.running_in is not None or self.is_due
        return bool(self.sites) and not held

    @property
    def fits_the_forecast(self) -> bool:
        """Whether the forecast of any lane covers an unbroken window within the job's time window."""
        return any(
            min(q.latest, float(q.at.series.edges[-1]) - q.length_s) >= max(q.earliest, float(q.at.series.edges[0]))
            for q in self.queries(self.lanes)
        )

    def length_s(self, region: str | None = None, speed: float = 1.0) -> float:
        """Returns seconds of one unbroken window, with the overhead of a resume where it begins with one."""
        work = self.work
        goes_on = work.running_in is not None and not work.pending and region in (None, work.running_in)
        resume = work.started and not goes_on
        return work.remaining.total_seconds() / speed + (work.overhead.total_seconds() if resume else 0.0)

    def queries(self, sites: Sequence[Site]) -> list[WindowQuery]:
        """Returns the query for one unbroken window at each site."""
        lengths = [self.length_s(p.region.name, p.speed) for p in sites]
        return [
            WindowQuery(p, self.work, s, self.earliest, self.latest_end - s)
            for p, s in zip(sites, lengths, strict=True)
        ]

    def lane(self, region: str | None, level: int | None) -> Site | None:
        """Returns the site of a region at a power level; None where it has no usable forecast."""
        return next((p for p in self.lanes if p.region.name == region and p.level == level), None)

    def goes_on(self, region: str, start: float) -> bool:
        """Returns whether a window with this region and start continues the live run."""
        return region == self.work.running_in and start <= self.earliest and not self.work.pending

    def vintages(self) -> tuple[tuple[str, str], ...]:
        """Returns (zone, vintage) of each forecast that the plan uses."""
        zones = sorted({p.region.zone for p in self.sites})
        return tuple((z, self.forecasts[z].vintage) for z in zones)
