"""The state of the local world, in one SQLite file: objects as on an API server, runs, events and the clock.

Objects carry a resource version that every write raises; a write may be made conditional on it. Several commands may
have the file open at once; each job is driven by the one that holds its lock (`Locks`).
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from windward.cluster.port import AttemptConflict
from windward_api.scalars import format_time

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (kind, namespace, name));
CREATE TABLE IF NOT EXISTS runs (
  name TEXT PRIMARY KEY, uid TEXT NOT NULL, attempt INTEGER NOT NULL, region TEXT NOT NULL,
  token TEXT NOT NULL, folder TEXT NOT NULL, time_scale REAL NOT NULL,
  started_at TEXT NOT NULL, started_real TEXT NOT NULL,
  pid INTEGER, pid_started TEXT, told_real TEXT, level TEXT NOT NULL DEFAULT '',
  seen_real TEXT, left_behind INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, uid TEXT NOT NULL, at TEXT NOT NULL, warning INTEGER NOT NULL,
  reason TEXT NOT NULL, message TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS clocks (
  uid TEXT PRIMARY KEY, sim TEXT NOT NULL, real TEXT NOT NULL, speed REAL NOT NULL);
"""
_LATER_COLUMNS = {
    "level": "TEXT NOT NULL DEFAULT ''",
    "seen_real": "TEXT",
    "left_behind": "INTEGER NOT NULL DEFAULT 0",
}

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it was started here.

    Attributes:
        seen_real: when it was last seen alive; None: never.
        left_behind: processes that its dead supervisor left, and that were ended.
    """

    name: str
    uid: str
    attempt: int
    region: str
    token: str
    folder: Path
    time_scale: float
    started_at: datetime
    started_real: datetime
    pid: int | None
    pid_started: str | None
    told_real: datetime | None
    level: str = ""
    seen_real: datetime | None = None
    left_behind: int = 0


class StateError(Exception):
    """The state file cannot be used; the sentence says why."""


class Store:
    """The file. One connection; every call is one transaction.

    Raises:
        StateError: it cannot be opened, or is no state of ours.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # commands may carry secrets
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._open()
        except (OSError, sqlite3.Error) as e:
            raise StateError(f"{path}: {getattr(e, 'strerror', None) or e}") from e

    @classmethod
    def empty(cls) -> Store:
        """A store of nothing that is written nowhere."""
        made = cls.__new__(cls)
        made._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        made._db.row_factory = sqlite3.Row
        made._open()
        return made

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)
        there = {r["name"] for r in self._db.execute("PRAGMA table_info(runs)")}
        for name, kind in _LATER_COLUMNS.items():
            if name not in there:  # made by an older version
                self._db.execute(f"ALTER TABLE runs ADD COLUMN {name} {kind}")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def apply(self, body: Mapping[str, Any], created_at: datetime) -> Body:
        """Create an object, or replace the spec of the one with this name; returns it as stored."""
        kind, metadata = body["kind"], body["metadata"]
        namespace, name = metadata.get("namespace", "default"), metadata["name"]
        with self._write():
            old = self._one(kind, namespace, name)
            if old is None:
                fresh = {"uid": str(uuid4()), "creationTimestamp": format_time(created_at), "generation": 1}
                stored = {**body, "metadata": {**metadata, "namespace": namespace, **fresh}}
                version = 1
            else:
                version = old[0] + 1
                stored = {**old[1], "spec": body["spec"]}
                kept = old[1]["metadata"]
                changed = old[1]["spec"] != body["spec"]
                stored["metadata"] = {**kept, **metadata, "generation": kept["generation"] + changed}
            self._put(kind, namespace, name, version, stored)
        return self._versioned(stored, version)

    def get(self, kind: str, namespace: str, name: str) -> Body | None:
        found = self._one(kind, namespace, name)
        return self._versioned(found[1], found[0]) if found is not None else None

    def all(self, kind: str) -> list[Body]:
        rows = self._db.execute("SELECT version, body FROM objects WHERE kind = ? ORDER BY namespace, name", (kind,))
        return [self._versioned(json.loads(r["body"]), r["version"]) for r in rows]

    def update(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        status: Mapping[str, Any] | None = None,
        annotations: Mapping[str, str] | None = None,
        spec: Mapping[str, Any] | None = None,
        if_version: str | None = None,
    ) -> Body | None:
        """Change parts of an object; None where it is gone.

        Raises:
            AttemptConflict: `if_version` is given and is not the object's any more.
        """
        with self._write():
            found = self._one(kind, namespace, name)
            if found is None:
                return None
            version, body = found
            if if_version is not None and str(version) != if_version:
                raise AttemptConflict(f"{kind} {namespace}/{name} is at version {version}, not {if_version}")
            if status is not None:
                body["status"] = dict(status)
            if annotations is not None:
                body["metadata"]["annotations"] = {**body["metadata"].get("annotations", {}), **annotations}
            if spec is not None:
                body["spec"] = {**body["spec"], **spec}
                body["metadata"]["generation"] += 1
            self._put(kind, namespace, name, version + 1, body)
        return self._versioned(body, version + 1)

    def close(self) -> None:
        self._db.close()

    def regions_of(self, uids: Iterable[str]) -> list[Body]:
        """The GreenRegions of these jobs, and those of older files, which belong to none, under names of their own."""
        scopes = set(uids)
        rows = self.all("GreenRegion")
        own = {b["metadata"]["name"]: b for b in rows if b["metadata"].get("namespace") in scopes}
        shared = {b["metadata"]["name"]: b for b in rows if b["metadata"].get("namespace", "default") == "default"}
        return list((shared | own).values())

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Forget a job, with its runs and regions."""
        with self._write() as db:
            db.execute("DELETE FROM objects WHERE kind='GreenJob' AND namespace = ? AND name = ?", (namespace, name))
            db.execute("DELETE FROM objects WHERE kind='GreenRegion' AND namespace = ?", (uid,))
            for table in ("runs", "clocks"):
                db.execute(f"DELETE FROM {table} WHERE uid = ?", (uid,))  # noqa: S608 (names of ours)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        with self._write() as db:
            db.execute("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?", (kind, namespace, name))

    def _one(self, kind: str, namespace: str, name: str) -> tuple[int, Body] | None:
        row = self._db.execute(
            "SELECT version, body FROM objects WHERE kind = ? AND namespace = ? AND name = ?", (kind, namespace, name)
        ).fetchone()
        return (row["version"], json.loads(row["body"])) if row is not None else None

    def _put(self, kind: str, namespace: str, name: str, version: int, body: Mapping[str, Any]) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (kind, namespace, name, version, json.dumps(body))
        )

    @staticmethod
    def _versioned(body: Body, version: int) -> Body:
        return {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}

    def add_run(self, row: RunRow) -> bool:
        """Note a run before it is started; False where its name is taken already."""
        with self._write() as db:
            done = db.execute(
                "INSERT OR IGNORE INTO runs (name, uid, attempt, region, token, folder, time_scale, started_at,"
                " started_real, level) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.name, row.uid, row.attempt, row.region, row.token, str(row.folder), row.time_scale,
                    row.started_at.isoformat(), row.started_real.isoformat(), row.level,
                ),
            )  # fmt: skip
            return done.rowcount == 1

    def set_pid(self, name: str, pid: int, pid_started: str) -> None:
        with self._write() as db:
            db.execute("UPDATE runs SET pid = ?, pid_started = ? WHERE name = ?", (pid, pid_started, name))

    def set_told(self, name: str, at: datetime) -> None:
        with self._write() as db:
            db.execute("UPDATE runs SET told_real = ? WHERE name = ? AND told_real IS NULL", (at.isoformat(), name))

    def set_started(self, name: str, at: datetime, real: datetime) -> None:
        """Note when a run's command was started, in planned time and in real."""
        with self._write() as db:
            times = (at.isoformat(), real.isoformat(), name)
            db.execute("UPDATE runs SET started_at = ?, started_real = ? WHERE name = ?", times)

    def set_seen(self, name: str, at: datetime) -> None:
        with self._write() as db:
            db.execute("UPDATE runs SET seen_real = ? WHERE name = ?", (at.isoformat(), name))

    def add_left_behind(self, name: str, count: int) -> None:
        with self._write() as db:
            db.execute("UPDATE runs SET left_behind = left_behind + ? WHERE name = ?", (count, name))

    def runs(self, uid: str) -> list[RunRow]:
        rows = self._db.execute("SELECT * FROM runs WHERE uid = ? ORDER BY attempt", (uid,))
        return [
            RunRow(
                r["name"], r["uid"], r["attempt"], r["region"], r["token"], Path(r["folder"]), r["time_scale"],
                datetime.fromisoformat(r["started_at"]), datetime.fromisoformat(r["started_real"]),
                r["pid"], r["pid_started"], datetime.fromisoformat(r["told_real"]) if r["told_real"] else None,
                r["level"], datetime.fromisoformat(r["seen_real"]) if r["seen_real"] else None, r["left_behind"],
            )
            for r in rows
        ]  # fmt: skip

    def delete_runs(self, uid: str) -> None:
        with self._write() as db:
            db.execute("DELETE FROM runs WHERE uid = ?", (uid,))

    def add_event(self, uid: str, at: datetime, reason: str, message: str, warning: bool) -> None:
        with self._write() as db:
            db.execute(
                "INSERT INTO events (uid, at, warning, reason, message) VALUES (?, ?, ?, ?, ?)",
                (uid, at.isoformat(), int(warning), reason, message),
            )

    def events(self, uid: str) -> list[tuple[datetime, bool, str, str]]:
        rows = self._db.execute("SELECT at, warning, reason, message FROM events WHERE uid = ? ORDER BY id", (uid,))
        return [(datetime.fromisoformat(r["at"]), bool(r["warning"]), r["reason"], r["message"]) for r in rows]

    def save_clock(self, uid: str, sim: datetime, real: datetime, speed: float) -> None:
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO clocks VALUES (?, ?, ?, ?)", (uid, sim.isoformat(), real.isoformat(), speed)
            )

    def clock(self, uid: str) -> tuple[datetime, datetime, float] | None:
        """(simulated, real, speed) as last saved."""
        r = self._db.execute("SELECT sim, real, speed FROM clocks WHERE uid = ?", (uid,)).fetchone()
        return (datetime.fromisoformat(r["sim"]), datetime.fromisoformat(r["real"]), r["speed"]) if r else None


def is_rehearsal(planned: datetime, real: datetime, speed: float) -> bool:
    """Whether a clock as saved is another than the real one, by more than a machine's clock is set."""
    return speed != 1.0 or abs(planned - real) > timedelta(minutes=1)


class Locks:
    """Which jobs this process drives: an exclusive lock each, which the system drops when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def take(self, uid: str) -> bool:
        """Whether this process drives the job `uid`, now or already."""
        if uid in self._held:
            return True
        fd = self._open(uid)
        for last in (False, False, True):  # somebody who only looks (`driven`) holds it for a moment
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if last:
                    os.close(fd)
                    return False
                time.sleep(0.02)
            else:
                break
        self._held[uid] = fd
        return True

    def driven(self, uid: str) -> bool:
        """Whether any process drives the job `uid`."""
        if uid in self._held:
            return True
        try:
            fd = os.open(self._folder / f"{uid}.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    @contextmanager
    def admission(self) -> Iterator[None]:
        """One process at a time decides which name goes to whom."""
        fd = self._open("admission")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def drop(self, uid: str) -> None:
        """Let go of one job."""
        if (fd := self._held.pop(uid, None)) is not None:
            os.close(fd)

    def release(self) -> None:
        for uid in list(self._held):
            self.drop(uid)
