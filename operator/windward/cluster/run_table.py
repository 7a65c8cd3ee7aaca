"""The table of the runs that were started on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Row

from windward.cluster.database import Database


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it was started here. `_real` marks times of the machine's clock; the others are planned times.

    Attributes:
        token: what its processes carry in their environment (`WINDWARD_RUN`).
        folder: where its supervisor leaves report, progress and exit code.
        pid: its supervisor; None until it is noted. `pid_started` is that process's start time.
        pause_requested_real: when it was first asked to pause; None: never.
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
    pause_requested_real: datetime | None
    level: str = ""
    seen_real: datetime | None = None
    left_behind: int = 0


class RunTable:
    """Rows by the name of their run; every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_job(self, uid: str) -> list[RunRow]:
        """Returns the runs of a job, by attempt."""
        rows = self._database.rows("SELECT * FROM runs WHERE uid = ? ORDER BY attempt", uid)
        return [_run_row(row) for row in rows]

    def add(self, row: RunRow) -> bool:
        """Note a run before it is started. Returns False where its name is taken already."""
        inserted = self._database.execute(
            "INSERT OR IGNORE INTO runs (name, uid, attempt, region, token, folder, time_scale, started_at,"
            " started_real, level) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.name, row.uid, row.attempt, row.region, row.token, str(row.folder), row.time_scale,
            row.started_at.isoformat(), row.started_real.isoformat(), row.level,
        )  # fmt: skip
        return inserted == 1

    def set_supervisor(self, name: str, pid: int, pid_started: str) -> None:
        """Note the process that supervises a run, and its start time."""
        self._database.execute("UPDATE runs SET pid = ?, pid_started = ? WHERE name = ?", pid, pid_started, name)

    def set_started(self, name: str, at: datetime, real: datetime) -> None:
        """Note when a run's command was started, in planned time and in real time."""
        sql = "UPDATE runs SET started_at = ?, started_real = ? WHERE name = ?"
        self._database.execute(sql, at.isoformat(), real.isoformat(), name)

    def set_pause_requested(self, name: str, at: datetime) -> None:
        """Note that a run is asked to pause; the first time counts."""
        sql = "UPDATE runs SET told_real = ? WHERE name = ? AND told_real IS NULL"
        self._database.execute(sql, at.isoformat(), name)

    def set_seen(self, name: str, at: datetime) -> None:
        """Note that a run was alive."""
        self._database.execute("UPDATE runs SET seen_real = ? WHERE name = ?", at.isoformat(), name)

    def add_left_behind(self, name: str, count: int) -> None:
        """Count processes that a dead supervisor left."""
        self._database.execute("UPDATE runs SET left_behind = left_behind + ? WHERE name = ?", count, name)


def _run_row(row: Row) -> RunRow:
    return RunRow(
        name=row["name"],
        uid=row["uid"],
        attempt=row["attempt"],
        region=row["region"],
        token=row["token"],
        folder=Path(row["folder"]),
        time_scale=row["time_scale"],
        started_at=datetime.fromisoformat(row["started_at"]),
        started_real=datetime.fromisoformat(row["started_real"]),
        pid=row["pid"],
        pid_started=row["pid_started"],
        pause_requested_real=_time(row["told_real"]),
        level=row["level"],
        seen_real=_time(row["seen_real"]),
        left_behind=row["left_behind"],
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
