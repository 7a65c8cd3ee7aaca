"""The ledger: issues, energy, decisions and receipts, append-only.

Importing it is quick; SQLAlchemy and Alembic are loaded when a ledger is opened.
"""

from __future__ import annotations

from windward.ledger.memory import MemoryLedger
from windward.ledger.opening import open_ledger
from windward.ledger.port import Decision, Ledger, LedgerError, LedgerTooNew, LedgerUnavailable, Receipt

__all__ = [
    "Decision",
    "Ledger",
    "LedgerError",
    "LedgerTooNew",
    "LedgerUnavailable",
    "MemoryLedger",
    "Receipt",
    "open_ledger",
]
