"""The tables as SQLAlchemy Core sees them. Their history is in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from windward.domain.clock import utc


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out. PostgreSQL keeps a `timestamptz`; SQLite the text `2026-11-21 09:30:00.000000`."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = utc(value)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


metadata = MetaData()
# SQLite gives row numbers of its own only to a column declared INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")

issues = Table(
    "issues",
    metadata,
    Column("vintage", String(64), primary_key=True),
    Column("zone", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    Column("fetched_at", UtcTime, nullable=False),
    Column("start_at", UtcTime, nullable=False),
    Column("end_at", UtcTime, nullable=False),
    Column("demo", Boolean, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

ENERGY_KEY = ("uid", "attempt", "pod_uid", "component", "start")
energy = Table(
    "energy",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("uid", String(64), nullable=False),
    Column("pod_uid", String(64), nullable=False),
    Column("component", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("joules", Double, nullable=False),
    Column("pue", Double, nullable=False),
    Column("time_scale", Double, nullable=False),
    Column("method", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("zone", String(64), nullable=False),
    UniqueConstraint(*ENERGY_KEY, name="energy_key"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("uid", String(64), nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    UniqueConstraint("uid", "at", "kind", "sha256", name="decisions_key"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("uid", String(64), nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("demo", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    UniqueConstraint("uid", "revision", name="receipts_key"),
)
