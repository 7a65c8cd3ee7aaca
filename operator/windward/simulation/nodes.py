"""What happens on the nodes of simulated regions while time passes: runs start where there is room, work, and end.

A run that finds its region full waits there, as a pod would. Faults take runs away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from windward.domain.clock import FixedClock
from windward.domain.run import Phase
from windward.simulation.faults import Faults
from windward.simulation.job import SimulatedJob
from windward_api.greenregion import GreenRegion

_TOLERANCE = 1e-9  # of a unit: sums of fractions


class RegionCapacity:
    """Units of each resource that regions have, and that are in use."""

    def __init__(self, regions: Sequence[GreenRegion]) -> None:
        self._used: dict[str, dict[str, float]] = {r.metadata.name: {} for r in regions}
        self._units = {r.metadata.name: {c.resource: float(c.count) for c in r.spec.capacity} for r in regions}

    @property
    def regions(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._used)

    def acquire(self, region: str, demand: Mapping[str, float]) -> bool:
        """Take units where there is room for all of them; a resource that a region does not count is never short."""
        used, units = self._used[region], self._units[region]
        if any(used.get(k, 0.0) + v > units[k] + _TOLERANCE for k, v in demand.items() if k in units):
            return False
        for k, v in demand.items():
            used[k] = used.get(k, 0.0) + v
        return True

    def release(self, region: str, demand: Mapping[str, float]) -> None:
        """Give back units that were acquired."""
        for k, v in demand.items():
            self._used[region][k] -= v


class SimulatedNodes:
    """The nodes of all regions, with the jobs whose runs they run.

    Args:
        jobs: all of the cluster, in the order in which they came; shared with it.
    """

    def __init__(
        self, clock: FixedClock, regions: Sequence[GreenRegion], faults: Faults, jobs: Mapping[str, SimulatedJob]
    ) -> None:
        self._clock, self._faults, self._jobs = clock, faults, jobs
        self._capacity = RegionCapacity(regions)

    def start(self, job: SimulatedJob) -> None:
        """Start a job's waiting run if its region has room."""
        self._start(job, self._clock.now())

    def pause(self, job: SimulatedJob) -> None:
        """Pause a job's live run at once."""
        now = self._clock.now()
        if job.live_run.phase is Phase.STARTING:
            job.leave_queue(now)
        else:
            self._end(job, Phase.PAUSED, 75, now, pause_requested=True)

    def remove(self, job: SimulatedJob) -> None:
        """A job was deleted with its runs: the room of a live one is free again."""
        if job.live is not None:
            self._start_waiting(self._release(job), self._clock.now())

    def pass_time(self, span: timedelta) -> bool:
        """Let what runs work for `span`, then move the clock. Returns whether anything ended or was lost meanwhile."""
        now = self._clock.now()
        end, changed = now + span, self._strike(now, now + span)
        while (due := self._next_end(now, end)) is not None:
            moment, job = due
            self._work_all(now, moment)
            self._end(job, Phase.SUCCEEDED, 0, moment)
            now, changed = moment, True
        self._work_all(now, end)
        self._clock.advance(span)
        return changed

    def _strike(self, since: datetime, until: datetime) -> bool:
        """Faults of this span happen at its beginning. Returns whether there were any."""
        hit = False
        if not (self._faults.lost_nodes_per_day or self._faults.reclaims_per_run_day):
            return False
        for region in self._capacity.regions:
            if self._faults.loses_node(region, since, until):
                here = [job for job in self._running() if job.live_run.region == region]
                if here:
                    newest = max(here, key=lambda job: (job.live_run.started_at, job.live_run.name))
                    self._lose(newest, since)
                    hit = True
        for job in list(self._jobs.values()):
            run = job.live
            if run is not None and run.phase is Phase.RUNNING and self._faults.reclaims(run.name, since, until):
                self._reclaim(job, since)
                hit = True
        return hit

    def _reclaim(self, job: SimulatedJob, at: datetime) -> None:
        """SIGTERM with its node: work that can pause pauses; other work is lost and starts again."""
        if job.can_pause:
            self._end(job, Phase.PAUSED, 75, at)
        else:
            self._lose(job, at)

    def _lose(self, job: SimulatedJob, at: datetime) -> None:
        region = self._release(job)
        job.lose(at)
        self._start_waiting(region, at)

    def _end(
        self, job: SimulatedJob, phase: Phase, exit_code: int, at: datetime, *, pause_requested: bool = False
    ) -> None:
        region = self._release(job)
        job.end(phase, exit_code, at, pause_requested=pause_requested)
        self._start_waiting(region, at)

    def _next_end(self, now: datetime, end: datetime) -> tuple[datetime, SimulatedJob] | None:
        """The first run that finishes its work in (now, end]."""
        first: tuple[datetime, str, SimulatedJob] | None = None
        for job in self._running():
            at, name = job.done_at(now), job.live_run.name
            if at <= end and (first is None or (at, name) < first[:2]):
                first = (at, name, job)
        return (first[0], first[2]) if first is not None else None

    def _work_all(self, since: datetime, until: datetime) -> None:
        span_s = (until - since).total_seconds()
        if span_s > 0:
            for job in self._running():
                job.work(span_s)

    def _running(self) -> list[SimulatedJob]:
        return [j for j in self._jobs.values() if (run := j.live) is not None and run.phase is Phase.RUNNING]

    def _start(self, job: SimulatedJob, at: datetime) -> None:
        if self._capacity.acquire(job.live_run.region, job.demand):
            job.begin(at)

    def _start_waiting(self, region: str, at: datetime) -> None:
        """First come, first served."""
        for job in self._jobs.values():
            run = job.live
            if run is not None and run.phase is Phase.STARTING and run.region == region:
                self._start(job, at)

    def _release(self, job: SimulatedJob) -> str:
        """Give back the room of a job's live run. Returns its region."""
        run = job.live_run
        if run.started_at is not None:
            self._capacity.release(run.region, job.demand)
        return run.region
