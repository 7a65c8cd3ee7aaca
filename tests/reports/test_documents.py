"""Reports need neither a terminal nor the CLI: rows in, tables, CSV and HTML out."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cli.test_report import BODIES

from windward.ledger import MemoryLedger
from windward.reports import receipt_tables
from windward.reports.receipt_card import card_lines
from windward.simulation.study_page import page


@dataclass(frozen=True)
class Result:
    """A study of one policy, without the simulation."""

    title: str = "a <b> study"
    start: datetime = datetime(2022, 5, 1, tzinfo=UTC)
    end: datetime = datetime(2022, 5, 8, tzinfo=UTC)
    foresight: str = "perfect"
    faults: dict = field(default_factory=dict)
    source: str = "trace:2022"
    demo: bool = False
    bound_g: float = 50.0
    outcomes: tuple = ()


def outcome(policy: str, saved_g: float) -> SimpleNamespace:
    job = SimpleNamespace(submitted=Result.start, run_now_g=100.0, saved_g=saved_g, weighed=True)
    return SimpleNamespace(
        policy=policy, what="<i>", emissions_g=100.0 - saved_g, run_now_g=100.0, saved_share=saved_g / 100, jobs=(job,),
        wait_mean_h=0.0, wait_p95_h=0.0, missed=0, failed=0, unfinished=0, runs_per_job=1.0, moves=0.0,
        share_of_bound=lambda bound_g: 100 * saved_g / (100.0 - bound_g),
    )  # fmt: skip


@pytest.fixture
def receipts():
    ledger = MemoryLedger()
    for b in BODIES:
        job, at = b["job"], datetime.fromisoformat(b["finishedAt"])
        ledger.record_receipt(job["uid"], job["namespace"], job["name"], at, b, settled=b["settled"], demo="demo" in b)
    return ledger.receipts(include_demo=True)


def test_reports_are_imported_without_cli_service_or_simulation():
    code = """
        import importlib, pkgutil, sys
        import windward.reports as reports
        for module in pkgutil.iter_modules(reports.__path__):
            importlib.import_module(f"windward.reports.{module.name}")
        above = {"cli", "service", "simulation", "grid", "ledger", "cluster"}
        assert not above & {name.split(".")[1] for name in sys.modules if name.startswith("windward.")}
        assert not {"typer", "rich", "httpx", "sqlalchemy"} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_row_of_a_table_has_the_columns_of_its_head(receipts):
    head, *rows = receipt_tables.report_rows(receipts)
    assert len(rows) > len(receipts) == len(BODIES) and {len(row) for row in rows} == {len(head)}
    head, *rows = receipt_tables.interval_rows(receipts[0])
    assert len(rows) == len(receipts[0].body["intervals"]) and {len(row) for row in rows} == {len(head)}


def test_csv_holds_each_field_and_no_formula(receipts):
    hostile = [replace(r, name="=cmd()") for r in receipts]
    rows = list(csv.DictReader(io.StringIO(receipt_tables.report_csv(hostile), newline="")))
    assert [set(row) for row in rows] == [set(receipt_tables.FIELDS)] * len(receipts)
    assert {row["name"] for row in rows} == {"'=cmd()"}
    assert receipt_tables.csv_text([], []) == "\r\n"


def test_a_card_and_a_document_carry_the_mark_and_the_hash(receipts):
    for r in receipts:
        mark = receipt_tables.receipt_document(r)["mark"]
        assert mark.upper() in card_lines(r.body, r.sha256)[0]
        assert any(r.sha256[:16] in line for line in card_lines(r.body, r.sha256))


def test_a_card_names_the_command_that_shows_all_of_it_only_where_that_would_find_it(receipts):
    (r, *_) = receipts
    assert "windward report --name" in "\n".join(card_lines(r.body, r.sha256))
    assert "windward report" not in "\n".join(card_lines(r.body, r.sha256, kept=False))


def test_a_page_needs_no_simulation_and_escapes_what_it_is_given():
    html = page(Result(outcomes=(outcome("run-now", 0.0), outcome("<windward>", 25.0))))
    assert "a &lt;b&gt; study" in html and "&lt;windward&gt;" in html and "<windward>" not in html
    assert "<td>25.0 %</td><td>50.0 %</td>" in html and "possible: 50.0 %" in html
