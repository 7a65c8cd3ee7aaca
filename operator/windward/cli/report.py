"""`windward report`: accounts from the book."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windward import __version__
from windward.cli import text
from windward.cli.errors import CliError, Exit, on_path
from windward.cli.options import ReportOutput
from windward.cli.output_file import check_output_file
from windward.cli.receipt import LEVERS, card, late
from windward.cli.settle import settle_in_passing
from windward.cli.shown import csv_cell
from windward.ledger.opening import open_ledger
from windward.ledger.port import Ledger, LedgerError, Receipt
from windward.reports.export import export_of, kind_of, mark_of, totals
from windward.service.local import state_home

_FIELDS = (
    "namespace", "name", "finishedAt", "outcome", "lateSeconds", "failedRuns", "energyJoules", "emissionsGrams",
    "runNowGrams", "savedGrams", *LEVERS, "method", "kind", "mark", "settled", "demo", "revision", "sha256",
)  # fmt: skip


def report(output: str, demo: bool, database: str, name: str, export: str = "") -> None:
    """Print what the book says of ended jobs, or write its export."""
    if export:
        _check_export(export, output)
    if not database:
        settle_in_passing()
    ledger = _open(database, name)
    try:
        receipts = ledger.receipts(include_demo=demo or bool(name))
        if name:
            receipts = [_newest(receipts, name)]
        if export:
            _export(receipts, export)
        elif name:
            _one(receipts[0], output)
        else:
            _all(receipts, output)
        if not name:
            _hidden(len(ledger.receipts(include_demo=True)) - len(receipts), bool(receipts))
    finally:
        ledger.close()


def _check_export(export: str, output: str) -> None:
    """Refuse what cannot be, before anything is read."""
    if output != ReportOutput.TABLE:
        fix = f"leave -o {output} out: an export is always JSON"
        raise CliError("--export and --output contradict each other", fix=fix, code=Exit.USAGE)
    if export != "-":
        check_output_file("--export", Path(export), example="receipts.json")


def _export(receipts: Sequence[Receipt], export: str) -> None:
    document = json.dumps(export_of(receipts, __version__), indent=1, allow_nan=False) + "\n"
    if export == "-":
        sys.stdout.write(document)
        return
    try:
        Path(export).write_text(document, encoding="utf-8")
    except OSError as e:
        raise on_path(f"--export {export} cannot be written", e) from e
    sys.stderr.write(f"export: {export}, {_count(len(receipts), 'receipt')}; to check it: windward-verify {export}\n")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _hidden(hidden: int, shown: bool) -> None:
    """What is not in this report, and why."""
    if not shown:
        sys.stderr.write("no ended job in the book yet; windward run -- CMD makes one\n")
    if hidden > 0:
        sys.stderr.write(f"{_count(hidden, 'demonstration')} left out; --include-demo shows them, marked\n")


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


def _newest(receipts: Sequence[Receipt], name: str) -> Receipt:
    found = [r for r in receipts if name in (r.name, f"{r.namespace}/{r.name}", r.uid)]
    if not found:
        raise CliError(f"the book has no receipt of {name}", fix="windward report lists them", code=Exit.NOT_FOUND)
    return found[-1]


def _one(newest: Receipt, output: str) -> None:
    mark = mark_of(newest.body)
    if output == "json":
        told = {**newest.body, "mark": mark, "sha256": newest.sha256, "revision": newest.revision}
        print(json.dumps(told, indent=2))
        return
    rows = newest.body["intervals"]
    if output == "csv":
        _csv([*rows[0], "mark"] if rows else [], [{**row, "mark": mark} for row in rows])
        return
    print(card(newest.body, newest.sha256))
    lines = [
        [
            str(i["attempt"]), i["start"][:16], i["end"][11:16], i["component"], f"{i['joules']:.6g}", i["method"],
            i["zone"], f"{i['pue']:.3g}", _plain(i["intensityGramsPerKwh"]), i["quality"] or "",
            _plain(i["emissionsGrams"]), mark,
        ]
        for i in rows
    ]  # fmt: skip
    head = ["RUN", "START", "END", "PART", "JOULES", "METHOD", "ZONE", "PUE", "G/KWH", "QUALITY", "GRAMS", "MARK"]
    print(f"\n{text.lines([newest.body['formula']])}\n{text.table([head, *lines], right=(4, 7, 8, 10))}")


def _plain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _all(receipts: Sequence[Receipt], output: str) -> None:
    bodies = [_flat(r) for r in receipts]
    if output == "json":
        sums = totals(r.body for r in receipts)
        document = {"apiVersion": "cli.windward.dev/v1", "kind": "Report", "items": bodies, "totals": sums}
        print(json.dumps(document, indent=2))
    elif output == "csv":
        _csv(list(_FIELDS), bodies)
    elif receipts:
        print(_table(receipts))


def _flat(r: Receipt) -> dict[str, Any]:
    body = {
        **r.body,
        **(r.body["levers"] or {}),
        "namespace": r.namespace,
        "name": r.name,
        "kind": kind_of(r.body),
        "mark": mark_of(r.body),
        "demo": r.demo,
        "revision": r.revision,
        "sha256": r.sha256,
    }
    return {k: body.get(k) for k in _FIELDS}


def _csv(fields: list[str], rows: Sequence[Any]) -> None:
    writer = csv.DictWriter(sys.stdout, fields)
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)


_HEAD = [
    "JOB", "FINISHED", "OUTCOME", "LATE", "FAILED RUNS", "ENERGY", "CO2e", "RUN NOW", "SAVED",
    "HOURS", "PLACE", "POWER", "OVERHEAD", "METHOD", "DATA", "MARK", "STATE", "RECORD",
]  # fmt: skip
_FIGURES = (3, 4, 5, 6, 7, 9, 10, 11, 12)


def _table(receipts: Sequence[Receipt]) -> str:
    """A row for each job, and a total for each group of those that count the same thing."""
    rows = [_HEAD, *(_row(r) for r in receipts), *(_total(t) for t in totals(r.body for r in receipts))]
    return text.table(rows, right=_FIGURES)


def _row(r: Receipt) -> list[str]:
    b = r.body
    mark = "" if b["method"] == "measured" else "~"
    levers = b["levers"] or {}
    return [
        f"{r.namespace}/{r.name}", b["finishedAt"][:16] + "Z", b["outcome"], late(b["lateSeconds"]),
        str(b["failedRuns"]), f"{b['energyJoules'] / 3.6e6:.3g} kWh",
        text.grams(b["emissionsGrams"], mark), text.grams(b["runNowGrams"], mark) if _compared(b) else "",
        text.saved(b["savedGrams"], b["runNowGrams"], mark) if _compared(b) else "nothing",
        *(text.grams(levers[k], mark) if k in levers else "" for k in LEVERS),
        b["method"], kind_of(b) or "none", mark_of(b).upper(), "settled" if r.settled else "provisional",
        r.sha256[:12],
    ]  # fmt: skip


def _compared(body: Mapping[str, Any]) -> bool:
    """Whether there is a baseline, or might be: work that failed for good has none, and saved nothing."""
    return bool(body["outcome"] != "Failed")


def _total(t: Mapping[str, Any]) -> list[str]:
    """One group's sums; a sum that lacks some of its jobs says how many."""

    def summed(name: str, without: str) -> str:
        missing = t[without]
        if missing == t["jobs"]:
            return "unknown"
        return text.grams(t[name]) + (f" (of {_count(t['jobs'] - missing, 'job')})" if missing else "")

    compared = _compared(t)
    state = f"{t['provisional']} provisional" if t["provisional"] else "settled"
    return [
        f"total of {_count(t['jobs'], 'job')}", "", t["outcome"], "", "", f"{t['energyJoules'] / 3.6e6:.3g} kWh",
        summed("emissionsGrams", "jobsWithoutEmissions"),
        summed("runNowGrams", "jobsWithoutBaseline") if compared else "",
        summed("savedGrams", "jobsWithoutBaseline") if compared else "nothing",
        "", "", "", "", "", t["kind"] or "none", t["mark"].upper(), state, "",
    ]  # fmt: skip
