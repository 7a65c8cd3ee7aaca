"""The database itself keeps the ledger append-only, whoever writes to it and with whatever tool."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from windward.domain.energy import EnergyInterval
from windward.grid import TraceProvider
from windward.ledger.tables import metadata

T0 = datetime(2026, 11, 21, tzinfo=UTC)
TABLES = ("issues", "energy", "decisions", "receipts")


@pytest.fixture
def filled(book):
    book.archive(TraceProvider.bundled().issue("DE", T0))
    end = T0 + timedelta(hours=1)
    book.record_energy([EnergyInterval("u", 1, "p", "cpu", T0, end, 1.0, "measured", "rapl", "r", "DE", 1.2)])
    book.record_decision("u", "n", "j", T0, "Planned", {})
    book.record_receipt("u", "n", "j", T0, {})
    return book


def attempt(book, statement):
    with book._engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(sa.text(statement))


def content(book):
    with book._engine.connect() as connection:
        return {table: connection.execute(sa.text(f"SELECT * FROM {table}")).all() for table in TABLES}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {t} SET demo = demo", "UPDATE {t} SET zone = 'XX'", "UPDATE {t} SET body = '{{}}'", "DELETE FROM {t}"],
)
def test_no_row_is_changed_or_removed(filled, table, statement):
    column = statement.split()[3] if statement.startswith("UPDATE") else None
    if column and column not in metadata.tables[table].columns:
        column = metadata.tables[table].columns.keys()[0]
        statement = f"UPDATE {{t}} SET {column} = {column}"
    before = content(filled)
    with pytest.raises(
        sa.exc.DBAPIError, match=f"the ledger is append-only: rows of {table} are never changed or removed"
    ):
        attempt(filled, statement.format(t=table))
    assert content(filled) == before


@pytest.mark.postgres
def test_postgres_is_not_emptied_either(request):
    from ledger.postgres import fresh_database

    from windward.ledger import open_ledger

    book = open_ledger(fresh_database(request.getfixturevalue("postgres_url")))
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        attempt(book, "TRUNCATE issues")
    book.close()


@pytest.mark.parametrize("url", ["sqlite://"])
def test_sqlite_replaces_no_row(filled, url):
    """`INSERT OR REPLACE` removes the old row, past the triggers unless `recursive_triggers` is on."""
    before = content(filled)
    columns = [c for c in metadata.tables["receipts"].columns.keys() if c != "id"]  # noqa: SIM118
    picked = ", ".join("'forged'" if c == "body" else c for c in columns)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        attempt(filled, f"INSERT OR REPLACE INTO receipts ({', '.join(columns)}) SELECT {picked} FROM receipts")
    assert content(filled) == before
