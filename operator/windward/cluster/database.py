"""The SQLite file of this machine's state: one connection, transactions, and its schema.

Several commands may have the file open at once; a writer waits for another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_BUSY_S = 30.0
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


class StateError(Exception):
    """The state file cannot be used; the sentence says why."""


class Database:
    """See the module.

    Args:
        path: the file, which is created where there is none; None: nothing is written anywhere.

    Raises:
        StateError: it cannot be opened, or is no state of ours.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # commands may carry secrets
            where = ":memory:" if path is None else path
            self.connection = sqlite3.connect(where, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self.connection.row_factory = sqlite3.Row
            self._open()
        except (OSError, sqlite3.Error) as e:
            raise StateError(f"{path}: {getattr(e, 'strerror', None) or e}") from e

    def _open(self) -> None:
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.executescript(_SCHEMA)
        there = {r["name"] for r in self.connection.execute("PRAGMA table_info(runs)")}
        for name, kind in _LATER_COLUMNS.items():
            if name not in there:  # written by an older version
                self.connection.execute(f"ALTER TABLE runs ADD COLUMN {name} {kind}")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Returns what a query finds."""
        return self.connection.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> int:
        """Run one statement in a transaction of its own. Returns the number of rows that it changed."""
        with self.transaction():
            return self.connection.execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the file for writing: all of the block happens, or nothing of it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
