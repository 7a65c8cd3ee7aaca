"""Receipts as tables, CSV and JSON: a row for each job and each group's totals, or each interval of a job."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from windward.reports import figures
from windward.reports.export import Entry, kind_of, mark_of, totals
from windward.reports.receipt_card import LEVERS, late
from windward.reports.shown import csv_cell

FIELDS = (
    "namespace", "name", "finishedAt", "outcome", "lateSeconds", "failedRuns", "energyJoules", "emissionsGrams",
    "runNowGrams", "savedGrams", *LEVERS, "method", "kind", "mark", "settled", "demo", "revision", "sha256",
)  # fmt: skip
HEAD = [
    "JOB", "FINISHED", "OUTCOME", "LATE", "FAILED RUNS", "ENERGY", "CO2e", "RUN NOW", "SAVED",
    "HOURS", "PLACE", "POWER", "OVERHEAD", "METHOD", "DATA", "MARK", "STATE", "RECORD",
]  # fmt: skip
INTERVAL_HEAD = [
    "RUN", "START", "END", "PART", "JOULES", "METHOD", "ZONE", "PUE", "G/KWH", "QUALITY", "GRAMS", "MARK",
]  # fmt: skip
# The columns of figures in the two tables, which stand to the right.
FIGURES = (3, 4, 5, 6, 7, 9, 10, 11, 12)
INTERVAL_FIGURES = (4, 7, 8, 10)


class NamedEntry(Entry, Protocol):
    """A receipt of the ledger, with its job."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def demo(self) -> bool: ...


def count(n: int, what: str) -> str:
    """Returns `1 job`, `2 jobs`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def report_document(receipts: Sequence[NamedEntry]) -> dict[str, Any]:
    """Returns all receipts, without their intervals, and the totals of each group, as JSON."""
    items = [flat(r) for r in receipts]
    sums = totals(r.body for r in receipts)
    return {"apiVersion": "cli.windward.dev/v1", "kind": "Report", "items": items, "totals": sums}


def report_csv(receipts: Sequence[NamedEntry]) -> str:
    """Returns one line a job, with `FIELDS` as columns."""
    return csv_text(FIELDS, [flat(r) for r in receipts])


def report_rows(receipts: Sequence[NamedEntry]) -> list[list[str]]:
    """Returns `HEAD`, a row for each job, and a total for each group of those that count the same thing."""
    return [HEAD, *(_row(r) for r in receipts), *(_total(t) for t in totals(r.body for r in receipts))]


def receipt_document(receipt: Entry) -> dict[str, Any]:
    """Returns one receipt whole, as JSON."""
    mark = mark_of(receipt.body)
    return {**receipt.body, "mark": mark, "sha256": receipt.sha256, "revision": receipt.revision}


def interval_csv(receipt: Entry) -> str:
    """Returns one line an interval; a line without columns where there is none."""
    rows, mark = receipt.body["intervals"], mark_of(receipt.body)
    return csv_text([*rows[0], "mark"] if rows else [], [{**row, "mark": mark} for row in rows])


def interval_rows(receipt: Entry) -> list[list[str]]:
    """Returns `INTERVAL_HEAD` and a row for each interval."""
    mark = mark_of(receipt.body)
    rows = [
        [
            str(i["attempt"]), i["start"][:16], i["end"][11:16], i["component"], f"{i['joules']:.6g}", i["method"],
            i["zone"], f"{i['pue']:.3g}", _plain(i["intensityGramsPerKwh"]), i["quality"] or "",
            _plain(i["emissionsGrams"]), mark,
        ]
        for i in receipt.body["intervals"]
    ]  # fmt: skip
    return [INTERVAL_HEAD, *rows]


def flat(r: NamedEntry) -> dict[str, Any]:
    """Returns `FIELDS` of one receipt; None where it has no such field."""
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
    return {k: body.get(k) for k in FIELDS}


def csv_text(fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns CSV whose cells no spreadsheet takes for a formula."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, fields)
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)
    return out.getvalue()


def _plain(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _row(r: NamedEntry) -> list[str]:
    b = r.body
    mark = "" if b["method"] == "measured" else "~"
    levers = b["levers"] or {}
    return [
        f"{r.namespace}/{r.name}", b["finishedAt"][:16] + "Z", b["outcome"], late(b["lateSeconds"]),
        str(b["failedRuns"]), f"{b['energyJoules'] / 3.6e6:.3g} kWh",
        figures.grams(b["emissionsGrams"], mark), figures.grams(b["runNowGrams"], mark) if _compared(b) else "",
        figures.saved(b["savedGrams"], b["runNowGrams"], mark) if _compared(b) else "nothing",
        *(figures.grams(levers[k], mark) if k in levers else "" for k in LEVERS),
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
        return figures.grams(t[name]) + (f" (of {count(t['jobs'] - missing, 'job')})" if missing else "")

    compared = _compared(t)
    state = f"{t['provisional']} provisional" if t["provisional"] else "settled"
    return [
        f"total of {count(t['jobs'], 'job')}", "", t["outcome"], "", "", f"{t['energyJoules'] / 3.6e6:.3g} kWh",
        summed("emissionsGrams", "jobsWithoutEmissions"),
        summed("runNowGrams", "jobsWithoutBaseline") if compared else "",
        summed("savedGrams", "jobsWithoutBaseline") if compared else "nothing",
        "", "", "", "", "", t["kind"] or "none", t["mark"].upper(), state, "",
    ]  # fmt: skip
