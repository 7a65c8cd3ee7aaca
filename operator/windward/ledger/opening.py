"""Opens a ledger by its address."""

from __future__ import annotations

from windward.ledger.port import Ledger


def open_ledger(url: str) -> Ledger:
    """Open the ledger at `url` and bring its schema up to date.

    Args:
        url: `sqlite:///path/to/book.db`, `sqlite://` (in memory, gone when closed) or
            `postgresql://user:password@host/database`.

    Raises:
        LedgerUnavailable: it cannot be opened.
        LedgerTooNew: a newer program has written it.
        ValueError: another kind of database.
    """
    from windward.ledger.sql import SqlLedger

    return SqlLedger.open(url)
