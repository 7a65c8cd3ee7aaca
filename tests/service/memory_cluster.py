"""The `Cluster` port in memory: objects are JSON behind resource versions, runs do simulated work, faults on demand.

It stands in for an API server, so it keeps what one keeps: a status passes through JSON, a write raises the version, a
stale claim is refused, a child of a name that exists is not made twice. It asserts S1 where it can be broken: here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from windward.cluster.parse import read_job, read_objects
from windward.cluster.port import AttemptConflict, BadObject, ClusterError, Refused, Snapshot, Unavailable
from windward.domain.clock import FixedClock
from windward.domain.observed import Event, Observed
from windward.domain.run import Phase, Run
from windward.lifecycle.work import speed_of
from windward.manifests import RunFacts
from windward_api.contract import EnergyComponent, EnergySeries, Method, Outcome, Progress, Report, heard
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob, GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus
from windward_api.scalars import format_time

Body = dict[str, Any]
NO_TIME = timedelta(0)


class Crash(BaseException):
    """The operator dies here: no `Exception`, so nothing of ours may catch it."""


@dataclass
class Told:
    """What happened to one job, as a stranger would note it down."""

    created: list[tuple[int, str, datetime]] = field(default_factory=list)  # attempt, name, when
    events: list[tuple[datetime, Event]] = field(default_factory=list)
    statuses: int = 0
    intensities: list[float | None] = field(default_factory=list)  # of each run, as it was told


@dataclass
class MemoryCluster:
    """See the module.

    Attributes:
        crash_after_claim: the next claim is written, and then the operator dies.
        conflict_next: somebody else writes the object just before the next claim.
        refuse_next: the next child is refused by admission.
        down: nothing answers.
        ahead: by how much the nodes' clocks differ from the operator's.
    """

    clock: FixedClock
    jobs: dict[str, Body] = field(default_factory=dict)
    others: dict[str, list[Body]] = field(default_factory=lambda: {"GreenCronJob": [], "GreenRegion": []})
    runs: dict[str, list[Run]] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    done_s: dict[str, float] = field(default_factory=dict)
    resume_s: dict[str, float] = field(default_factory=dict)  # run name -> resume time still to pass
    worked_s: dict[str, float] = field(default_factory=dict)  # run name -> running time
    last_words: dict[str, str] = field(default_factory=dict)  # uid -> what its containers leave instead of a report
    crash_after_claim: bool = False
    conflict_next: bool = False
    refuse_next: bool = False
    down: bool = False
    ahead: timedelta = NO_TIME
    _version: int = 0

    # -- the port ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        if self.down:
            raise Unavailable("the API server does not answer")
        crons, regions, bad = read_objects(self.others["GreenCronJob"], self.others["GreenRegion"])
        seen: list[Observed] = []
        for body in self.jobs.values():
            job = read_job(body)
            if isinstance(job, BadObject):
                bad.append(job)
            else:
                seen.append(Observed(job, tuple(self.runs.get(job.metadata.uid, ()))))
        return Snapshot(tuple(seen), tuple(crons), tuple(regions), tuple(bad))

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        body = self.jobs.get(observed.key)
        if self.conflict_next and body is not None:
            self.conflict_next = False
            self._touch(body)
        if body is None or body["metadata"]["resourceVersion"] != observed.job.metadata.resource_version:
            raise AttemptConflict(f"{observed.key} changed")
        status = observed.job.status.model_copy(update={"attempt": attempt, "attempt_region": region})
        body["status"] = _dump(status)
        self._touch(body)
        if self.crash_after_claim:
            self.crash_after_claim = False
            raise Crash
        job = read_job(body)
        assert isinstance(job, GreenJob)
        return job

    def create_run(self, facts: RunFacts) -> None:
        job, name, uid = facts.job, facts.name, facts.job.metadata.uid
        mine = self.runs.setdefault(uid, [])
        if any(r.name == name for r in mine):
            return
        if self.refuse_next:
            self.refuse_next = False
            raise Refused("admission webhook says no")
        assert job.status.attempt == facts.attempt, "S1: the number stands in the status before its child is created"
        assert not any(r.phase.live for r in mine), f"S1: {name} was created beside a live run"
        now = self.clock.now()
        self.told[uid].created.append((facts.attempt, name, now))
        self.told[uid].intensities.append(facts.intensity_g_per_kwh)
        self.resume_s[name] = job.overhead().total_seconds() if self.done_s.get(uid) else 0.0
        mine.append(
            Run(
                name,
                facts.attempt,
                facts.region.metadata.name,
                Phase.RUNNING,
                pod_uid=f"pod-{name}-{len(self.told[uid].created)}",
                started_at=now,
                progress=self._fraction(job),
                level=facts.level,
            )
        )
        mine.sort(key=lambda r: r.attempt)

    def stop_run(self, job: GreenJob, name: str) -> None:
        self._change(job.metadata.uid, name, lambda r: replace(r, phase=Phase.STOPPING) if r.phase.live else r)

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        body = self.jobs.get(f"{job.metadata.namespace}/{job.metadata.name}")
        if body is None or body["metadata"]["uid"] != job.metadata.uid:
            return
        body["status"] = _dump(status)
        self._touch(body)
        told = self.told[job.metadata.uid]
        told.statuses += 1
        told.events += [(self.clock.now(), e) for e in events]

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        body = self.jobs[bad.key] if bad.kind == "GreenJob" else self._other(bad.kind, bad.name)
        body["status"] = _dump(status)
        self._touch(body)

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        self._other("GreenCronJob", cron.metadata.name)["status"] = _dump(status)

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        self._other("GreenRegion", region.metadata.name)["status"] = _dump(status)

    def create_job(self, body: Mapping[str, Any]) -> None:
        meta = body["metadata"]
        if f"{meta['namespace']}/{meta['name']}" not in self.jobs:
            self.submit(dict(body))

    def delete_job(self, namespace: str, name: str) -> None:
        body = self.jobs.pop(f"{namespace}/{name}", None)
        if body is not None:
            self.runs.pop(body["metadata"]["uid"], None)

    # -- the world ---------------------------------------------------------------------------------------------------

    def submit(self, body: Body) -> str:
        """Create a GreenJob; returns its uid."""
        self._version += 1
        uid = f"{self._version:08x}-0000-4000-8000-000000000000"
        meta = {
            "namespace": "default",
            **body["metadata"],
            "uid": uid,
            "generation": 1,
            "resourceVersion": str(self._version),
            "creationTimestamp": format_time(self.clock.now()),
        }
        self.jobs[f"{meta['namespace']}/{meta['name']}"] = {**body, "metadata": meta}
        self.told[uid] = Told()
        return uid

    def add(self, body: Body) -> None:
        """Create a GreenRegion or GreenCronJob."""
        meta = {"uid": f"uid-{body['metadata']['name']}", "creationTimestamp": format_time(self.clock.now())}
        self.others[body["kind"]].append({**body, "metadata": {**meta, **body["metadata"]}})

    def edit(self, key: str, **spec: Any) -> None:
        """Change parts of a job's spec, as a user would."""
        body = self.jobs[key]
        body["spec"] = {**body["spec"], **spec}
        body["metadata"]["generation"] += 1
        self._touch(body)

    def annotate(self, key: str, **annotations: str) -> None:
        """Set annotations; `_` in a name stands for `/`."""
        meta = self.jobs[key]["metadata"]
        meta["annotations"] = {**meta.get("annotations", {}), **annotations}
        self._touch(self.jobs[key])

    def pass_time(self, span: timedelta) -> None:
        """Move the clock; what runs works, what was told to stop ends at once."""
        start = self.clock.now()
        for body in list(self.jobs.values()):
            job = read_job(body)
            for run in list(self.runs.get(body["metadata"]["uid"], ())):
                if isinstance(job, GreenJob) and run.phase is Phase.STOPPING:
                    self._end(job, run, Phase.PAUSED, 75, start)
                elif isinstance(job, GreenJob) and run.phase is Phase.RUNNING:
                    self._work(job, run, start, span.total_seconds())
        self.clock.advance(span)

    def fail(self, uid: str, code: int = 1) -> None:
        """The live run of a job ends with an error; a checkpoint that it wrote stays."""
        self._end_live(uid, Phase.FAILED, code)

    def lose(self, uid: str) -> None:
        """The node of the live run is gone, and its last words with it."""
        for run in self.runs.get(uid, ()):
            if run.phase.live:
                gone = replace(run, phase=Phase.LOST, finished_at=self.clock.now(), report=None)
                self._change(uid, run.name, lambda _, gone=gone: gone)

    def collect(self, uid: str) -> None:
        """Somebody deletes the ended children: only what the GreenJob's status kept is known of them from now on."""
        body = next(b for b in self.jobs.values() if b["metadata"]["uid"] == uid)
        kept = {r["attempt"] for r in body.get("status", {}).get("runs", ())}
        self.runs[uid] = [
            r if r.phase.live or r.attempt not in kept else replace(r, pod_uid="", report=None, progress=None)
            for r in self.runs.get(uid, ())
        ]

    def finished_at(self, uid: str) -> datetime | None:
        """When the work was done."""
        return next((r.finished_at for r in self.runs.get(uid, ()) if r.phase is Phase.SUCCEEDED), None)

    def _work(self, job: GreenJob, run: Run, start: datetime, span_s: float) -> None:
        uid, whole_s = job.metadata.uid, job.spec.duration.total_seconds()
        resume_s = min(span_s, self.resume_s[run.name])
        self.resume_s[run.name] -= resume_s
        speed = speed_of(job.spec, run.level)
        left_s = max(0.0, whole_s - self.done_s.get(uid, 0.0)) / speed
        useful_s = min(span_s - resume_s, left_s)
        self.done_s[uid] = self.done_s.get(uid, 0.0) + useful_s * speed
        self.worked_s[run.name] = self.worked_s.get(run.name, 0.0) + resume_s + useful_s
        if left_s <= span_s - resume_s:
            self._end(job, run, Phase.SUCCEEDED, 0, start + timedelta(seconds=resume_s + useful_s))
        else:
            self._change(uid, run.name, lambda r: replace(r, progress=self._fraction(job)))

    def _end_live(self, uid: str, phase: Phase, code: int) -> None:
        body = next(b for b in self.jobs.values() if b["metadata"]["uid"] == uid)
        job = read_job(body)
        assert isinstance(job, GreenJob)
        for run in list(self.runs.get(uid, ())):
            if run.phase.live:
                self._end(job, run, phase, code, self.clock.now())

    def _end(self, job: GreenJob, run: Run, phase: Phase, code: int, at: datetime) -> None:
        outcome = {Phase.PAUSED: Outcome.PAUSED, Phase.SUCCEEDED: Outcome.SUCCEEDED}.get(phase, Outcome.FAILED)
        worked_s = self.worked_s.get(run.name, 0.0)
        energy = None
        if worked_s > 0 and run.started_at is not None:
            joules = EnergyComponent(
                name="gpu", method=Method.MEASURED, source="nvml", joules=(worked_s * _watts(job, run),)
            )
            energy = EnergySeries(start=run.started_at + self.ahead, step_s=worked_s, components=(joules,))
        report: Report | None = Report(outcome=outcome, progress=Progress(fraction=self._fraction(job)), energy=energy)
        if job.metadata.uid in self.last_words:
            report = heard(self.last_words[job.metadata.uid]).report
        ended = replace(run, phase=phase, exit_code=code, finished_at=at + self.ahead, report=report)
        self._change(job.metadata.uid, run.name, lambda _: ended)

    def _fraction(self, job: GreenJob) -> float:
        return min(1.0, self.done_s.get(job.metadata.uid, 0.0) / job.spec.duration.total_seconds())

    def _change(self, uid: str, name: str, change: Any) -> None:
        self.runs[uid] = [change(r) if r.name == name else r for r in self.runs.get(uid, ())]

    def _other(self, kind: str, name: str) -> Body:
        for body in self.others[kind]:
            if body["metadata"]["name"] == name:
                return body
        raise ClusterError(f"{kind} {name} is gone")

    def _touch(self, body: Body) -> None:
        self._version += 1
        body["metadata"] = {**body["metadata"], "resourceVersion": str(self._version)}


def _watts(job: GreenJob, run: Run) -> float:
    """What the meter sees: 200 W, or the level's own."""
    level = job.spec.power.level(run.level) if job.spec.power is not None else None
    return 200.0 if level is None else float(level.watts)


def _dump(status: Any) -> Body:
    out: Body = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    return out
