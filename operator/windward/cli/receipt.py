"""A receipt on the terminal."""

from __future__ import annotations

from windward.cli import text
from windward.reports.receipt_card import Body, card_lines


def card(body: Body, sha256: str, *, kept: bool = True) -> str:
    """Returns the receipt of one job for a terminal: harmless, and wrapped to its width."""
    return text.lines(card_lines(body, sha256, kept=kept), indent=10)
