"""This machine as a cluster: one process for each run, state in SQLite, which survives the command.

A run is a supervised process (`windward_worker exec`) that writes its report, progress and exit code into its own
folder, so that a later command observes the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windward.cluster.local_runs import LocalRuns
from windward.cluster.locks import Locks
from windward.cluster.parse import bad_object, read_job, read_objects
from windward.cluster.port import AttemptConflict, BadObject, Refused, Snapshot
from windward.cluster.run_files import file_environment
from windward.cluster.run_table import RunRow
from windward.cluster.store import Store
from windward.cluster.supervisors import Supervisors
from windward.domain.clock import Clock
from windward.domain.observed import Event, Observed
from windward.lifecycle.bounds import within_bounds
from windward.lifecycle.work import most_power_w
from windward.manifests import RunFacts, render_process
from windward.manifests.process import NotLocal
from windward_api import contract
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob
from windward_api.greenjob_status import GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus

log = logging.getLogger(__name__)


@dataclass
class LocalCluster:
    """See `Cluster`.

    Attributes:
        store: the state file.
        home: folder with run folders and storage.
        clock: planned time; `real` is the machine's clock.
        time_scale: planned seconds per real second, recorded with each run.
        drive: uids of the jobs that this process drives; None: every job that no other process drives.
        locks: the locks of this process, if it holds some already.
    """

    store: Store
    home: Path
    clock: Clock
    real: Clock
    time_scale: float = 1.0
    drive: frozenset[str] | None = None
    locks: Locks | None = None

    def __post_init__(self) -> None:
        self._locks = self.locks or Locks(self.home / "locks")
        self._next: Snapshot | None = None
        self.supervisors = Supervisors(self.store.runs, self.clock, self.real)
        self._runs = LocalRuns(self.supervisors, self.real)

    def snapshot(self) -> Snapshot:
        snapshot, self._next = self._next, None
        return snapshot or self._snapshot()

    def keep(self, snapshot: Snapshot) -> None:
        """Makes this the next snapshot, so that a cycle observes what its clock was set by."""
        self._next = snapshot

    def _snapshot(self) -> Snapshot:
        jobs: list[Observed] = []
        unreadable: list[BadObject] = []
        for body in self.store.all("GreenJob"):
            uid = body["metadata"]["uid"]
            if (self.drive is not None and uid not in self.drive) or not self._locks.take(uid):
                continue
            observed = self._observed(body)
            unreadable.append(observed) if isinstance(observed, BadObject) else jobs.append(observed)
        bodies = self.store.regions_of(o.uid for o in jobs)
        crons, regions, bad = read_objects(self.store.all("GreenCronJob"), bodies)
        return Snapshot(tuple(jobs), tuple(crons), tuple(regions), (*bad, *unreadable))

    def _observed(self, body: Mapping[str, Any]) -> Observed | BadObject:
        """A job with its runs, or a `BadObject` if their files cannot be read."""
        job = read_job(body)
        if isinstance(job, BadObject):
            return job
        most_w, now = most_power_w(job.spec), self.clock.now()
        try:
            rows = self.store.runs.of_job(job.metadata.uid)
            runs = (within_bounds(self._runs.observe(row), row.started_at, now, most_w) for row in rows)
            return Observed(job, tuple(runs))
        except Exception as e:
            log.exception("%s/%s: its runs cannot be read", job.metadata.namespace, job.metadata.name)
            return bad_object(body, "GreenJob", f"its runs cannot be read: {type(e).__name__}: {e}")

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        meta = observed.job.metadata
        status = observed.job.status.model_copy(update={"attempt": attempt, "attempt_region": region})
        body = self.store.update(
            "GreenJob", meta.namespace, meta.name, status=_dump(status), if_version=meta.resource_version
        )
        if body is None:
            raise AttemptConflict(f"GreenJob {observed.key} is gone")
        job = read_job(body)
        assert isinstance(job, GreenJob)
        return job

    def create_run(self, facts: RunFacts) -> None:
        meta = facts.job.metadata
        storage = _below(self.home / "storage", meta.namespace)
        try:
            spec = render_process(facts, str(storage))
        except NotLocal as e:
            raise Refused(str(e)) from e
        folder = _below(self.home / "runs", facts.name)
        folders = [folder]
        if (checkpoints := spec.env.get(contract.ENV_CHECKPOINT_DIR)) is not None:  # else they are in an object store
            folders.append(_below(storage / "checkpoints", Path(checkpoints).name))
        for needed in folders:
            needed.mkdir(parents=True, exist_ok=True)
        for old in self.store.runs.of_job(meta.uid):
            if old.attempt < facts.attempt:
                self.supervisors.clear(old)
        row = RunRow(
            facts.name, meta.uid, facts.attempt, facts.region.metadata.name, facts.token, folder, self.time_scale,
            self.clock.now(), self.real.now(), None, None, None, facts.level,
        )  # fmt: skip
        if not self.store.runs.add(row):
            return
        own = dict(os.environ) if spec.trusted else minimal_environment(os.environ)
        self.supervisors.start(row, spec.argv, {**own, **spec.env, **file_environment(folder)}, spec.cwd)

    def stop_run(self, job: GreenJob, name: str) -> None:
        row = next((r for r in self.store.runs.of_job(job.metadata.uid) if r.name == name), None)
        if row is not None:
            self.supervisors.pause(row)

    def hold(self, job: GreenJob) -> None:
        """Does nothing: of a GreenJob nothing runs before a run is created."""

    def write_status(self, job: GreenJob, status: GreenJobStatus, events: Sequence[Event]) -> None:
        meta = job.metadata
        if self.store.update("GreenJob", meta.namespace, meta.name, status=_dump(status)) is None:
            return
        for e in events:
            self.store.add_event(meta.uid, self.clock.now(), e.reason, e.message, e.warning)

    def write_bad(self, bad: BadObject, status: GreenJobStatus | GreenCronJobStatus | GreenRegionStatus) -> None:
        self.store.update(bad.kind, bad.namespace, bad.name, status=_dump(status))

    def write_cron_status(self, cron: GreenCronJob, status: GreenCronJobStatus) -> None:
        self.store.update("GreenCronJob", cron.metadata.namespace, cron.metadata.name, status=_dump(status))

    def write_region_status(self, region: GreenRegion, status: GreenRegionStatus) -> None:
        self.store.update("GreenRegion", region.metadata.namespace, region.metadata.name, status=_dump(status))

    def create_job(self, body: Mapping[str, Any]) -> None:
        meta = body["metadata"]
        if self.store.get("GreenJob", meta["namespace"], meta["name"]) is None:
            self.store.apply(body, self.clock.now())

    def delete_job(self, namespace: str, name: str) -> None:
        body = self.store.get("GreenJob", namespace, name)
        if body is None:
            return
        uid = body["metadata"]["uid"]
        for row in self.store.runs.of_job(uid):
            self.supervisors.end_run(row)
        self.store.delete_job(namespace, name, uid)

    def close(self) -> None:
        """Releases the locks of the jobs; their runs go on."""
        if self.locks is None:
            self._locks.release()


# What any program needs to run at all: no credentials. PYTHONPATH is the supervisor's own, which runs first.
_PLAIN = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "PYTHONPATH")


def minimal_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the part of the user's environment that an untrusted command gets."""
    return {k: environ[k] for k in _PLAIN if k in environ}


def _below(root: Path, name: str) -> Path:
    """The folder `name` in `root`.

    Raises:
        Refused: the name is no single path component.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Refused(f"{name!r} is no name of a folder: rename the job or its namespace")
    return root / name


def _dump(status: Any) -> dict[str, Any]:
    out: dict[str, Any] = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    return out
