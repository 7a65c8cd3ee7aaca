"""The first schema of the ledger: issues, energy, decisions, receipts, and the triggers that keep them append-only.

A migration is history: it spells its tables out and imports nothing that may change later.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TABLES = ("issues", "energy", "decisions", "receipts")
MESSAGE = "the ledger is append-only: rows of {} are never changed or removed"


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    time = sa.DateTime(timezone=postgres)
    serial = sa.BigInteger() if postgres else sa.Integer()
    for name, items in _tables(time, serial).items():
        op.create_table(name, *items)
    op.create_index("issues_by_target", "issues", ["zone", "kind", "end_at"])
    op.create_index("energy_by_job", "energy", ["uid", "start"])
    op.create_index("receipts_by_time", "receipts", ["at"])
    if postgres:
        _forbid_changes_postgres()
    else:
        _forbid_changes_sqlite()


def downgrade() -> None:
    raise NotImplementedError("a ledger is never downgraded: restore a backup instead")


def _column(name: str, kind: sa.types.TypeEngine[Any], *, primary_key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, primary_key=primary_key)


def _columns(kind: sa.types.TypeEngine[Any], *names: str) -> list[sa.Column[Any]]:
    return [_column(name, kind) for name in names]


def _tables(
    time: sa.types.TypeEngine[Any], serial: sa.types.TypeEngine[Any]
) -> dict[str, list[sa.Column[Any] | sa.UniqueConstraint]]:
    text, word, flag = sa.Text(), sa.String(64), sa.Boolean()
    number: sa.Double[float] = sa.Double()
    return {
        "issues": [
            _column("vintage", word, primary_key=True),
            *_columns(word, "zone", "kind"),
            *_columns(text, "source"),
            *_columns(time, "issued_at", "fetched_at", "start_at", "end_at"),
            *_columns(flag, "demo"),
            *_columns(sa.LargeBinary(), "payload"),
        ],
        "energy": [
            _column("id", serial, primary_key=True),
            *_columns(word, "uid", "pod_uid", "component"),
            *_columns(sa.Integer(), "attempt"),
            *_columns(time, "start", "end"),
            *_columns(number, "joules", "pue", "time_scale"),
            *_columns(text, "method", "source", "region"),
            *_columns(word, "zone"),
            sa.UniqueConstraint("uid", "attempt", "pod_uid", "component", "start", name="energy_key"),
        ],
        "decisions": [
            _column("id", serial, primary_key=True),
            *_columns(word, "uid"),
            *_columns(text, "namespace", "name"),
            *_columns(time, "at"),
            *_columns(word, "kind"),
            *_columns(text, "body"),
            *_columns(word, "sha256"),
            sa.UniqueConstraint("uid", "at", "kind", "sha256", name="decisions_key"),
        ],
        "receipts": [
            _column("id", serial, primary_key=True),
            *_columns(word, "uid"),
            *_columns(text, "namespace", "name"),
            *_columns(time, "at"),
            *_columns(sa.Integer(), "revision"),
            *_columns(flag, "settled", "demo"),
            *_columns(text, "body"),
            *_columns(word, "sha256"),
            sa.UniqueConstraint("uid", "revision", name="receipts_key"),
        ],
    }


def _forbid_changes_postgres() -> None:
    op.execute(
        "CREATE FUNCTION book_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" RAISE EXCEPTION '{MESSAGE.format('%')}', TG_TABLE_NAME; END $$"
    )
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION book_is_append_only()"
        )


def _forbid_changes_sqlite() -> None:
    for table in TABLES:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{MESSAGE.format(table)}'); END"
            )
