"""The local world: a process per run, state in SQLite; it goes on after a restart of the command.

A run is a supervised process (`windward_worker exec`) that leaves its report, progress and exit code in a folder of
its own, so that whoever looks later, this process or the next, finds the same answer.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from windward.cluster import processes
from windward.cluster.parse import bad_object, read_job, read_objects
from windward.cluster.port import AttemptConflict, BadObject, Refused, Snapshot
from windward.cluster.store import Locks, RunRow, Store
from windward.domain.clock import Clock
from windward.domain.observed import Event, Observed
from windward.domain.run import Phase, Run, phase_of_exit
from windward.lifecycle.bounds import within_bounds
from windward.lifecycle.work import most_power_w
from windward.manifests import RunFacts, render_process
from windward.manifests.process import NotLocal
from windward_api import contract
from windward_api.contract import EXIT_PAUSED, Heard, Progress, heard
from windward_api.greencronjob import GreenCronJob, GreenCronJobStatus
from windward_api.greenjob import GreenJob, GreenJobStatus
from windward_api.greenregion import GreenRegion, GreenRegionStatus

log = logging.getLogger(__name__)
GRACE = timedelta(seconds=120)
START_PATIENCE = timedelta(seconds=20)  # for a supervisor to start its command
SEEN_EVERY = timedelta(seconds=2)  # a run that was seen alive is noted so often
_TOLD_ENDS = (EXIT_PAUSED, 128 + signal.SIGTERM, 128 + signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Ended:
    """What a supervisor left of an ended run: exit code, when the command ended, and when it was started."""

    code: int
    finished: datetime
    started: datetime | None


@dataclass
class LocalCluster:
    """See `Cluster`.

    Attributes:
        store: the file.
        home: folder of run folders and storage.
        clock: the planned time; `real` is the machine's.
        time_scale: planned seconds per real second, noted on each run.
        drive: uids of the jobs that this process drives, or None for every job that nobody else drives.
        locks: those of this process, where it holds some already.
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
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._kept: Snapshot | None = None
        self._cleared: set[str] = set()  # runs without a supervisor, of which nothing is left
        self._seen: dict[str, datetime] = {}  # when each run was noted as alive
        self._mutex = threading.Lock()

    def snapshot(self) -> Snapshot:
        kept, self._kept = self._kept, None
        return kept or self._snapshot()

    def keep(self, seen: Snapshot) -> None:
        """Give `seen` as the next snapshot: who set the clock by it sees no run end after it in the same turn."""
        self._kept = seen

    def _snapshot(self) -> Snapshot:
        jobs: list[Observed] = []
        unreadable: list[BadObject] = []
        for body in self.store.all("GreenJob"):
            uid = body["metadata"]["uid"]
            if (self.drive is not None and uid not in self.drive) or not self._locks.take(uid):
                continue
            found = self._observed(body)
            unreadable.append(found) if isinstance(found, BadObject) else jobs.append(found)
        regions = self.store.regions_of(o.uid for o in jobs)
        crons, places, bad = read_objects(self.store.all("GreenCronJob"), regions)
        return Snapshot(tuple(jobs), tuple(crons), tuple(places), (*bad, *unreadable))

    def _observed(self, body: Mapping[str, Any]) -> Observed | BadObject:
        """A job with its runs; whatever their files hold harms this job only."""
        job = read_job(body)
        if isinstance(job, BadObject):
            return job
        most_w, now = most_power_w(job.spec), self.clock.now()
        try:
            rows = self.store.runs(job.metadata.uid)
            return Observed(job, tuple(within_bounds(self._look(row), row.started_at, now, most_w) for row in rows))
        except Exception as e:
            log.exception("%s/%s: its runs cannot be read", job.metadata.namespace, job.metadata.name)
            return bad_object(body, "GreenJob", f"its runs cannot be read: {type(e).__name__}: {e}")

    def claim_attempt(self, observed: Observed, attempt: int, region: str) -> GreenJob:
        meta = observed.job.metadata
        status = observed.job.status.model_copy(update={"attempt": attempt, "attempt_region": region})
        body = self.store.update(
            "GreenJob",
            meta.namespace,
            meta.name,
            status=_dump(status),
            if_version=meta.resource_version,
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
        _below(storage / "checkpoints", Path(spec.env[contract.ENV_CHECKPOINT_DIR]).name)
        folder.mkdir(parents=True, exist_ok=True)
        Path(spec.env[contract.ENV_CHECKPOINT_DIR]).mkdir(parents=True, exist_ok=True)
        for old in self.store.runs(meta.uid):
            if old.attempt < facts.attempt:
                self._clear(old)
        row = RunRow(
            facts.name, meta.uid, facts.attempt, facts.region.metadata.name, facts.token, folder, self.time_scale,
            self.clock.now(), self.real.now(), None, None, None, facts.level,
        )  # fmt: skip
        if not self.store.add_run(row):
            return
        files = {
            contract.ENV_REPORT_FILE: str(folder / "report.json"),
            contract.ENV_PROGRESS_FILE: str(folder / "progress.json"),
            contract.ENV_EXIT_FILE: str(folder / "exit.json"),
        }
        own = dict(os.environ) if spec.trusted else minimal_environment(os.environ)
        self._start(row, spec.argv, {**own, **spec.env, **files}, spec.cwd)

    def _start(self, row: RunRow, argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        with (row.folder / "log").open("ab") as log:
            try:
                child = subprocess.Popen(
                    argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as e:
                raise Refused(f"the run could not be started: {e}") from e
        with self._mutex:
            self._children[child.pid] = child
        self.store.set_pid(row.name, child.pid, processes.started(child.pid) or "")
        if (
            row.time_scale != 1.0
        ):  # that a supervisor loads takes no planned time, or a fast clock would make hours of it
            begun = time.monotonic()
            while not self._has_begun(row, child) and time.monotonic() - begun < START_PATIENCE.total_seconds():
                time.sleep(0.002)
            self.store.set_started(row.name, self.clock.now(), self.real.now())

    @staticmethod
    def _has_begun(row: RunRow, supervisor: subprocess.Popen[bytes]) -> bool:
        """Whether a run's command was started, or there is nothing more to wait for."""
        if processes.has_children(supervisor.pid) or (row.folder / "exit.json").exists():
            return True
        return supervisor.poll() is not None

    def stop_run(self, job: GreenJob, name: str) -> None:
        row = next((r for r in self.store.runs(job.metadata.uid) if r.name == name), None)
        if row is None or not self._alive(row):
            return
        self.store.set_told(name, self.real.now())
        assert row.pid is not None
        with suppress(ProcessLookupError):
            os.kill(row.pid, signal.SIGTERM)

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
        for row in self.store.runs(uid):
            if self._alive(row) and row.pid is not None:
                processes.kill_tree(row.pid)
            processes.end_run(row.token)  # what left the tree
        self.store.delete_job(namespace, name, uid)

    def _clear(self, row: RunRow) -> None:
        """End what a run left: two attempts of one job never compute side by side.

        Raises:
            Refused: something of it does not end.
        """
        for _ in range(100 if (row.folder / "exit.json").exists() else 1):  # its last act is a moment before its end
            if not self._alive(row):
                break
            time.sleep(0.02)
        else:
            raise Refused(f"run {row.attempt} still goes on")
        if left := self._end_left(row)[1]:
            said = f"run {row.attempt} left processes that do not end: {', '.join(map(str, left))}; end them"
            raise Refused(said)

    def _end_left(self, row: RunRow) -> tuple[RunRow, list[int]]:
        """End what a dead supervisor left, and note it: it was alive until now. Returns the run, and what goes on."""
        self._cleared.add(row.name)
        count, left = processes.end_run(row.token)
        if count:
            self.store.add_left_behind(row.name, count)
            self.store.set_seen(row.name, self.real.now())
        return next((r for r in self.store.runs(row.uid) if r.name == row.name), row), left

    def close(self) -> None:
        """Let go of the jobs; their runs go on."""
        if self.locks is None:
            self._locks.release()

    def _look(self, row: RunRow) -> Run:
        """What a run's folder and process say of it."""
        words = heard(_bytes(row.folder / "report.json", contract.REPORT_LIMIT_BYTES * 4))
        report = words.report
        progress = _progress(row.folder / "progress.json")
        ended = _exit(row.folder / "exit.json")
        if ended is None and row.name not in self._cleared and not self._alive(row):
            row = self._end_left(row)[0]  # else it computes on, unmetered and beside the next run
        phase, code, finished_real, message = self._phase(row, ended)
        message = "; ".join(x for x in (message, _left_behind(row)) if x)
        aside = [f"of its report was set aside: {', '.join(words.set_aside)}"] if words.set_aside else []
        started_real = _started_real(row, ended)  # its supervisor knows best when the work began
        started_at = row.started_at + max(timedelta(0), started_real - row.started_real) * row.time_scale
        finished_at = None
        if finished_real is not None:
            finished_at = started_at + max(timedelta(0), finished_real - started_real) * row.time_scale
        return Run(
            name=row.name,
            attempt=row.attempt,
            region=row.region,
            phase=phase,
            pod_uid=row.token,
            started_at=started_at,
            finished_at=finished_at,
            exit_code=code,
            progress=progress.fraction if progress is not None else None,
            report=report if ended is not None else None,
            message="; ".join(x for x in (message or _last_words(words, ended), *aside) if x)[:512],
            time_scale=row.time_scale,
            started_real=started_real,
            asked=row.told_real is not None,
            level=row.level,
        )

    def _phase(self, row: RunRow, ended: Ended | None) -> tuple[Phase, int | None, datetime | None, str]:
        if ended is not None:
            code, at = ended.code, ended.finished
            if row.told_real is not None and code in _TOLD_ENDS:
                broke = code != EXIT_PAUSED
                told = f"ended with {code} instead of {EXIT_PAUSED}: it does not honour the pause contract"
                return Phase.PAUSED, code, at, told if broke else ""
            return phase_of_exit(code), code, at, ""
        if not self._alive(row):
            at = self._last_alive(row)
            if row.told_real is not None:
                return Phase.PAUSED, None, at, "ended before it could report"
            return Phase.LOST, None, at, "its process is gone without a word"
        self._note_seen(row)
        if row.told_real is None:
            return Phase.RUNNING, None, None, ""
        if self.real.now() > row.told_real + GRACE and row.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(row.pid, signal.SIGKILL)
        return Phase.STOPPING, None, None, "writing its checkpoint"

    def _note_seen(self, row: RunRow) -> None:
        """Keep that a run is alive, every now and then: of one that is lost, all until then is booked."""
        now, noted = self.real.now(), self._seen.get(row.name)
        if noted is None or not timedelta(0) <= now - noted < SEEN_EVERY:
            self._seen[row.name] = now
            self.store.set_seen(row.name, now)

    def _last_alive(self, row: RunRow) -> datetime:
        """Until when a run that is gone was alive, as far as anybody knows: never later than now."""
        signs = [row.started_real, row.seen_real, _last_sign(row)]
        return min(self.real.now(), max(t for t in signs if t is not None))

    def _alive(self, row: RunRow) -> bool:
        """Whether the run's process still is the one we started. A crash before its pid was noted is made up for."""
        pid, started = row.pid, row.pid_started
        if pid is None:
            pid = processes.supervisor_of(row.token)
            if pid is None:
                return False
            started = processes.started(pid) or ""
            self.store.set_pid(row.name, pid, started)
        with self._mutex:
            child = self._children.get(pid)
        if child is not None:
            return child.poll() is None
        return processes.is_same(pid, started, row.token)


def alive(row: RunRow) -> bool:
    """Whether the process of a run that another command started still is."""
    return row.pid is not None and processes.is_same(row.pid, row.pid_started, row.token)


# What any program needs to run at all: no credentials. PYTHONPATH is the supervisor's own, which runs first.
_PLAIN = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "PYTHONPATH")


def minimal_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the user's environment that a stranger's command gets."""
    return {k: environ[k] for k in _PLAIN if k in environ}


def _below(root: Path, name: str) -> Path:
    """The folder `name` in `root`.

    Raises:
        Refused: the name leads elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Refused(f"{name!r} is no name of a folder: rename the job or its namespace")
    return root / name


def _dump(status: Any) -> dict[str, Any]:
    out: dict[str, Any] = status.model_dump(by_alias=True, mode="json", exclude_none=True)
    return out


def _last_words(words: Heard, ended: Ended | None) -> str:
    return words.report.message if words.report is not None and ended is not None else ""


def _bytes(path: Path, most: int) -> bytes:
    """The beginning of a run's file; empty where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _progress(path: Path) -> Progress | None:
    """A run's live word; foreign data, so that a bad one counts as none."""
    try:
        return Progress.model_validate_json(_bytes(path, 1 << 16))
    except ValueError:
        return None


def _exit(path: Path) -> Ended | None:
    try:
        told = json.loads(path.read_bytes())
        finished, started = datetime.fromisoformat(told["finished_at"]), told.get("started_at")
        begun = datetime.fromisoformat(started) if started else None
        if finished.tzinfo is None or (begun is not None and not begun <= finished):
            return None
        return Ended(int(told["exit_code"]), finished, begun)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _started_real(row: RunRow, ended: Ended | None) -> datetime:
    """When a run's command was started: its supervisor's word, where it can be."""
    told = ended.started if ended is not None else None
    return told if told is not None and abs(told - row.started_real) <= START_PATIENCE else row.started_real


def _left_behind(row: RunRow) -> str:
    n = row.left_behind
    return f"ended {n} process{'es' if n > 1 else ''} that its dead supervisor left" if n else ""


def _last_sign(row: RunRow) -> datetime | None:
    """When a lost run last wrote anything: its supervisor's sign of life, its progress, or its log."""
    times = []
    for name in ("alive", "progress.json", "log"):
        with suppress(OSError):
            times.append((row.folder / name).stat().st_mtime)
    return datetime.fromtimestamp(max(times), UTC) if times else None
