"""What reaches a terminal: within its width, in its letters, without commands of strangers; a zero without a minus."""
# ruff: noqa: E501  (tables are read row by row)

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from cli.waiting import RUN

from windward.cli import text
from windward.cli.receipt import card
from windward.cluster.store import Store
from windward.reports import figures
from windward.reports.shown import csv_cell, shown

AT = ("--at", "2022-05-11T15:00:00Z")
REHEARSE = ("--start", "2022-05-11T15:00:00Z", "--speed", "3600")
DIRTY = ("--zone", "DE", "--start", "2022-05-11T20:00:00Z", "--deadline", "18h")  # an evening: waiting saves
RUN_GB = ("run", "--zone", "GB", "--duration", "1h", "--deadline", "12h", *REHEARSE)
STUDY = (
    "simulate",
    "--jobs",
    "5",
    "--days",
    "1",
    "--zones",
    "DE",
    "--foresight",
    "perfect",
    "--policy",
    "run-now,windward",
)
COMMANDS = [
    ("plan", "-f", "examples/train.yaml", *AT),
    ("plan", "-f", "examples/levels.yaml", *AT),
    ("plan", "-f", "examples/nightly.yaml", *AT),
    ("forecast", *AT),
    ("forecast", "GB", "--horizon", "5d", *AT),
    ("list",),
    ("why", "done"),
    ("report", "--include-demo"),
    ("report", "--name", "done"),
    ("zones", "search", "aws"),
    ("providers", "list"),
    ("doctor",),
    STUDY,
]


@pytest.fixture
def done(windward):
    assert windward(*RUN_GB, "--name", "done", "--", "true").code == 0


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 200])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[:2]))
def test_everything_fits_the_width(windward, monkeypatch, done, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    told = windward(*command)
    assert told.code in (0, 1), told.err
    widest = max(told.out.splitlines(), key=text.cells)
    assert text.cells(widest) <= columns, widest
    monkeypatch.delenv("COLUMNS")
    whole = "".join(windward(*command).out.split()) if command[0] in ("zones", "providers") else ""
    assert len("".join(told.out.split())) >= len(whole), "wrapped, not cut"


def test_without_a_width_nothing_is_wrapped(windward, done):
    """What goes to a file or another program is one row a line."""
    assert len(windward("zones", "search", "aws", "frankfurt").out.splitlines()) == 3
    assert len(windward("list").out.splitlines()) == 2


WIDE = [("é" * 30, 30), ("日本" * 10, 40), ("\x1b[38;5;24m▁\x1b[0m", 1), ("plain", 5)]


@pytest.mark.parametrize(("words", "cells"), WIDE, ids=["accents", "wide", "coloured", "plain"])
def test_a_cell_is_what_a_terminal_counts(words, cells):
    assert text.cells(words) == cells


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(
    "command", [*COMMANDS[:4], ("zones", "search"), ("demo", "--help"), (*RUN_GB, "--", "sh", "-c", "echo grün; echo €")],
    ids=lambda c: " ".join(c[:2]),
)  # fmt: skip
def test_an_ascii_terminal_gets_ascii(home, command):
    env = {**os.environ, **ASCII, "WINDWARD_HOME": str(home)}
    run = [sys.executable, "-P", "-c", RUN, *command]
    done = subprocess.run(run, env=env, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and done.stderr.isascii()
    assert b"Traceback" not in done.stderr


CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
HOSTILE = [CLIPBOARD, "\x1b[2J\x1b[8m", "\x9b31m", "a\rb", "a\nerror: b", "\u202egnp.exe", "\x00", "\x7f", "\ud800"]


@pytest.mark.parametrize("words", HOSTILE, ids=ascii)
def test_no_stranger_commands_a_terminal(words):
    told = shown(f"x {words} y")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e\ud800]", told) and "\\" in told
    assert text.table([["A", "B"], [words, "z"]]).count("\n") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text.lines([words]))


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", '=HYPERLINK("http://x","y")']


@pytest.mark.parametrize("words", FORMULAS, ids=ascii)
def test_no_cell_is_a_formula(words):
    assert str(csv_cell(words)).startswith("'")


def test_numbers_stay_numbers():
    assert [csv_cell(v) for v in (-1.5, 0, None, True, "2022-05-11", "trace:2022")] == [
        -1.5, 0, None, True, "2022-05-11", "trace:2022",
    ]  # fmt: skip


def test_a_receipt_of_hostile_words_is_harmless(windward, done, home):
    """Units, metrics, sources and messages come from containers and recordings."""
    receipt = windward("report", "--name", "done", "-o", "json").json()
    body = json.loads(json.dumps(receipt))
    body["work"] |= {"unitsDone": 3, "unit": CLIPBOARD, "joulesPerUnit": 2.0, "metrics": {CLIPBOARD: 1.0}}
    for interval in body["intervals"]:
        interval["source"] = interval["component"] = CLIPBOARD
    for source in body["intensity"]:
        source["attribution"] = f"{CLIPBOARD}\nerror: forged"
    told = card(body, "0" * 64)
    assert "\x1b" not in told and "\x07" not in told and "\nerror:" not in told


def test_status_words_of_strangers_are_harmless_everywhere(windward, done, home):
    store = Store(home / "local.db")
    body = store.get("GreenJob", "default", "done")
    status = body["status"]
    status["summary"] |= {"reason": CLIPBOARD, "region": CLIPBOARD, "energy": CLIPBOARD}
    status["plan"] |= {"explanation": f"{CLIPBOARD}\nerror: forged"}
    for condition in status["conditions"]:
        condition["message"] = f"{CLIPBOARD}\nerror: forged"
    store.update("GreenJob", "default", "done", status=status)
    store.add_event(body["metadata"]["uid"], datetime.now(UTC), "Odd", f"{CLIPBOARD}\nerror: forged", True)
    for command in (("list",), ("why", "done")):
        told = windward(*command)
        assert told.code == 0 and "\x1b" not in told.out + told.err and "\nerror:" not in told.out
        assert "\\x1b]52" in told.out, "shown, not swallowed"


def test_output_of_a_strangers_command_is_harmless_and_ones_own_is_as_it_is(windward, tmp_path):
    script = "printf '\\033]52;c;eA==\\007\\n'"
    job = {
        "apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": {"name": "odd"},
        "spec": {"completeWithin": "2h", "duration": "1m", "placement": {"regions": ["here"]},
                 "template": {"spec": {"containers": [{"name": "m", "image": "x", "command": ["sh", "-c", script]}]}}},
    }  # fmt: skip
    region = {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {"name": "here"},
        "spec": {"gridZone": "GB"},
    }
    file = tmp_path / "odd.yaml"
    file.write_text(json.dumps(job) + "\n---\n" + json.dumps(region))
    told = windward("run", "--yes", "-f", str(file))
    assert told.code == 0 and "\x1b" not in told.err and "\\x1b]52;c;eA==\\x07" in told.err
    assert "\x1b]52;c;eA==\x07" in windward("run", "--", "sh", "-c", script).err


def test_csv_of_a_hostile_book(windward, done, home, monkeypatch):
    import windward.reports.receipt_tables as module

    real = module.flat
    monkeypatch.setattr(module, "flat", lambda r: {**real(r), "name": "=cmd|' /C calc'!A0", "method": CLIPBOARD})
    (row,) = csv.DictReader(io.StringIO(windward("report", "--include-demo", "-o", "csv").out))
    assert row["name"] == "'=cmd|' /C calc'!A0" and "\x1b" not in row["method"] and float(row["energyJoules"]) >= 0


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)


def test_a_page_escapes_what_files_are_called(windward, tmp_path):
    fleet = tmp_path / "<script>alert(1)<img src=x>.csv"
    fleet.write_text("submit_s,duration_s,gpus\n" + "".join(f"{i * 600},3600,1\n" for i in range(20)))
    page = tmp_path / "page.html"
    told = windward(*STUDY, "--fleet", str(fleet), "--page", str(page))
    assert told.code == 0, told.err
    tags = Tags()
    tags.feed(page.read_text())
    assert not {"script", "img"} & tags.seen and "&lt;script&gt;" in page.read_text()


ZEROS = [
    (figures.grams, (-0.0,), "0 g"), (figures.grams, (-1e-12,), "0 g"), (figures.grams, (None,), "unknown"),
    (figures.percent, (-0.001,), "0 %"), (figures.percent, (0.004,), "0 %"), (figures.percent, (-0.1,), "-10 %"),
    (figures.percent, (-0.096,), "-10 %"), (figures.percent, (-1.0,), "-100 %"), (figures.percent, (None,), ""),
    (figures.saved, (-1e-12, 10.0), "0 g (0 %)"), (figures.saved, (-0.02, 10.0), "-0.02 g (0 %)"),
    (figures.saved, (5.0, 10.0), "5 g (50 %)"), (figures.saved, (-5.0, 10.0), "-5 g (-50 %)"), (figures.saved, (None, 10.0), "unknown"),
    (figures.saved_percent, (-0.001,), "0 %"), (figures.signed_grams, (-0.4,), "0 g"), (figures.signed_grams, (7.0,), "+7 g"),
]  # fmt: skip


@pytest.mark.parametrize(("say", "values", "said"), ZEROS, ids=[f"{z[0].__name__}{z[1]}" for z in ZEROS])
def test_a_zero_has_no_minus(say, values, said):
    assert say(*values) == said


def test_list_and_report_agree_on_the_sign(windward):
    """What is saved is positive everywhere, whatever the command."""
    assert windward(*RUN_GB, *DIRTY, "--name", "clean", "--", "sleep", "1").code == 0
    (row,) = (line for line in windward("list").out.splitlines() if " clean " in line)
    listed = int(re.search(r"~(-?\d+) %", row)[1])
    (carbon,) = (x for x in windward("report", "--name", "clean").out.splitlines() if x.startswith("carbon"))
    (table,) = (x for x in windward("report", "--include-demo").out.splitlines() if "/clean " in x)
    told = [int(re.search(r"\((-?\d+) %\)", line)[1]) for line in (carbon, table)]
    assert listed > 0 and all(abs(listed - t) <= 1 for t in told)
    assert "-24 %" not in figures.saved(24.0, 100.0)


def test_a_finish_by_in_another_year_names_it(windward, tmp_path):
    now = datetime(2022, 12, 31, 20, tzinfo=UTC)
    assert figures.day_time(now, now) == "Sat 31 Dec 20:00Z"
    assert figures.day_time(now + timedelta(hours=10), now) == "Sun 01 Jan 2023 06:00Z"
    told = windward("plan", "-f", "examples/train.yaml", "--at", "2022-12-31T20:00:00Z")
    assert "finish by Sun 01 Jan 2023 14:00Z" in told.out
