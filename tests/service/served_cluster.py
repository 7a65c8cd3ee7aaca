"""The simulated cluster behind what an API server does: users' objects are JSON, faults come on demand, notes are kept.

Jobs, runs, their work and their meters, and what the port promises of them, are the simulated cluster's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from windward.cluster.parse import read_job, read_objects
from windward.cluster.port import BadObject, ClusterError, Refused, Snapshot, Unavailable
from windward.domain.observed import Event, Observed
from windward.domain.run import Phase, Run
from windward.manifests import RunFacts
from windward.simulation.cluster import SimulatedCluster
from windward.simulation.job import SimulatedJob
from windward.simulation.nodes import RegionCapacity
from windward_api.contract import Outcome, heard
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.scalars import format_time

Body = dict[str, Any]


class Crash(BaseException):
    """The operator dies here: no `Exception`, so nothing of ours may catch it."""


class BrokenPromise(BaseException):
    """S1 does not hold: no `Exception` either, or the operator's own guard would keep it from the test."""


@dataclass
class Told:
    """What happened to one job, as a stranger would note it down."""

    created: list[tuple[int, str, datetime]] = field(default_factory=list)  # attempt, name, when
    events: list[tuple[datetime, Event]] = field(default_factory=list)
    statuses: int = 0
    intensities: list[float | None] = field(default_factory=list)  # of each run, as it was told


@dataclass
class ServedCluster(SimulatedCluster):
    """See the module.

    Attributes:
        bodies: GreenJobs as they were applied, those too that cannot be read, and are no jobs of the simulation.
        others: GreenCronJobs and GreenRegions as they were applied, with their status.
        last_words: by uid, what a job's containers leave instead of a report.
        crash_after_claim: the next claim is written, and then the operator dies.
        conflict_next: somebody else writes the object just before the next claim.
        refuse_next: the next child is refused by admission.
        down: nothing answers.
        takes: by name, how long a job takes in truth; others as they declare.
        released: keys of jobs that their queue may start without us, as that of a managed workload.
    """

    bodies: dict[str, Body] = field(default_factory=dict)
    others: dict[str, list[Body]] = field(default_factory=lambda: {"GreenCronJob": [], "GreenRegion": []})
    told: dict[str, Told] = field(default_factory=dict)
    last_words: dict[str, str] = field(default_factory=dict)
    crash_after_claim: bool = False
    conflict_next: bool = False
    refuse_next: bool = False
    down: bool = False
    released: set[str] = field(default_factory=set)
    takes: dict[str, timedelta] = field(default_factory=dict)

    # -- the port ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        if self.down:
            raise Unavailable("the API server does not answer")
        for job in self.jobs.values():
            job._observed = None  # read anew each time
        crons, regions, bad = read_objects(self.others["GreenCronJob"], self.others["GreenRegion"])
        bad += [read_job(body) for key, body in self.bodies.items() if key not in self.jobs]
        jobs = super().snapshot().jobs
        jobs = tuple(replace(o, released=True) if o.key in self.released and not o.live else o for o in jobs)
        return Snapshot(jobs, tuple(crons), tuple(regions), tuple(bad))

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        if self.conflict_next:
            self.conflict_next = False
            self.jobs[observed.key].write_status(self.jobs[observed.key].job.status)
        claimed = super().claim_attempt(observed, attempt, region)
        if self.crash_after_claim:
            self.crash_after_claim = False
            raise Crash
        return claimed

    def create_run(self, facts: RunFacts) -> None:
        if self.refuse_next:
            self.refuse_next = False
            raise Refused("admission webhook says no")
        job, told = self.jobs[_key(facts.job)], self.told[facts.job.metadata.uid]
        is_new = all(run.name != facts.name for run in job.runs)
        if is_new and job.live is not None:
            raise BrokenPromise(f"S1: {facts.name} is created beside a live run")
        if is_new and job.job.status.attempt != facts.attempt:
            raise BrokenPromise(f"S1: the number of {facts.name} does not stand in the status before it is created")
        super().create_run(facts)
        if is_new:
            told.created.append((facts.attempt, facts.name, self.clock.now()))
            told.intensities.append(facts.intensity_g_per_kwh)

    def stop_run(self, job: GreenJob, name: str) -> None:
        """What runs is stopping until time passes: it writes its checkpoint."""
        live = self.jobs[_key(job)].live if _key(job) in self.jobs else None
        if live is not None and live.name == name and live.phase is not Phase.STARTING:
            self.change(job.metadata.uid, phase=Phase.STOPPING)
        else:
            super().stop_run(job, name)

    def hold(self, job: GreenJob) -> None:
        self.released.discard(_key(job))

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        super().write_status(job, GreenJobStatus.model_validate(_dump(status)), events)
        if _key(job) in self.jobs:
            told = self.told[job.metadata.uid]
            told.statuses += 1
            told.events += [(self.clock.now(), e) for e in events]

    def write_bad(self, bad: BadObject, status: Any) -> None:
        body = self.bodies[bad.key] if bad.kind == "GreenJob" else self._other(bad.kind, bad.name)
        body["status"] = _dump(status)

    def write_cron_status(self, cron: Any, status: Any) -> None:
        self._other("GreenCronJob", cron.metadata.name)["status"] = _dump(status)

    def write_region_status(self, region: Any, status: Any) -> None:
        self._other("GreenRegion", region.metadata.name)["status"] = _dump(status)

    def create_job(self, body: Any) -> None:
        if f"{body['metadata']['namespace']}/{body['metadata']['name']}" not in self.bodies:
            self.apply(dict(body))

    def delete_job(self, namespace: str, name: str) -> None:
        super().delete_job(namespace, name)
        self.bodies.pop(f"{namespace}/{name}", None)

    # -- users -------------------------------------------------------------------------------------------------------

    def apply(self, body: Body) -> str:
        """A user creates an object, or replaces a region; returns its uid."""
        name, now = body["metadata"]["name"], format_time(self.clock.now())
        uid = f"{len(self.told) + 1:08x}-0000-4000-8000-000000000000" if body["kind"] == "GreenJob" else f"uid-{name}"
        given = {"uid": uid, "generation": 1, "resourceVersion": "1", "creationTimestamp": now}
        if body["kind"] == "GreenJob":
            self._apply_job({**body, "metadata": {"namespace": "default", **body["metadata"], **given}})
        else:
            self._apply_other({**body, "metadata": {**given, **body["metadata"]}})
        return uid

    def edit(self, key: str, **spec: Any) -> None:
        """Change parts of a job's spec."""
        body = self.bodies[key]
        body["spec"] = {**body["spec"], **spec}
        body["metadata"]["generation"] += 1
        self._read_again(key)

    def annotate(self, key: str, **annotations: str) -> None:
        """Set annotations of a job."""
        self.bodies[key]["metadata"]["annotations"] = annotations
        self._read_again(key)

    def delete_region(self, name: str) -> None:
        """It is gone; its nodes work on."""
        self.others["GreenRegion"].remove(self._other("GreenRegion", name))

    # -- nodes -------------------------------------------------------------------------------------------------------

    def pass_time(self, span: timedelta) -> bool:
        """As the simulation does; what was told to stop ends at once."""
        live = [job for job in self.jobs.values() if job.live is not None]
        for job in live:
            if job.live_run.phase is Phase.STOPPING:
                self._nodes.pause(job)
        changed = super().pass_time(span)
        for job in live:
            if job.live is None and (words := self.last_words.get(job.job.metadata.uid)) is not None:
                job._replace_live(replace(job.runs[-1], report=heard(words).report))
        return changed

    def fail(self, uid: str, code: int = 1) -> None:
        """The live run of a job, if it has one, ends with an error; a checkpoint that it wrote stays."""
        job = self._job(uid)
        if job.live is not None:
            self._nodes._end(job, Phase.PAUSED, code, self.clock.now())
            report = job.runs[-1].report.model_copy(update={"outcome": Outcome.FAILED})
            self.change(uid, phase=Phase.FAILED, report=report)

    def lose(self, uid: str) -> None:
        """The node of the live run, if there is one, is gone, and its last words with it."""
        if self._job(uid).live is not None:
            self._nodes._lose(self._job(uid), self.clock.now())

    def collect(self, uid: str) -> None:
        """Somebody deletes the ended children: only what the GreenJob's status kept is known of them from now on."""
        job = self._job(uid)
        kept = {r.attempt for r in job.job.status.runs}
        job.runs = tuple(
            r if r.phase.live or r.attempt not in kept else replace(r, pod_uid="", report=None, progress=None)
            for r in job.runs
        )
        job._observed = None

    def change(self, uid: str, **fields: Any) -> None:
        """The newest run of a job looks otherwise."""
        job = self._job(uid)
        job._replace_live(replace(job.runs[-1], **fields))

    # -- what a test looks at ----------------------------------------------------------------------------------------

    def status(self, key: str) -> Body:
        """A job's status as JSON; empty until somebody writes it."""
        job = self.jobs.get(key)
        if job is None:
            return self.bodies[key].get("status", {})
        return _dump(job.job.status) if job.job.status != GreenJobStatus() else {}

    def runs(self, uid: str) -> tuple[Run, ...]:
        """The runs of a job that is there."""
        return next((job.runs for job in self.jobs.values() if job.job.metadata.uid == uid), ())

    def finished_at(self, uid: str) -> datetime | None:
        """When the work was done."""
        return self._job(uid).finished_at

    def _job(self, uid: str) -> SimulatedJob:
        return next(j for j in (*self.jobs.values(), *self.gone.values()) if j.job.metadata.uid == uid)

    def _read_again(self, key: str) -> None:
        job = self.jobs[key]
        read = read_job(self.bodies[key])
        job.job = read.model_copy(update={"status": job.job.status})
        job._observed = None
        if read.spec.duration is not None:
            job.takes_s = read.spec.duration.total_seconds()

    def _apply_job(self, body: Body) -> None:
        meta = body["metadata"]
        self.bodies[f"{meta['namespace']}/{meta['name']}"], self.told[meta["uid"]] = body, Told()
        job = read_job(body)
        if isinstance(job, GreenJob):
            self.submit(job)
            if job.metadata.name in self.takes:
                self.jobs[job.key].takes_s = self.takes[job.metadata.name].total_seconds()

    def _apply_other(self, body: Body) -> None:
        same = [b for b in self.others[body["kind"]] if b["metadata"]["name"] == body["metadata"]["name"]]
        self.others[body["kind"]] = [b for b in self.others[body["kind"]] if b not in same] + [body]
        if body["kind"] == "GreenRegion":
            room, new = self._nodes._capacity, RegionCapacity(read_objects([], [body])[1])
            room._units, room._used = room._units | new._units, new._used | room._used

    def _other(self, kind: str, name: str) -> Body:
        for body in self.others[kind]:
            if body["metadata"]["name"] == name:
                return body
        raise ClusterError(f"{kind} {name} is gone")


def _key(job: GreenJob) -> str:
    return f"{job.metadata.namespace}/{job.metadata.name}"


def _dump(status: Any) -> Body:
    out: Body = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    return out
