"""`windward plan -o json`: quick to load, and every gram follows from the series that it exports."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from acceptance.shell import ROOT, WINDWARD, environment, windward

HEAVY = {"torch", "kopf", "kubernetes", "kubernetes_asyncio", "triton", "scipy", "highspy", "transformers", "pyarrow"}
TIMES = ["2022-05-11T15:00:00Z", "2022-01-20T03:30:00Z", "2022-10-29T20:17:00Z", "2026-11-21T09:41:00Z"]


def grams(forecast: dict, start: str | datetime, end: str | datetime, watts: float, pue: float) -> float:
    """Watts over the hours' intensities, period by period."""
    a, b = (datetime.fromisoformat(str(t)).timestamp() for t in (start, end))
    edges, values = forecast["edgesEpochSeconds"], forecast["intensityGramsPerKwh"]
    assert edges[0] <= a < b <= edges[-1] and len(edges) == len(values) + 1
    total = 0.0
    for (left, right), value in zip(pairwise(edges), values, strict=True):
        seconds = max(0.0, min(right, b) - max(left, a))
        total += seconds / 3600 * watts / 1000 * value * pue
    return total


@pytest.fixture(scope="module", params=TIMES)
def document(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("plan")
    done = windward("plan", "-f", "examples/train.yaml", "-o", "json", "--at", request.param, home=home)
    assert done.returncode == 0, done.stderr
    assert not list(home.rglob("*")), "a look writes nothing"
    return json.loads(done.stdout)


@pytest.fixture
def weigh(document):
    """Grams of a window in a region, by the exported series."""
    places = {r["name"]: r for r in document["regions"]}
    series = {f["zone"]: f for f in document["forecasts"]}
    (item,) = document["items"]

    def weighed(region, start, end):
        place = places[region]
        return grams(series[place["zone"]], start, end, item["powerWatts"], place["pue"])

    return weighed


def test_grams_of_the_plan(document, weigh):
    (item,) = document["items"]
    mine = [weigh(w["region"], w["start"], w["end"]) for w in item["windows"]]
    assert [w["emissionsGrams"] for w in item["windows"]] == pytest.approx(mine, rel=1e-6)
    assert item["emissionsGrams"] == pytest.approx(sum(mine), rel=1e-6)


def test_grams_of_running_at_once_at_home(document, weigh):
    (item,) = document["items"]
    start = datetime.fromisoformat(document["madeAt"])
    mine = weigh(item["home"], start, start + timedelta(seconds=item["durationSeconds"]))
    assert item["runNowGrams"] == pytest.approx(mine, rel=1e-6)
    assert item["savedGrams"] == pytest.approx(mine - item["emissionsGrams"], rel=1e-6)


def test_grams_of_what_else_was_weighed(document, weigh):
    (item,) = document["items"]
    weighed = [a for a in item["alternatives"] if not a["excludedBy"]]
    assert weighed
    for other in weighed:
        mine = sum(weigh(other["region"], w["start"], w["end"]) for w in other["windows"])
        assert other["emissionsGrams"] == pytest.approx(mine, rel=1e-6)


def test_the_windows_hold_the_work_and_its_resumes(document):
    (item,) = document["items"]
    spans = [(datetime.fromisoformat(w["start"]), datetime.fromisoformat(w["end"])) for w in item["windows"]]
    overhead_s = 180.0 * (len(spans) - 1)  # examples/train.yaml: each resume costs 3m
    worked_s = sum((b - a).total_seconds() for a, b in spans)
    assert worked_s >= item["durationSeconds"] + overhead_s - 1
    assert all(b <= a for (_, b), (a, _) in pairwise(spans))
    assert spans[0][0] >= datetime.fromisoformat(document["madeAt"])
    assert spans[-1][1] <= datetime.fromisoformat(item["finishBy"])
    assert spans[0][0] <= datetime.fromisoformat(item["latestStart"])


def test_nothing_heavy_is_imported(tmp_path):
    command = [sys.executable, "-X", "importtime", WINDWARD, "plan", "-f", "examples/train.yaml", "-o", "json"]
    env = environment(tmp_path, **{k: os.environ[k] for k in ("PATH",)})
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    loaded = {name.split(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)}
    assert {"numpy", "windward"} <= loaded, "the listing of imports was not understood"
    assert not loaded & HEAVY
