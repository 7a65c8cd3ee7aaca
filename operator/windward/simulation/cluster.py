"""A cluster that exists only in numbers: GreenJobs, runs that take time and draw power, regions that are full or not.

It keeps the promises of the `Cluster` port. A run that finds its region full waits there, as a pod would; work, pauses
and failures follow the contract with containers, and the meter writes what a worker would report. As on a real cluster,
what a run has done is told when it ends or pauses; until then its running time says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from windward.cluster import AttemptConflict, Snapshot
from windward.cluster.port import BadObject
from windward.domain.clock import FixedClock
from windward.domain.observed import Event, Observed
from windward.domain.run import Phase, Run
from windward.lifecycle.work import demand_of, power_w, speed_of
from windward.manifests import RunFacts
from windward.simulation.faults import Faults
from windward_api.contract import EnergyComponent, EnergySeries, Method, Progress, Report
from windward_api.contract import Outcome as Ended
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob, GreenJobStatus, InterruptionPolicy
from windward_api.greenregion import GreenRegion, GreenRegionStatus

HOUR_S = 3600.0
_ENDED = {Phase.SUCCEEDED: Ended.SUCCEEDED, Phase.PAUSED: Ended.PAUSED}


@dataclass(slots=True)
class SimulatedJob:
    """A job with what only the world knows of it."""

    job: GreenJob
    takes_s: float  # true duration as declared, without interruption
    demand: Mapping[str, float]
    done_s: float = 0.0
    runs: tuple[Run, ...] = ()
    worked_s: float = 0.0  # of the live run
    resume_s: float = 0.0  # of the live run, still to pass
    speed: float = 1.0  # of the live run, at its level
    finished_at: datetime | None = None
    first_start: datetime | None = None
    seen: Observed | None = None  # made anew when something changed

    @property
    def live(self) -> Run | None:
        """Only the last run may be: none is created beside a live one."""
        return self.runs[-1] if self.runs and self.runs[-1].phase.live else None


@dataclass
class SimulatedCluster:
    """See the module."""

    clock: FixedClock
    regions: Sequence[GreenRegion]
    faults: Faults = field(default_factory=Faults)
    jobs: dict[str, SimulatedJob] = field(default_factory=dict)
    gone: dict[str, SimulatedJob] = field(default_factory=dict)  # deleted, by uid: kept for the count
    used: dict[str, dict[str, float]] = field(default_factory=dict)
    events: int = 0

    def __post_init__(self) -> None:
        self.used = {r.metadata.name: {} for r in self.regions}
        self._capacity = {r.metadata.name: {c.resource: float(c.count) for c in r.spec.capacity} for r in self.regions}

    # -- the port ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        seen = []
        for j in self.jobs.values():
            if j.seen is None:
                j.seen = Observed(j.job, j.runs)
            seen.append(j.seen)
        return Snapshot(tuple(seen), (), tuple(self.regions), ())

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        mine = self.jobs.get(observed.key)
        if mine is None or mine.seen is not observed:
            raise AttemptConflict(f"{observed.key} changed")
        self._tell(mine, mine.job.status.model_copy(update={"attempt": attempt, "attempt_region": region}))
        return mine.job

    def create_run(self, facts: RunFacts) -> None:
        mine, now = self._of(facts.job), self.clock.now()
        name, region = facts.name, facts.region.metadata.name
        if any(r.name == name for r in mine.runs):
            return
        assert mine.live is None, f"S1: {name} was created beside a live run"
        mine.runs += (Run(name, facts.attempt, region, Phase.STARTING, pod_uid=f"pod-{name}", level=facts.level),)
        mine.speed = speed_of(facts.job.spec, facts.level)
        mine.seen = None
        self._admit(mine, now)

    def stop_run(self, job: GreenJob, name: str) -> None:
        mine = self._of(job)
        run = mine.live
        if run is None or run.name != name:
            return
        if run.phase is Phase.STARTING:  # nothing computed yet: it only leaves the queue
            self._replace(
                mine, replace(run, phase=Phase.PAUSED, exit_code=75, finished_at=self.clock.now(), asked=True)
            )
        else:
            self._end(mine, run, Phase.PAUSED, 75, self.clock.now(), asked=True)

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        mine = self.jobs.get(f"{job.metadata.namespace}/{job.metadata.name}")
        if mine is not None:
            self._tell(mine, status)
            self.events += len(events)

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        raise AssertionError(f"{bad.key}: nothing that is simulated is malformed")

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        raise AssertionError("no crons are simulated")

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        """Nobody looks at it, and it changes nothing."""

    def create_job(self, body: Mapping[str, Any]) -> None:
        raise AssertionError("no crons are simulated")

    def delete_job(self, namespace: str, name: str) -> None:
        mine = self.jobs.pop(f"{namespace}/{name}", None)
        if mine is not None:
            self.gone[mine.job.metadata.uid] = mine

    # -- the world ---------------------------------------------------------------------------------------------------

    def submit(self, job: GreenJob) -> None:
        """A user applies a GreenJob."""
        takes_s = self.faults.duration(job).total_seconds()
        self.jobs[f"{job.metadata.namespace}/{job.metadata.name}"] = SimulatedJob(job, takes_s, demand_of(job.spec))

    def pass_time(self, span: timedelta) -> bool:
        """Let what runs work for `span`, then move the clock; whether anything ended or was lost meanwhile."""
        now = self.clock.now()
        end, changed = now + span, self._strike(now, now + span)
        while (due := self._next_end(now, end)) is not None:
            moment, mine = due
            self._work_all(now, moment)
            self._end(mine, self._live(mine), Phase.SUCCEEDED, 0, moment)
            now, changed = moment, True
        self._work_all(now, end)
        self.clock.advance(span)
        return changed

    def _strike(self, since: datetime, until: datetime) -> bool:
        """Faults of this span happen at its beginning."""
        hit = False
        if not (self.faults.lost_nodes_per_day or self.faults.reclaims_per_run_day):
            return False
        for name in self.used:
            if self.faults.loses_node(name, since, until):
                here = [
                    j for j in self.jobs.values() if (r := j.live) and r.region == name and r.phase is Phase.RUNNING
                ]
                if here:
                    mine = max(here, key=lambda j: (self._live(j).started_at, self._live(j).name))
                    self._lose(mine, since)
                    hit = True
        for mine in list(self.jobs.values()):
            run = mine.live
            if run is not None and run.phase is Phase.RUNNING and self.faults.reclaims(run.name, since, until):
                self._reclaim(mine, run, since)
                hit = True
        return hit

    def _reclaim(self, mine: SimulatedJob, run: Run, at: datetime) -> None:
        """SIGTERM with its node: work that can pause pauses; other work is lost and starts again."""
        if mine.job.spec.interruption.policy is InterruptionPolicy.CHECKPOINT:
            self._end(mine, run, Phase.PAUSED, 75, at)
        else:
            self._lose(mine, at)

    def _lose(self, mine: SimulatedJob, at: datetime) -> None:
        """The node is gone without a word, and what was not saved: a checkpoint of the run's own start remains."""
        run = self._live(mine)
        mine.done_s = max(0.0, mine.done_s - mine.speed * max(0.0, mine.worked_s - mine.resume_s))
        self._free(mine, run)
        self._replace(mine, replace(run, phase=Phase.LOST, finished_at=at, progress=None, report=None))
        self._admit_waiting(run.region, at)

    def _next_end(self, now: datetime, end: datetime) -> tuple[datetime, SimulatedJob] | None:
        """The first run that finishes its work in (now, end]."""
        first: tuple[datetime, str, SimulatedJob] | None = None
        for mine, run in self._running():
            at = now + timedelta(seconds=mine.resume_s + max(0.0, mine.takes_s - mine.done_s) / mine.speed)
            if at <= end and (first is None or (at, run.name) < first[:2]):
                first = (at, run.name, mine)
        return (first[0], first[2]) if first is not None else None

    def _work_all(self, since: datetime, until: datetime) -> None:
        span_s = (until - since).total_seconds()
        if span_s <= 0:
            return
        for mine, _ in self._running():
            resume_s = min(span_s, mine.resume_s)
            mine.resume_s -= resume_s
            mine.worked_s += span_s
            mine.done_s = min(mine.takes_s, mine.done_s + mine.speed * (span_s - resume_s))

    def _running(self) -> list[tuple[SimulatedJob, Run]]:
        return [(j, run) for j in self.jobs.values() if (run := j.live) is not None and run.phase is Phase.RUNNING]

    def _admit(self, mine: SimulatedJob, now: datetime) -> None:
        """Start the waiting run if its region has room."""
        run = self._live(mine)
        used, room = self.used[run.region], self._capacity[run.region]
        if any(used.get(k, 0.0) + v > room[k] + 1e-9 for k, v in mine.demand.items() if k in room):
            return
        for k, v in mine.demand.items():
            used[k] = used.get(k, 0.0) + v
        mine.worked_s = 0.0
        mine.resume_s = mine.job.overhead().total_seconds() if mine.done_s > 0 else 0.0
        mine.first_start = mine.first_start or now
        self._replace(mine, replace(run, phase=Phase.RUNNING, started_at=now))

    def _admit_waiting(self, region: str, now: datetime) -> None:
        """First come, first served."""
        for mine in self.jobs.values():
            run = mine.live
            if run is not None and run.phase is Phase.STARTING and run.region == region:
                self._admit(mine, now)

    def _end(self, mine: SimulatedJob, run: Run, phase: Phase, code: int, at: datetime, *, asked: bool = False) -> None:
        self._free(mine, run)
        fraction = min(1.0, mine.done_s / mine.takes_s)
        report = Report.model_construct(
            outcome=_ENDED[phase],
            progress=Progress.model_construct(fraction=fraction, units_done=0, unit="unit", metrics={}),
            energy=self._metered(mine, run),
            run_units=0,
            message="",
        )
        ended = replace(run, phase=phase, exit_code=code, finished_at=at, report=report, progress=fraction, asked=asked)
        if phase is Phase.SUCCEEDED:
            mine.finished_at = at
        self._replace(mine, ended)
        self._admit_waiting(run.region, at)

    def _metered(self, mine: SimulatedJob, run: Run) -> EnergySeries | None:
        """Declared watts over the time that it really ran, in steps of at most an hour: what the meter would say."""
        if mine.worked_s <= 0 or run.started_at is None:
            return None
        steps = max(1, -int(-mine.worked_s // HOUR_S))
        joules = (power_w(mine.job.spec, run.level) * mine.worked_s / steps,) * steps
        gpu = EnergyComponent.model_construct(name="gpu", method=Method.MODELLED, source="simulated", joules=joules)
        return EnergySeries.model_construct(start=run.started_at, step_s=mine.worked_s / steps, components=(gpu,))

    def _free(self, mine: SimulatedJob, run: Run) -> None:
        if run.started_at is not None:
            used = self.used[run.region]
            for k, v in mine.demand.items():
                used[k] -= v

    def _replace(self, mine: SimulatedJob, run: Run) -> None:
        mine.runs = tuple(run if r.name == run.name else r for r in mine.runs)
        mine.seen = None

    def _tell(self, mine: SimulatedJob, status: GreenJobStatus) -> None:
        mine.job = mine.job.model_copy(update={"status": status})
        mine.seen = None

    def _of(self, job: GreenJob) -> SimulatedJob:
        return self.jobs[f"{job.metadata.namespace}/{job.metadata.name}"]

    @staticmethod
    def _live(mine: SimulatedJob) -> Run:
        run = mine.live
        assert run is not None, f"{mine.job.metadata.name} has no live run"
        return run
