"""Brings a ledger's schema up to date when it is opened."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from windward.ledger.port import LedgerTooNew

HEAD = "0001"  # a test compares it with the newest file in migrations/versions
_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 7_310_585_923  # any fixed number: one upgrade at a time


def upgrade(connection: Connection) -> None:
    """Run the missing migrations inside the caller's transaction; another process that opens the ledger waits.

    Raises:
        LedgerTooNew: the schema is not one that this program knows.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SET LOCAL statement_timeout = 0")
        )  # another upgrade, and large tables, take their time
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    current = _version(connection)
    if current == HEAD:
        return  # the usual case, without loading Alembic
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        ScriptDirectory.from_config(config).get_revision(current or "base")
    except CommandError:
        cause = f"the ledger has schema {current}, this program knows up to {HEAD}"
        raise LedgerTooNew(cause, "Run the newer Windward, or open another ledger.") from None
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)
