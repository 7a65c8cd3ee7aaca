"""The schema of this machine's state, and how a file comes to it.

A new file gets the present schema at once. An older one is upgraded by Alembic, in one transaction, while other
commands wait; a newer one is refused. After a change of the schema write a migration, and change `TABLES` and `HEAD`
with it: a test compares the two ways.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

HEAD = "0001"  # the newest file in migrations/versions
TABLES = (
    """CREATE TABLE objects (
         kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
         version INTEGER NOT NULL, body TEXT NOT NULL,
         PRIMARY KEY (kind, namespace, name))""",
    """CREATE TABLE runs (
         name TEXT PRIMARY KEY, uid TEXT NOT NULL, attempt INTEGER NOT NULL, region TEXT NOT NULL,
         token TEXT NOT NULL, folder TEXT NOT NULL, time_scale REAL NOT NULL,
         started_at TEXT NOT NULL, started_real TEXT NOT NULL,
         pid INTEGER, pid_started TEXT, told_real TEXT, level TEXT NOT NULL DEFAULT '',
         seen_real TEXT, left_behind INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE events (
         id INTEGER PRIMARY KEY, uid TEXT NOT NULL, at TEXT NOT NULL, warning INTEGER NOT NULL,
         reason TEXT NOT NULL, message TEXT NOT NULL)""",
    "CREATE TABLE clocks (uid TEXT PRIMARY KEY, sim TEXT NOT NULL, real TEXT NOT NULL, speed REAL NOT NULL)",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
)
MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaTooNew(Exception):
    """The schema is not one that this program knows."""


def version_of(connection: sqlite3.Connection) -> str | None:
    """Returns the schema version of a file; None where it has none."""
    if "alembic_version" not in _tables(connection):
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def create(connection: sqlite3.Connection) -> bool:
    """Give an empty database the present schema, inside the caller's transaction. Returns whether it was empty."""
    if _tables(connection):
        return False
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    return True


def upgrade(path: Path, patience_s: float) -> None:
    """Run the missing migrations on a file, on a connection of its own.

    Raises:
        SchemaTooNew: a newer program wrote it.
        sqlalchemy.exc.SQLAlchemyError: it cannot be upgraded.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy import URL, create_engine
    from sqlalchemy.pool import NullPool

    url = URL.create("sqlite", database=str(path))
    options = {"timeout": patience_s, "isolation_level": None}  # transactions are begun here, not by the driver
    with create_engine(url, connect_args=options, poolclass=NullPool).connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as e:
            raise SchemaTooNew(str(e)) from e
        connection.commit()


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
