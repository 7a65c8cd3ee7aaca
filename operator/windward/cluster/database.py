"""The SQLite file of this machine's state: one connection, transactions, and its schema.

Several commands may have the file open at once; a writer waits for another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from windward.cluster import schema

_BUSY_S = 30.0


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
            self.connection.execute("PRAGMA journal_mode=WAL")
        except (OSError, sqlite3.Error) as e:
            raise StateError(f"{path}: {getattr(e, 'strerror', None) or e}") from e
        try:
            self._prepare(path)
        except BaseException:
            self.close()
            raise

    def _prepare(self, path: Path | None) -> None:
        """Bring the schema up to date; the usual case is one look at its version.

        Raises:
            StateError: it cannot be brought up to date.
        """
        try:
            if schema.version_of(self.connection) == schema.HEAD:
                return
            with self.transaction():
                created = schema.create(self.connection)
            if not created and path is not None:
                _upgrade(path)
        except sqlite3.Error as e:
            raise StateError(f"{path}: {e}") from e

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


def _upgrade(path: Path) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        schema.upgrade(path, _BUSY_S)
    except schema.SchemaTooNew as e:
        fix = "run the newer one, or set WINDWARD_HOME to another folder"
        raise StateError(f"{path}: a newer Windward wrote it ({e}; this one knows up to {schema.HEAD}): {fix}") from e
    except SQLAlchemyError as e:
        raise StateError(f"{path}: it cannot be upgraded: {e}") from e
