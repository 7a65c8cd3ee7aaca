"""A state file of any age is brought up to date where it lies; one of a newer program is left alone."""

import sqlite3
from datetime import UTC, datetime

import pytest
from migrations import heads, opened_at_once

from windward.cluster import schema
from windward.cluster.database import StateError
from windward.cluster.store import Store

T0 = datetime(2022, 5, 11, 15, tzinfo=UTC)
# As the last program wrote it that knew no versions.
UNVERSIONED = """
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
BODY = '{"kind": "GreenJob", "metadata": {"name": "night", "namespace": "default", "uid": "u"}, "spec": {}}'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "local.db"


@pytest.fixture
def unversioned(path):
    """A file of the last program without versions, with one of everything."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(UNVERSIONED)
        db.execute("INSERT INTO objects VALUES ('GreenJob', 'default', 'night', 7, ?)", (BODY,))
        run = ("night-u-1", "u", 1, "here", "u-1", "/runs/x", 60.0, T0.isoformat(), T0.isoformat(), 42, "123456",
               T0.isoformat(), "slow", T0.isoformat(), 2)  # fmt: skip
        db.execute(f"INSERT INTO runs VALUES ({', '.join('?' * 15)})", run)
        db.execute("INSERT INTO events VALUES (1, 'u', ?, 0, 'Planned', 'so')", (T0.isoformat(),))
        db.execute("INSERT INTO clocks VALUES ('u', ?, ?, 60.0)", (T0.isoformat(), T0.isoformat()))
    db.close()
    return path


def shape(path):
    """Tables with their columns, in any order."""
    with sqlite3.connect(path) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {n: {row[1:] for row in db.execute(f"PRAGMA table_info({n})")} for n in names}
    db.close()
    return tables


def version(path):
    with sqlite3.connect(path) as db:
        found = schema.version_of(db)
    db.close()
    return found


def refuse(*_):
    raise AssertionError("nothing is to be upgraded")


def test_head_is_the_newest_migration():
    assert heads(schema.MIGRATIONS) == [schema.HEAD]


def test_a_new_file_has_what_an_upgraded_one_has(unversioned, tmp_path, monkeypatch):
    Store(unversioned).close()
    monkeypatch.setattr(schema, "upgrade", refuse)
    Store(tmp_path / "new.db").close()
    assert shape(tmp_path / "new.db") == shape(unversioned)
    Store(None).close()


def test_an_older_file_is_upgraded_in_place_once_and_loses_nothing(unversioned, monkeypatch):
    for _ in range(2):
        store = Store(unversioned)
        assert version(unversioned) == schema.HEAD
        assert store.get("GreenJob", "default", "night")["metadata"]["resourceVersion"] == "7"
        (run,) = store.runs.of_job("u")
        assert (run.pid, run.pid_started, run.pause_requested_real, run.seen_real) == (42, "123456", T0, T0)
        assert (run.level, run.left_behind, run.time_scale, str(run.folder)) == ("slow", 2, 60.0, "/runs/x")
        assert store.events("u") == [(T0, False, "Planned", "so")] and store.clock("u") == (T0, T0, 60.0)
        store.close()
        monkeypatch.setattr(schema, "upgrade", refuse)


def test_several_commands_upgrade_one_file_at_once(unversioned):
    stores = opened_at_once(lambda: Store(unversioned))
    assert all(len(store.runs.of_job("u")) == 1 for store in stores)
    for store in stores:
        store.close()


def test_a_file_of_a_newer_program_is_refused_and_left_alone(path):
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '0999'")
        db.execute("ALTER TABLE runs ADD COLUMN later TEXT")
    db.close()
    before = shape(path)
    with pytest.raises(StateError, match=r"a newer Windward wrote it .*0999.*WINDWARD_HOME"):
        Store(path)
    assert shape(path) == before and version(path) == "0999"


def test_an_upgrade_happens_wholly_or_not_at_all(path):
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE x (name TEXT); CREATE VIEW runs AS SELECT * FROM x")
    db.close()
    with pytest.raises(StateError, match="it cannot be upgraded"):
        Store(path)
    assert set(shape(path)) == {"x"}


def test_what_is_no_state_is_refused(path):
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StateError, match=r"local\.db"):
        Store(path)
