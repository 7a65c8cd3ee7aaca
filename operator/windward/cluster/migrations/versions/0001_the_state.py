"""The first state that has a version: objects, runs, events and clocks.

Files that were written before states had versions are adopted: what they lack is added. A migration is history: it
spells its tables out and imports nothing that may change later.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    """CREATE TABLE IF NOT EXISTS objects (
         kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
         version INTEGER NOT NULL, body TEXT NOT NULL,
         PRIMARY KEY (kind, namespace, name))""",
    """CREATE TABLE IF NOT EXISTS runs (
         name TEXT PRIMARY KEY, uid TEXT NOT NULL, attempt INTEGER NOT NULL, region TEXT NOT NULL,
         token TEXT NOT NULL, folder TEXT NOT NULL, time_scale REAL NOT NULL,
         started_at TEXT NOT NULL, started_real TEXT NOT NULL,
         pid INTEGER, pid_started TEXT, told_real TEXT)""",
    """CREATE TABLE IF NOT EXISTS events (
         id INTEGER PRIMARY KEY, uid TEXT NOT NULL, at TEXT NOT NULL, warning INTEGER NOT NULL,
         reason TEXT NOT NULL, message TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS clocks (
         uid TEXT PRIMARY KEY, sim TEXT NOT NULL, real TEXT NOT NULL, speed REAL NOT NULL)""",
)
LATER_COLUMNS = {
    "level": "TEXT NOT NULL DEFAULT ''",
    "seen_real": "TEXT",
    "left_behind": "INTEGER NOT NULL DEFAULT 0",
}


def upgrade() -> None:
    for table in TABLES:
        op.execute(table)
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("runs")}
    for name, kind in LATER_COLUMNS.items():
        if name not in there:
            op.execute(f"ALTER TABLE runs ADD COLUMN {name} {kind}")


def downgrade() -> None:
    raise NotImplementedError("a state is not taken back: restore a backup instead")
