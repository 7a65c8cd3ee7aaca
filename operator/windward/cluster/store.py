"""The state of this machine in one SQLite file: objects as on an API server, runs, events and clocks.

Every write of an object raises its resource version; a write can be conditional on it. Several commands may have the
file open at once; each job is driven by the one that holds its lock (`windward.cluster.locks`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from windward.cluster.database import Database
from windward.cluster.port import AttemptConflict
from windward.cluster.run_table import RunTable
from windward_api.scalars import format_time

Body = dict[str, Any]


class Store:
    """The state file; every call is one transaction.

    Args:
        path: the file, which is created if it does not exist; None: an empty store in memory.

    Attributes:
        runs: the table of runs.

    Raises:
        StateError: it cannot be opened, or is not a state file.
    """

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path)
        self.runs = RunTable(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def apply(self, body: Mapping[str, Any], created_at: datetime) -> Body:
        """Create an object, or replace the spec of the one with this name. Returns it as stored."""
        kind, metadata = body["kind"], body["metadata"]
        namespace, name = metadata.get("namespace", "default"), metadata["name"]
        with self._database.transaction():
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
        """Returns an object; None where it is gone."""
        row = self._one(kind, namespace, name)
        return self._versioned(row[1], row[0]) if row is not None else None

    def all(self, kind: str) -> list[Body]:
        """Returns all objects of a kind, by namespace and name."""
        rows = self._database.rows("SELECT version, body FROM objects WHERE kind = ? ORDER BY namespace, name", kind)
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
        """Change parts of an object. Returns it as stored; None where it is gone.

        Raises:
            AttemptConflict: `if_version` is given and is not the object's any more.
        """
        with self._database.transaction():
            row = self._one(kind, namespace, name)
            if row is None:
                return None
            version, body = row
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

    def regions_of(self, uids: Iterable[str]) -> list[Body]:
        """Returns the GreenRegions of these jobs, and those without a job (of older files) whose names differ."""
        scopes = set(uids)
        rows = self.all("GreenRegion")
        own = {b["metadata"]["name"]: b for b in rows if b["metadata"].get("namespace") in scopes}
        shared = {b["metadata"]["name"]: b for b in rows if b["metadata"].get("namespace", "default") == "default"}
        return list((shared | own).values())

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Forget a job, with its runs and regions."""
        db = self._database.connection
        with self._database.transaction():
            db.execute("DELETE FROM objects WHERE kind='GreenJob' AND namespace = ? AND name = ?", (namespace, name))
            db.execute("DELETE FROM objects WHERE kind='GreenRegion' AND namespace = ?", (uid,))
            for table in ("runs", "clocks"):
                db.execute(f"DELETE FROM {table} WHERE uid = ?", (uid,))  # noqa: S608 (names of ours)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Forget one object."""
        where = "kind = ? AND namespace = ? AND name = ?"
        self._database.execute(f"DELETE FROM objects WHERE {where}", kind, namespace, name)  # noqa: S608

    def add_event(self, uid: str, at: datetime, reason: str, message: str, warning: bool) -> None:
        """Keep an event of a job."""
        sql = "INSERT INTO events (uid, at, warning, reason, message) VALUES (?, ?, ?, ?, ?)"
        self._database.execute(sql, uid, at.isoformat(), int(warning), reason, message)

    def events(self, uid: str) -> list[tuple[datetime, bool, str, str]]:
        """Returns the events of a job, in order: when, whether it is a warning, reason and message."""
        rows = self._database.rows("SELECT at, warning, reason, message FROM events WHERE uid = ? ORDER BY id", uid)
        return [(datetime.fromisoformat(r["at"]), bool(r["warning"]), r["reason"], r["message"]) for r in rows]

    def save_clock(self, uid: str, sim: datetime, real: datetime, speed: float) -> None:
        """Keep what time it was for a job."""
        sql = "INSERT OR REPLACE INTO clocks VALUES (?, ?, ?, ?)"
        self._database.execute(sql, uid, sim.isoformat(), real.isoformat(), speed)

    def clock(self, uid: str) -> tuple[datetime, datetime, float] | None:
        """Returns (simulated, real, speed) as last saved."""
        for r in self._database.rows("SELECT sim, real, speed FROM clocks WHERE uid = ?", uid):
            return datetime.fromisoformat(r["sim"]), datetime.fromisoformat(r["real"]), r["speed"]
        return None

    def _one(self, kind: str, namespace: str, name: str) -> tuple[int, Body] | None:
        sql = "SELECT version, body FROM objects WHERE kind = ? AND namespace = ? AND name = ?"
        for row in self._database.rows(sql, kind, namespace, name):
            return row["version"], json.loads(row["body"])
        return None

    def _put(self, kind: str, namespace: str, name: str, version: int, body: Mapping[str, Any]) -> None:
        self._database.connection.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (kind, namespace, name, version, json.dumps(body))
        )

    @staticmethod
    def _versioned(body: Body, version: int) -> Body:
        return {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}


def is_rehearsal(planned: datetime, real: datetime, speed: float) -> bool:
    """Returns whether a saved clock runs at another speed or differs from real time by more than a minute."""
    return speed != 1.0 or abs(planned - real) > timedelta(minutes=1)
