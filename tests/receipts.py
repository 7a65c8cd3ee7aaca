"""Receipts before a stranger: whatever the suite makes is exported and computed again by `windward.tools.verify`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windward.ledger import codec
from windward.reports.export import export_of
from windward.service import accountant
from windward.tools.verify import verify


@dataclass(frozen=True, slots=True)
class Entry:
    """A receipt that stands in no ledger."""

    body: dict[str, Any]
    sha256: str
    revision: int = 1

    @property
    def settled(self) -> bool:
        return bool(self.body["settled"])


def entry(body: dict[str, Any]) -> Entry:
    return Entry(body, codec.sha256(codec.canonical(body)))


def faults_of(entries: Iterable[Any]) -> list[str]:
    """What a stranger finds in these receipts, with nothing but the text of their export."""
    try:
        return verify(json.loads(json.dumps(export_of(entries, "0"), allow_nan=False)))
    except Exception as e:  # what cannot be computed again is no receipt
        return [f"no export to verify: {type(e).__name__}: {e}"]


def watch(monkeypatch: Any) -> list[str]:
    """Verify each receipt that this process makes from now on; returns the list that the faults go to."""
    faults: list[str] = []
    seen: set[str] = set()
    made = accountant.receipt_of

    def verified(*arguments: Any, **more: Any) -> dict[str, Any]:
        body = made(*arguments, **more)
        one = entry(body)
        if one.sha256 not in seen:
            seen.add(one.sha256)
            faults.extend(faults_of([one]))
        return body

    monkeypatch.setattr(accountant, "receipt_of", verified)
    return faults


def faults_of_books(folder: Path) -> list[str]:
    """What a stranger finds in the books of commands that kept their state below `folder`, every revision of it."""
    out: list[str] = []
    for path in (*folder.glob("book.db"), *folder.glob("*/book.db"), *folder.glob("*/*/book.db")):
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
                rows = db.execute("SELECT body FROM receipts").fetchall()
        except sqlite3.Error:
            continue  # broken on purpose, or of no version of ours: the test's own matter
        out += faults_of([entry(json.loads(text)) for (text,) in rows])
    return out
