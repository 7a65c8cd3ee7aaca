"""`windward report` adds up only what counts the same thing; every format carries the mark; a stranger can check."""

import csv
import io
import json
from dataclasses import replace
from datetime import timedelta

import pytest
import receipts
from lifecycle.cases import HOUR, T0, observed, run
from lifecycle.test_accounting import REGIONS, series

from windward.domain.run import Phase
from windward.domain.series import Basis, Kind, Quality, Scope, Signal
from windward.ledger import open_ledger
from windward.lifecycle.accounting import account, energy_of_run
from windward.lifecycle.receipt import receipt_of
from windward.tools.verify import main as verify_main

MARGINAL = Kind(Signal.MARGINAL, Scope.DIRECT, Basis.PRODUCTION)
SUCCEEDED, FAILED = Phase.SUCCEEDED, Phase.FAILED


def body(name, runs=None, kind=None, quality=Quality.MEASURED, demo=False, changed=lambda r: r):
    """A receipt of real arithmetic: one run of two hours in the north unless given."""
    runs = [changed(r) for r in runs or [run(1, SUCCEEDED, start_h=1, end_h=3)]]
    failed = all(r.phase is FAILED for r in runs)
    seen = observed(*runs, metadata={"name": name, "uid": name}, backoffLimit=len(runs) - failed)
    grid = {z: series(z, v, quality, demo=demo) for z, v in (("SE", [20] * 30), ("DE", [400] * 30))}
    if kind is not None:
        grid = {z: replace(s, kind=kind) for z, s in grid.items()}
    rows = [r for one in runs for r in energy_of_run(seen, one, REGIONS[one.region], T0 + 30 * HOUR)]
    return receipt_of(seen, account(seen, rows, grid, REGIONS), grid, REGIONS, runs[-1].finished_at)


REAL = T0 - timedelta(days=900)
BODIES = (
    body("real"),
    body("second"),
    body("marginal", kind=MARGINAL),
    body("warped", changed=lambda r: replace(r, time_scale=600.0, started_real=REAL)),
    body("rehearsed", changed=lambda r: replace(r, started_real=REAL)),
    body("shown", demo=True),
    body("broken", [run(1, FAILED, start_h=1, end_h=2), run(2, FAILED, start_h=12, end_h=14)]),
    body("open", quality=Quality.FORECAST, runs=[run(1, FAILED, end_h=1), run(2, SUCCEEDED, start_h=12, end_h=14)]),
)


@pytest.fixture
def book(home):
    """A book with one receipt of each kind."""
    home.mkdir()
    ledger = open_ledger(f"sqlite:///{home}/book.db")
    for i, b in enumerate(BODIES):
        job = b["job"]
        at = T0 + i * HOUR
        ledger.record_receipt(job["uid"], job["namespace"], job["name"], at, b, settled=b["settled"], demo="demo" in b)
    ledger.close()
    return home / "book.db"


def test_only_what_counts_the_same_thing_is_added_up(windward, book):
    document = windward("report", "--include-demo", "-o", "json").json()
    sums = {(t["mark"], t["kind"].split()[0], t["outcome"]): t for t in document["totals"]}
    assert set(sums) == {
        ("", "average", "Succeeded"), ("", "average", "Failed"), ("", "marginal", "Succeeded"),
        ("warped clock", "average", "Succeeded"), ("rehearsal", "average", "Succeeded"),
        ("demonstration", "average", "Succeeded"),
    }  # fmt: skip
    real = sums["", "average", "Succeeded"]
    mine = [b for b in BODIES if b["job"]["name"] in ("real", "second", "open")]
    assert (real["jobs"], real["provisional"]) == (3, 1)
    for name in ("energyJoules", "emissionsGrams", "runNowGrams", "savedGrams"):
        assert real[name] == pytest.approx(sum(b[name] for b in mine))
    broken = sums["", "average", "Failed"]
    assert broken["emissionsGrams"] > 0 and (broken["savedGrams"], broken["jobsWithoutBaseline"]) == (0.0, 1)


MARKS = {"real": "", "warped": "warped clock", "rehearsed": "rehearsal", "shown": "demonstration"}


@pytest.mark.parametrize(("name", "mark"), MARKS.items())
def test_a_mark_is_in_every_format(windward, book, name, mark):
    rows = {r["name"]: r for r in csv.DictReader(io.StringIO(windward("report", "--include-demo", "-o", "csv").out))}
    items = {i["name"]: i for i in windward("report", "--include-demo", "-o", "json").json()["items"]}
    (line,) = [x for x in windward("report", "--include-demo").out.splitlines() if x.startswith(f"ml/{name} ")]
    card = windward("report", "--name", name)
    every = list(csv.DictReader(io.StringIO(windward("report", "--name", name, "-o", "csv").out)))
    assert rows[name]["mark"] == items[name]["mark"] == mark and {r["mark"] for r in every} == {mark}
    assert windward("report", "--name", name, "-o", "json").json()["mark"] == mark
    for shown in (line, card.out):
        assert [m for m in MARKS.values() if m and m.upper() in shown] == ([mark] if mark else [])
    if mark:
        table = card.out[card.out.index("RUN  START") :].splitlines()[1:]
        assert table and all(row.rstrip().endswith(mark) for row in table)


def test_outcome_lateness_failures_and_levers_are_columns(windward, book):
    rows = {r["name"]: r for r in csv.DictReader(io.StringIO(windward("report", "-o", "csv").out))}
    assert (rows["broken"]["outcome"], rows["broken"]["failedRuns"], rows["broken"]["savedGrams"]) == (
        "Failed",
        "2",
        "",
    )
    assert (rows["open"]["lateSeconds"], rows["open"]["failedRuns"], rows["open"]["settled"]) == (
        "7200.0",
        "1",
        "False",
    )
    for name in ("real", "open"):
        levers = [float(rows[name][f"{k}Grams"]) for k in ("hours", "place", "power", "overhead")]
        assert sum(levers) == pytest.approx(float(rows[name]["savedGrams"])) and levers[1] > 0
    assert float(rows["open"]["overheadGrams"]) < -7, "the hour that failed"
    table = windward("report").out
    for head in ("OUTCOME", "LATE", "FAILED RUNS", "HOURS", "PLACE", "POWER", "OVERHEAD", "MARK", "STATE"):
        assert head in table.splitlines()[0]
    (line,) = [x for x in table.splitlines() if x.startswith("ml/open ")]
    assert "2h" in line and "provisional" in line
    (line,) = [x for x in table.splitlines() if x.startswith("ml/broken ")]
    assert " nothing " in line and "%" not in line


def test_the_card_says_how_it_ended_and_where_the_saving_comes_from(windward, book):
    card = windward("report", "--name", "open").out
    assert "provisional" in card.splitlines()[0]
    assert "outcome   Succeeded, 2h late, 1 of 2 runs failed" in card
    assert "levers    hours ~0 g  place ~" in card and "overhead ~-" in card
    broken = windward("report", "--name", "broken").out
    assert "2 of 2 runs failed" in broken and "nothing saved: the work failed for good" in broken
    assert "run at once" not in broken and "%" not in broken


# -- the export ------------------------------------------------------------------------------------------------------


def test_an_export_is_what_a_stranger_computes_again(windward, book, tmp_path, capsys):
    path = tmp_path / "r.json"
    path.write_text("an older one\n")
    told = windward("report", "--include-demo", "--export", str(path))
    assert (told.code, told.out) == (0, "") and f"windward-verify {path}" in told.err
    assert verify_main([str(path)]) == 0 and f"{len(BODIES)} receipts" in capsys.readouterr().out
    export = json.loads(path.read_text())
    assert set(export) == {"apiVersion", "kind", "versions", "boundary", "totals", "receipts"}
    piped = windward("report", "--include-demo", "--export", "-")
    assert piped.json() == export and piped.err == ""
    (one,) = windward("report", "--name", "second", "--export", "-").json()["receipts"]
    assert one["body"]["job"]["name"] == "second" and one["settled"]
    forged = path.read_text().replace('"savedGrams": ', '"savedGrams": 1', 1)
    path.write_text(forged)
    assert verify_main([str(path)]) == 1


def test_demonstrations_are_in_no_export_unless_asked_for(windward, book):
    told = windward("report", "--export", "-")
    assert "shown" not in {r["body"]["job"]["name"] for r in told.json()["receipts"]}
    assert "1 demonstration left out" in told.err


REFUSED = [
    (("--export", "r.json", "-o", "csv"), "contradict"),
    (("--export", "-", "-o", "json"), "contradict"),
    (("--export", "no/such/folder/r.json"), "no folder that you may write"),
    (("--export", "."), "it is a folder"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_an_export_that_cannot_be_is_refused(windward, book, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    told = windward("report", *arguments)
    assert told.code == 2 and told.out == "" and said in told.err and "fix:" in told.err
    assert not (tmp_path / "r.json").exists()


def test_what_disagrees_is_seen_by_the_suite():
    """The hook over the whole suite (`receipts.watch`) is no hook that agrees with anything."""
    sound = json.loads(json.dumps(BODIES[0]))
    assert receipts.faults_of([receipts.entry(sound)]) == []
    sound["savedGrams"] += 0.01
    assert receipts.faults_of([receipts.entry(sound)])
