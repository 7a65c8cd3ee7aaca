"""`windward report`: accounts from the ledger, printed or written to a file."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from windward import __version__
from windward.cli import text
from windward.cli.errors import CliError, Exit, on_path, usage_error
from windward.cli.options import ReportOutput
from windward.cli.output_file import check_output_file
from windward.cli.receipt import card
from windward.cli.settle import settle_in_passing
from windward.ledger.opening import open_ledger
from windward.ledger.port import Ledger, LedgerError, Receipt
from windward.reports.export import export_of
from windward.reports.receipt_tables import (
    FIGURES,
    INTERVAL_FIGURES,
    count,
    interval_csv,
    interval_rows,
    receipt_document,
    report_csv,
    report_document,
    report_rows,
)
from windward.service.local import state_home


def report(output: str, demo: bool, database: str, name: str, export: str = "") -> None:
    """Print what the ledger says of ended jobs, or write its export."""
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
            _many(receipts, output)
        if not name:
            _hidden(len(ledger.receipts(include_demo=True)) - len(receipts), bool(receipts))
    finally:
        ledger.close()


def _check_export(export: str, output: str) -> None:
    """Refuse what cannot be, before anything is read."""
    if output != ReportOutput.TABLE:
        fix = f"leave -o {output} out: an export is always JSON"
        raise usage_error("--export and --output contradict each other", fix=fix)
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
    sys.stderr.write(f"export: {export}, {count(len(receipts), 'receipt')}; to check it: windward-verify {export}\n")


def _hidden(hidden: int, shown: bool) -> None:
    """What is not in this report, and why."""
    if not shown:
        sys.stderr.write("no ended job in the ledger yet; windward run -- CMD makes one\n")
    if hidden > 0:
        sys.stderr.write(f"{count(hidden, 'demonstration')} left out; --include-demo shows them, marked\n")


def _open(database: str, name: str) -> Ledger:
    database = database or os.environ.get("WINDWARD_DATABASE_URL", "")  # in the operator's own pod, its ledger
    path = state_home() / "book.db"
    exists = path.exists()
    if not database and not exists and name:
        fix = "windward run -- CMD makes one"
        raise CliError("there is no ledger on this machine yet", fix=fix, code=Exit.NOT_FOUND)
    if database.startswith("sqlite:///"):
        _check_file(Path(database.removeprefix("sqlite:///")))
    try:
        return open_ledger(database or (f"sqlite:///{path}" if exists else "sqlite://"))  # an empty one where none is
    except (LedgerError, ValueError, ImportError) as e:
        fix = "check the address, as in --database sqlite:////path/book.db"
        raise CliError(
            "the ledger cannot be opened", cause=_without_password(str(e)), fix=fix, code=Exit.UNREACHABLE
        ) from e


def _check_file(path: Path) -> None:
    """Refuse a file that is not a ledger: a report reads one, and creates none."""
    try:
        with path.open("rb") as file:
            good = file.read(16) == b"SQLite format 3\0"
    except OSError as e:
        problem = f"the ledger {path} cannot be opened"
        raise on_path(
            problem, e, fix="check the path, as in --database sqlite:////path/book.db", code=Exit.UNREACHABLE
        ) from e
    if not good:
        fix = "name the book.db of a state folder, as in --database sqlite:////path/book.db"
        raise CliError(f"the ledger {path} cannot be opened", cause="it is no ledger", fix=fix, code=Exit.UNREACHABLE)


def _without_password(words: str) -> str:
    """Returns a driver's message without the password of an address in it."""
    return re.sub(r"(//[^:/@\s]*:)[^@\s]*@", r"\1***@", words)


def _newest(receipts: Sequence[Receipt], name: str) -> Receipt:
    matching = [r for r in receipts if name in (r.name, f"{r.namespace}/{r.name}", r.uid)]
    if not matching:
        raise CliError(f"the ledger has no receipt of {name}", fix="windward report lists them", code=Exit.NOT_FOUND)
    return matching[-1]


def _one(newest: Receipt, output: str) -> None:
    """Print one receipt with its intervals."""
    if output == ReportOutput.JSON:
        print(json.dumps(receipt_document(newest), indent=2))
    elif output == ReportOutput.CSV:
        sys.stdout.write(interval_csv(newest))
    else:
        print(card(newest.body, newest.sha256))
        intervals = text.table(interval_rows(newest), right=INTERVAL_FIGURES)
        print(f"\n{text.lines([newest.body['formula']])}\n{intervals}")


def _many(receipts: Sequence[Receipt], output: str) -> None:
    """Print a line for each receipt, and totals where they are not CSV."""
    if output == ReportOutput.JSON:
        print(json.dumps(report_document(receipts), indent=2))
    elif output == ReportOutput.CSV:
        sys.stdout.write(report_csv(receipts))
    elif receipts:
        print(text.table(report_rows(receipts), right=FIGURES))
