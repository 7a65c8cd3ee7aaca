"""Opening a book: its schema, what is refused, and how a failure is told."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from migrations import heads, opened_at_once
from skips import need

from windward.ledger import LedgerTooNew, LedgerUnavailable, open_ledger
from windward.ledger.tables import metadata
from windward.ledger.upgrade import _MIGRATIONS, HEAD

T0 = datetime(2026, 11, 21, tzinfo=UTC)
on_disk = pytest.mark.parametrize("url", ["file", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)


def test_the_migrations_lead_to_the_tables_in_the_code(book):
    with book._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == HEAD
        found = [change for change in compare_metadata(context, metadata) if change[0] != "remove_index"]
    assert found == []


def test_head_is_the_newest_migration():
    assert heads(_MIGRATIONS) == [HEAD]


@on_disk
def test_a_book_opened_again_holds_what_was_written(url):
    first = open_ledger(url)
    assert first.record_receipt("u", "n", "j", T0, {"a": 1}) == 1
    second = open_ledger(url)  # while the first is still open
    assert second.record_receipt("u", "n", "j", T0, {"a": 2}) == 2
    assert [r.body["a"] for r in first.receipt_history("u")] == [1, 2]
    first.close()
    second.close()


@on_disk
def test_several_open_an_empty_database_at_once(url):
    for book in opened_at_once(lambda: open_ledger(url)):
        book.close()


@on_disk
def test_a_book_of_a_newer_program_is_left_alone(url):
    book = open_ledger(url)
    with book._engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    book.close()
    with pytest.raises(LedgerTooNew, match=r"schema 9999, this program knows up to 0001\. Run the newer"):
        open_ledger(url)


def test_a_file_keeps_a_write_ahead_log_and_loses_nothing_at_a_power_cut(tmp_path):
    book = open_ledger(f"sqlite:///{tmp_path}/book.db")
    with book._engine.connect() as connection:
        pragma = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")}
    assert pragma == {"journal_mode": "wal", "synchronous": 2}
    book.close()


@pytest.mark.parametrize(
    "url",
    ["mysql://u:canary@h/d", "oracle://u:canary@h/d", "book.db", "", "sqlite+aiosqlite:///x", "postgresql+psycopg2://h/d"],
)  # fmt: skip
def test_another_kind_of_database_is_refused(url):
    with pytest.raises(ValueError, match=r"use sqlite:///path or postgresql://") as refusal:
        open_ledger(url)
    assert "canary" not in str(refusal.value)


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path):
    with pytest.raises(LedgerUnavailable, match="unable to open database file") as told:
        open_ledger(f"sqlite:///{tmp_path}/no/such/folder/book.db")
    assert str(told.value).endswith("Check that the database is up and its folder writable.")
    need("psycopg")
    with pytest.raises(LedgerUnavailable) as told:
        open_ledger("postgresql://u:canary@127.0.0.1:1/d")
    assert "canary" not in str(told.value)


def test_a_file_that_is_no_book(tmp_path):
    (tmp_path / "book.db").write_bytes(b"something else entirely " * 100)
    with pytest.raises(LedgerUnavailable, match="not a database"):
        open_ledger(f"sqlite:///{tmp_path}/book.db")


def test_a_locked_file_is_told_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("windward.ledger.sql._BUSY_S", 0.1)
    book = open_ledger(f"sqlite:///{tmp_path}/book.db")
    holder = sqlite3.connect(tmp_path / "book.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        book.record_receipt("u", "n", "j", T0, {})
    assert book.receipts() == []  # reading goes on
    holder.execute("ROLLBACK")
    assert book.record_receipt("u", "n", "j", T0, {}) == 1
    holder.close()
    book.close()


def test_importing_the_ledger_loads_no_database_library():
    program = "import sys, windward.ledger; print(sorted({'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_a_database_that_is_locked_is_unavailable_and_holds_nobody_for_ever(url, monkeypatch):
    monkeypatch.setattr("windward.ledger.sql._BUSY_S", 1)
    book = open_ledger(url)
    with book._engine.connect() as other:
        other.execute(sa.text("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(LedgerUnavailable, match="statement timeout"):
            book.decisions("u")
    assert book.decisions("u") == []
    book.close()
