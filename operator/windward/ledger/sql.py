"""The ledger on SQLite (a file or memory) or PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    and_,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.pool import StaticPool

from windward.domain.clock import utc
from windward.domain.energy import EnergyInterval
from windward.domain.series import Kind, Series
from windward.ledger import codec
from windward.ledger.port import Body, Decision, LedgerError, LedgerUnavailable, Receipt, check_interval
from windward.ledger.tables import ENERGY_KEY, decisions, energy, issues, receipts
from windward.ledger.upgrade import upgrade

_BUSY_S = 10


class SqlLedger:
    """See `ledger.port.Ledger` for the promise."""

    def __init__(self, engine: Engine, *, one_connection: bool) -> None:
        self._engine = engine
        # In memory there is one connection, so everything takes turns. On a file only writers do: SQLite would make
        # them wait anyway, by polling.
        self._turn = threading.RLock()
        self._readers_wait = one_connection
        self._writers_wait = engine.dialect.name == "sqlite"

    @classmethod
    def open(cls, url: str) -> SqlLedger:
        """Open and upgrade the ledger at `url`; see `ledger.port.open_ledger`."""
        target = _checked_url(url)
        memory = target.get_backend_name() == "sqlite" and target.database in (None, "", ":memory:")
        ledger = cls(_engine(target, memory), one_connection=memory)
        try:
            with ledger._writing() as connection:
                upgrade(connection)
        except LedgerError:
            ledger.close()
            raise
        return ledger

    def close(self) -> None:
        self._engine.dispose()

    # -- issues ------------------------------------------------------------------------------------------------------

    def archive(self, series: Series) -> str:
        text = codec.encode(series)
        vintage = codec.sha256(text)
        row = {
            "vintage": vintage,
            "zone": series.zone,
            "kind": str(series.kind),
            "source": series.source,
            "issued_at": series.issued_at,
            "fetched_at": series.fetched_at,
            "start_at": series.start,
            "end_at": series.end,
            "demo": series.demo,
            "payload": codec.pack(text),
        }
        with self._writing() as connection:
            self._add(connection, issues, [row], ("vintage",))
        return vintage

    def issue(self, vintage: str) -> Series:
        stored = self._read(select(issues.c.payload, issues.c.fetched_at).where(issues.c.vintage == vintage))
        if not stored:
            raise KeyError(vintage)
        return codec.decode(codec.unpack(stored[0].payload), stored[0].fetched_at)

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        table = issues.c
        query = (
            select(table.payload, table.fetched_at)
            .where(table.zone == zone, table.kind == str(kind), table.end_at > utc(start), table.start_at < utc(end))
            .order_by(table.issued_at, table.fetched_at, table.vintage)
        )
        return [codec.decode(codec.unpack(row.payload), row.fetched_at) for row in self._read(query)]

    # -- energy ------------------------------------------------------------------------------------------------------

    def record_energy(self, rows: Sequence[EnergyInterval]) -> int:
        for row in rows:
            check_interval(row)
        values = [{column: getattr(row, column) for column in _ENERGY_COLUMNS} for row in rows]
        with self._writing() as connection:
            return self._add(connection, energy, values, ENERGY_KEY) if values else 0

    def energy(self, uid: str) -> Sequence[EnergyInterval]:
        table = energy.c
        query = (
            select(*(table[column] for column in _ENERGY_COLUMNS))
            .where(table.uid == uid)
            .order_by(table.start, table.attempt, table.pod_uid, table.component)
        )
        return [EnergyInterval(**row._mapping) for row in self._read(query)]

    # -- decisions ---------------------------------------------------------------------------------------------------

    def record_decision(self, uid: str, namespace: str, name: str, at: datetime, kind: str, body: Body) -> None:
        text = codec.canonical(body)
        row = {"uid": uid, "namespace": namespace, "name": name, "at": at, "kind": kind, "body": text}
        with self._writing() as connection:
            key = ("uid", "at", "kind", "sha256")
            self._add(connection, decisions, [row | {"sha256": codec.sha256(text)}], key)

    def decisions(self, uid: str, newest: int | None = None) -> Sequence[Decision]:
        query = select(decisions).where(decisions.c.uid == uid)
        if newest is not None:  # along the index of `decisions_key`
            query = query.order_by(decisions.c.at.desc(), decisions.c.id.desc()).limit(newest)
        rows = sorted(self._read(query), key=lambda row: row.id)
        return [Decision(r.uid, r.namespace, r.name, r.at, r.kind, json.loads(r.body)) for r in rows]

    # -- receipts ----------------------------------------------------------------------------------------------------

    def record_receipt(
        self,
        uid: str,
        namespace: str,
        name: str,
        at: datetime,
        body: Body,
        *,
        settled: bool = False,
        demo: bool = False,
    ) -> int:
        text = codec.canonical(body)
        row = {
            "uid": uid,
            "namespace": namespace,
            "name": name,
            "at": utc(at),
            "settled": settled,
            "demo": demo,
            "body": text,
            "sha256": codec.sha256(text),
        }
        with self._writing() as connection:
            if connection.dialect.name == "postgresql":
                # One writer a job at a time, so that two do not take the same number. SQLite has one writer anyway.
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(uid, 0))))
            newest = connection.execute(
                select(receipts).where(receipts.c.uid == uid).order_by(receipts.c.revision.desc()).limit(1)
            ).first()
            if newest is not None and all(newest._mapping[column] == value for column, value in row.items()):
                return int(newest.revision)
            revision = 1 if newest is None else int(newest.revision) + 1
            connection.execute(receipts.insert().values(row | {"revision": revision}))
            return revision

    def receipts(
        self,
        namespace: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        include_demo: bool = False,
    ) -> Sequence[Receipt]:
        newest = select(receipts.c.uid, func.max(receipts.c.revision).label("revision")).group_by(receipts.c.uid)
        last = newest.subquery()
        query = select(receipts).join(last, and_(receipts.c.uid == last.c.uid, receipts.c.revision == last.c.revision))
        if namespace is not None:
            query = query.where(receipts.c.namespace == namespace)
        if since is not None:
            query = query.where(receipts.c.at >= utc(since))
        if until is not None:
            query = query.where(receipts.c.at < utc(until))
        if not include_demo:
            query = query.where(receipts.c.demo.is_(False))
        return [_receipt(row) for row in self._read(query.order_by(receipts.c.at, receipts.c.uid))]

    def receipt_history(self, uid: str) -> Sequence[Receipt]:
        query = select(receipts).where(receipts.c.uid == uid).order_by(receipts.c.revision)
        return [_receipt(row) for row in self._read(query)]

    # -- how ---------------------------------------------------------------------------------------------------------

    def _add(self, connection: Connection, table: Table, rows: list[dict[str, Any]], key: Sequence[str]) -> int:
        """Insert the rows whose key is new; returns how many."""
        insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
        statement = insert(table).on_conflict_do_nothing(index_elements=list(key))
        # Counting what is returned: a row count is not to be had on PostgreSQL once a column is returned.
        return len(connection.execute(statement.returning(table.c[key[0]]), rows).all())

    def _read(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._turn_if(self._readers_wait), _plain_errors(), self._engine.connect() as connection:
            return connection.execute(query).all()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with (
            self._turn_if(self._writers_wait),
            _plain_errors(),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _turn_if(self, needed: bool) -> Iterator[None]:
        if not needed:
            yield
            return
        with self._turn:
            yield


_ENERGY_COLUMNS = tuple(column.name for column in energy.columns if column.name != "id")


def _receipt(row: Row[Any]) -> Receipt:
    body = json.loads(row.body)
    return Receipt(row.uid, row.namespace, row.name, row.at, row.revision, row.settled, row.demo, body, row.sha256)


def _checked_url(url: str) -> URL:
    try:
        target = make_url(url)
    except ArgumentError:
        raise ValueError("not a database URL: use sqlite:///path or postgresql://user@host/database") from None
    if target.drivername in ("postgres", "postgresql"):
        return target.set(drivername="postgresql+psycopg")
    if target.drivername in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        return target
    raise ValueError(f"{target.drivername} is not supported: use sqlite:///path or postgresql://user@host/database")


def _engine(target: URL, memory: bool) -> Engine:
    if target.get_backend_name() == "postgresql":
        return _postgres_engine(target)
    arguments: dict[str, Any] = {"timeout": _BUSY_S, "check_same_thread": False}
    if memory:
        engine = create_engine(target, connect_args=arguments, poolclass=StaticPool)
    else:
        engine = create_engine(target, connect_args=arguments)

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun by `_begun`, not by the driver
        cursor = connection.cursor()
        if not memory:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")  # a row that was reported as written survives a power cut
        cursor.execute("PRAGMA recursive_triggers=ON")  # without it, INSERT OR REPLACE deletes past the triggers
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # A writer takes the lock at once: a reader that turns writer later would fail instead of waiting.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres_engine(target: URL) -> Engine:
    try:
        engine = create_engine(target, pool_pre_ping=True, pool_size=4, connect_args={"connect_timeout": _BUSY_S})
    except ImportError:
        raise LedgerUnavailable("psycopg is not installed", "pip install 'windward[operator]'.") from None

    @event.listens_for(engine, "connect")
    def _bounded(connection: Any, _record: Any) -> None:
        """The deciding thread waits for statements: a lock of somebody else's must not hold it for ever."""
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {1000 * _BUSY_S}")
        connection.commit()

    return engine


@contextmanager
def _plain_errors() -> Iterator[None]:
    """A database's failure as `LedgerUnavailable`, without URL, password or statement in it."""
    try:
        yield
    except (IntegrityError, DataError):
        raise  # a row that breaks a constraint is a mistake of ours, no outage
    except DBAPIError as error:
        cause = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        fix = "Check that the database is up and its folder writable."
        raise LedgerUnavailable(f"the ledger cannot be used: {cause}", fix) from error
    except StatementError as error:
        if isinstance(error.orig, ValueError):  # a naive time, refused by `UtcTime`
            raise error.orig from None
        raise
