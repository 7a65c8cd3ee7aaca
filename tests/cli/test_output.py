"""Data on stdout, the rest on stderr; JSON that says what it is; colour only where it is wanted; help at once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from windward.cli.app import app
from windward.reports import figures

AT = ("--at", "2022-05-11T15:00:00Z")
ESCAPE = "\x1b["
COMMANDS = sorted(typer.main.get_command(app).commands)
JSON = [
    (["plan", "-f", "examples/train.yaml", *AT], "PlanList"),
    (["forecast", "GB", "DE", *AT], "ForecastList"),
    (["list"], "JobList"),
    (["report"], "Report"),
    (["doctor"], "Doctor"),
]


@pytest.mark.parametrize(("arguments", "kind"), JSON, ids=[j[1] for j in JSON])
def test_json_is_one_document_that_says_what_it_is(windward, arguments, kind):
    told = windward(*arguments, "-o", "json")
    document = told.json()
    assert told.code == 0
    assert (document["apiVersion"], document["kind"]) == ("cli.windward.dev/v1", kind)
    assert isinstance(document["items"], list)


def test_forecast_exports_the_series(windward):
    (item,) = windward("forecast", "GB", *AT, "-o", "json").json()["items"]
    assert len(item["edgesEpochSeconds"]) == len(item["intensityGramsPerKwh"]) + 1 == len(item["quality"]) + 1
    assert (item["zone"], item["unit"], item["demo"]) == ("GB", "gCO2e/kWh", True)
    assert item["signal"] and item["scope"] and item["issuedAt"].endswith("Z") and item["vintage"]


def test_a_demonstration_is_marked_wherever_it_shows(windward):
    assert windward("forecast", "GB", *AT).out.startswith("DEMO Forecast")
    assert "DEMO TRACE" in windward("plan", "-f", "examples/train.yaml", *AT).out


def test_doctor_has_a_fix_beside_each_fault(windward, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    told = windward("doctor", "-o", "json")
    by_name = {i["check"]: i for i in told.json()["items"]}
    assert {"python", "state", "carbon trace", "cluster", "meter rapl", "extra worker"} <= set(by_name)
    assert by_name["python"]["ok"] is True
    assert by_name["cluster"]["ok"] is False and told.code == 1
    assert all(i["fix"] for i in by_name.values() if i["ok"] is False)


SHADES = [
    ({}, False),
    ({"FORCE_COLOR": "1"}, True),
    ({"NO_COLOR": "1"}, False),
    ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ({"NO_COLOR": "", "FORCE_COLOR": "1"}, True),
    ({"TERM": "dumb"}, False),
]


CROWD = """
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: north}
spec: {gridZone: DE, capacity: [{resource: nvidia.com/gpu, count: 2}]}
""" + "".join(
    f"""---
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {{name: {name}}}
spec:
  completeWithin: 24h
  duration: 4h
  placement: {{regions: [north]}}
  power: {{watts: 700}}
  template: {{spec: {{containers: [{{name: main, image: x, resources: {{requests: {{nvidia.com/gpu: "2"}}}}}}]}}}}
"""
    for name in ("one", "two", "three")
)


def test_a_plan_of_competing_jobs_shows_its_proof_and_what_room_costs(windward, tmp_path):
    file = tmp_path / "crowd.yaml"
    file.write_text(CROWD)
    last = windward("plan", "-f", str(file), *AT).out.strip().splitlines()[-1]
    found = re.search(r"3 jobs share the room: (\d+) g planned, no plan of these jobs has less than (\d+) g", last)
    assert last.startswith("PROOF") and int(found[1]) >= int(found[2]) > 0.9 * int(found[1])
    told = json.loads(windward("plan", "-f", str(file), *AT, "-o", "json").out)
    assert told["certificate"]["planGrams"] >= told["certificate"]["boundGrams"] * (1 - 1e-9)
    assert max(job["roomGrams"] for job in told["items"]) > 0
    assert "PROOF" not in windward("plan", "-f", "examples/train.yaml", *AT).out, "one job alone is at its best"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (124.06, "~124 g"),
        (8.631, "~8.63 g"),
        (-0.00012, "~-0.00012 g"),
        (15_000.0, "~15 kg"),
        (0.1 + 0.2 - 0.3, "~0 g"),  # what is left of a difference of equal sums
        (None, "unknown"),
    ],
)
def test_grams_are_told_in_three_digits(value, shown):
    assert figures.grams(value, "~") == shown


@pytest.mark.parametrize(("wishes", "coloured"), SHADES, ids=[str(s[0]) for s in SHADES])
@pytest.mark.parametrize("command", [["forecast", "GB"], ["plan", "-f", "examples/train.yaml"]], ids=lambda c: c[0])
def test_colour_only_where_it_is_wanted(windward, monkeypatch, command, wishes, coloured):
    for name, value in wishes.items():
        monkeypatch.setenv(name, value)
    told = windward(*command, *AT)
    assert (ESCAPE in told.out) is coloured
    assert ESCAPE not in told.err
    monkeypatch.setenv("NO_COLOR", "1")
    assert windward(*command, *AT).out == re.sub(r"\x1b\[[0-9;]*m", "", told.out), "colour adds nothing but colour"


def test_a_dumb_terminal_gets_plain_characters(windward, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert windward("forecast", "GB", *AT).out.isascii()
    monkeypatch.delenv("TERM")
    assert not windward("forecast", "GB", *AT).out.isascii()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(windward, command):
    for flag in ("--help", "-h"):
        told = windward(command, flag)
        assert told.code == 0 and told.err == ""
        assert re.match(rf"Usage: .*windward {command} ", told.out)


def test_help_loads_nothing_heavy(home):
    """One fresh interpreter asks for the help of every command."""
    code = f"""
import sys
from windward.cli.app import app
for arguments in ([], *([c] for c in {COMMANDS!r})):
    try:
        app([*arguments, "--help"])
    except SystemExit as e:
        assert e.code == 0, arguments
heavy = {{"numpy", "torch", "kubernetes", "kopf", "sqlalchemy", "httpx", "yaml", "rich", "windward_api"}}
sys.exit(" ".join(sorted(heavy & {{m.split(".")[0] for m in sys.modules}})) or 0)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr[-500:]


def test_crd_prints_what_is_committed(windward):
    printed = list(yaml.safe_load_all(windward("crd").out))
    committed = [yaml.safe_load(p.read_text()) for p in sorted(Path("crds").glob("*.yaml"))]
    assert sorted(printed, key=lambda c: c["metadata"]["name"]) == committed


def test_version(windward):
    from windward import __version__

    assert windward("version").out == f"windward {__version__}\n"
