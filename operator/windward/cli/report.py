"""`windward report`: accounts from the book."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windward.cli import text
from windward.cli.errors import CliError, Exit, on_path
from windward.cli.receipt import card
from windward.cli.shown import csv_cell
from windward.ledger.port import Ledger, LedgerError, Receipt, open_ledger
from windward.service.local import state_home

_FIELDS = (
    "namespace", "name", "finishedAt", "energyJoules", "emissionsGrams", "runNowGrams", "savedGrams", "method",
    "settled", "demo", "revision", "sha256",
)  # fmt: skip


def report(output: str, demo: bool, database: str, name: str) -> None:
    """Print what the book says of ended jobs."""
    ledger = _open(database, name)
    try:
        receipts = ledger.receipts(include_demo=demo or bool(name))
        if name:
            _one(receipts, name, output)
        else:
            _all(receipts, output, hidden=len(ledger.receipts(include_demo=True)) - len(receipts))
    finally:
        ledger.close()


def _open(database: str, name: str) -> Ledger:
    database = database or os.environ.get("WINDWARD_DATABASE_URL", "")  # in the operator's own pod, its ledger
    book = state_home() / "book.db"
    there = book.exists()
    if not database and not there and name:
        fix = "windward run -- CMD makes one"
        raise CliError("there is no book on this machine yet", fix=fix, code=Exit.NOT_FOUND)
    if database.startswith("sqlite:///"):
        _check_file(Path(database.removeprefix("sqlite:///")))
    try:
        return open_ledger(database or (f"sqlite:///{book}" if there else "sqlite://"))  # an empty one where none is
    except (LedgerError, ValueError, ImportError) as e:
        fix = "check the address, as in --database sqlite:////path/book.db"
        raise CliError(
            "the book cannot be opened", cause=_without_password(str(e)), fix=fix, code=Exit.UNREACHABLE
        ) from e


def _check_file(path: Path) -> None:
    """Refuse what is no book: a report reads one, and makes none."""
    try:
        with path.open("rb") as file:
            good = file.read(16) == b"SQLite format 3\0"
    except OSError as e:
        said = f"the book {path} cannot be opened"
        raise on_path(
            said, e, fix="check the path, as in --database sqlite:////path/book.db", code=Exit.UNREACHABLE
        ) from e
    if not good:
        fix = "name the book.db of a state folder, as in --database sqlite:////path/book.db"
        raise CliError(f"the book {path} cannot be opened", cause="it is no book", fix=fix, code=Exit.UNREACHABLE)


def _without_password(words: str) -> str:
    """What a driver said, without the password of an address in it."""
    return re.sub(r"(//[^:/@\s]*:)[^@\s]*@", r"\1***@", words)


def _one(receipts: Sequence[Receipt], name: str, output: str) -> None:
    found = [r for r in receipts if name in (r.name, f"{r.namespace}/{r.name}", r.uid)]
    if not found:
        raise CliError(f"the book has no receipt of {name}", fix="windward report lists them", code=Exit.NOT_FOUND)
    newest = found[-1]
    if output == "json":
        print(json.dumps({**newest.body, "sha256": newest.sha256, "revision": newest.revision}, indent=2))
        return
    rows = newest.body["intervals"]
    if output == "csv":
        _csv(list(rows[0]) if rows else [], rows)
        return
    print(card(newest.body, newest.sha256))
    lines = [
        [
            str(i["attempt"]), i["start"][:16], i["end"][11:16], i["component"], f"{i['joules']:.6g}", i["method"],
            i["zone"], f"{i['pue']:.3g}", _plain(i["intensityGramsPerKwh"]), _plain(i["emissionsGrams"]),
        ]
        for i in rows
    ]  # fmt: skip
    head = ["RUN", "START", "END", "PART", "JOULES", "METHOD", "ZONE", "PUE", "G/KWH", "GRAMS"]
    print(f"\n{text.lines([newest.body['formula']])}\n{text.table([head, *lines], right=(4, 7, 8, 9))}")


def _plain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _all(receipts: Sequence[Receipt], output: str, hidden: int) -> None:
    bodies = [_flat(r) for r in receipts]
    if output == "json":
        document = {"apiVersion": "cli.windward.dev/v1", "kind": "Report", "items": bodies, "totals": _totals(receipts)}
        print(json.dumps(document, indent=2))
    elif output == "csv":
        _csv(list(_FIELDS), bodies)
    elif receipts:
        print(_table(receipts))
    if not receipts:
        sys.stderr.write("no ended job in the book yet; windward run -- CMD makes one\n")
    if hidden > 0:
        sys.stderr.write(
            f"{hidden} demonstration{'s' if hidden > 1 else ''} left out; --include-demo shows them, marked\n"
        )


def _flat(r: Receipt) -> dict[str, Any]:
    body = {
        **r.body,
        "namespace": r.namespace,
        "name": r.name,
        "demo": r.demo,
        "revision": r.revision,
        "sha256": r.sha256,
    }
    return {k: body.get(k) for k in _FIELDS}


def _csv(fields: list[str], rows: Sequence[Any]) -> None:
    writer = csv.DictWriter(sys.stdout, fields)
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)


def _totals(receipts: Sequence[Receipt]) -> dict[str, float | int]:
    """Sums of what is known; how many jobs are missing from each."""
    bodies = [r.body for r in receipts]
    known = [b for b in bodies if b["emissionsGrams"] is not None]
    compared = [b for b in bodies if b["savedGrams"] is not None]
    return {
        "jobs": len(bodies),
        "energyJoules": sum(b["energyJoules"] for b in bodies),
        "emissionsGrams": sum(b["emissionsGrams"] for b in known),
        "jobsWithoutEmissions": len(bodies) - len(known),
        "savedGrams": sum(b["savedGrams"] for b in compared),
        "jobsWithoutBaseline": len(bodies) - len(compared),
    }


def _table(receipts: Sequence[Receipt]) -> str:
    head = ["JOB", "FINISHED", "ENERGY", "CO2e", "RUN NOW", "SAVED", "METHOD", "STATE", "RECORD"]
    rows = [head]
    for r in receipts:
        b = r.body
        mark = "" if b["method"] == "measured" else "~"
        rows.append(
            [
                f"{r.namespace}/{r.name}", b["finishedAt"][:16] + "Z", f"{b['energyJoules'] / 3.6e6:.3g} kWh",
                text.grams(b["emissionsGrams"], mark), text.grams(b["runNowGrams"], mark),
                text.saved(b["savedGrams"], b["runNowGrams"], mark),
                b["method"] + (" DEMO" if r.demo else ""), "settled" if r.settled else "provisional", r.sha256[:12],
            ]
        )  # fmt: skip
    t = _totals(receipts)
    kwh = f"{t['energyJoules'] / 3.6e6:.3g} kWh"
    grams = text.grams(t["emissionsGrams"] if t["jobsWithoutEmissions"] < t["jobs"] else None)
    saved = text.grams(t["savedGrams"] if t["jobsWithoutBaseline"] < t["jobs"] else None)
    rows.append(["total", "", kwh, grams, "", saved, "", "", ""])
    return text.table(rows, right=(2, 3, 4))
