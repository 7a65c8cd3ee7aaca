"""`windward settle`: weighs anew what ended while its intensities could still be revised."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from windward.cli import text
from windward.cli.errors import CliError
from windward.cli.sources import Source
from windward.reports import figures
from windward.service.local import state_home

if TYPE_CHECKING:
    from windward.grid.port import Provider
    from windward.service.settling import Weighed


def settle(given: Source | None, output: str) -> None:
    """Weigh the open accounts of this machine, and say what became final and what keeps the others open.

    Args:
        given: for jobs that were run without a source; one that a job was run with is kept.
    """
    from windward.ledger.port import LedgerError
    from windward.service.settling import settle as weigh

    try:
        weighed = weigh(state_home(), lambda note: _provider(note, given))
    except LedgerError as e:
        raise CliError("the ledger cannot be written", cause=e.cause, fix=e.fix) from e
    if output == "json":
        items = [_body(w) for w in weighed]
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "SettledList", "items": items}, indent=2))
    elif weighed:
        print(text.lines([_sentence(w) for w in weighed]))
    if not weighed:
        sys.stderr.write("no open account on this machine: every receipt is final\n")


def settle_in_passing() -> None:
    """For commands that only look: say on stderr what became final within a second; nothing where nothing did."""
    from windward.service.local import state_home

    if not (state_home() / "local.db").exists():
        return
    from windward.service.settling import settle_in_passing as weigh

    for w in weigh(state_home(), lambda note: _provider(note, None)):
        if w.settled:
            sys.stderr.write(text.lines([_sentence(w)]) + "\n")


def _provider(note: str, given: Source | None) -> Provider | None:
    """The source that a job was run with; else the one given now."""
    from windward.service.clock import SystemClock

    source = _noted(note) or given
    if source is None:
        return None
    try:
        return source.open(SystemClock())
    except CliError as e:
        raise ValueError(e.what) from e


def _noted(note: str) -> Source | None:
    if not note:
        return None
    source = json.loads(note)
    return Source(str(source["name"]), Path(source["trace"]) if source.get("trace") else None)


def _sentence(w: Weighed) -> str:
    if not w.settled or w.account is None:
        return f"provisional: {w.key}: {w.why}"
    a, mark = w.account, "" if w.account.method == "measured" else "~"
    saved = f", saved {figures.saved(a.saved_g, a.run_now_g, mark)}" if a.saved_g is not None else ""
    return f"settled: {w.key}: {figures.grams(a.emissions_g, mark)}{saved}"


def _body(w: Weighed) -> dict[str, object]:
    a = w.account
    namespace, _, name = w.key.partition("/")
    return {
        "namespace": namespace,
        "name": name,
        "settled": w.settled,
        "why": w.why,
        "emissionsGrams": a.emissions_g if a is not None else None,
        "savedGrams": a.saved_g if a is not None else None,
    }
