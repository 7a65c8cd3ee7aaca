"""`windward demo` with networking made impossible, twice: the same plan, a pause, receipts that compute again."""

import json
import os
import shutil
import subprocess

import pytest
import receipts
from acceptance.shell import windward

NO_SOCKETS = """
import socket

def refuse(*args, **kwargs):
    raise OSError("no network in this test")

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""


def namespace_without_network() -> tuple[str, ...] | None:
    """A command prefix that gives a process a network of its own with nothing in it; None where we may not."""
    prefix = ("unshare", "-n")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return None
    return prefix if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0 else None


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Two runs: one in an empty network where we may make one, one (or both) with sockets that refuse."""
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(NO_SOCKETS)
    out = []
    for i, prefix in enumerate((namespace_without_network(), None)):
        env = {} if prefix else {"PYTHONPATH": str(hook)}
        home = tmp_path_factory.mktemp(f"demo{i}")
        done = windward("demo", "--plain", "-o", "json", home=home, before=prefix or (), env=env)
        assert done.returncode == 0, done.stderr
        out.append(json.loads(done.stdout))
    return out


def test_the_plan_is_the_same(demos):
    first, second = (d["plan"] for d in demos)
    assert len(first["windows"]) >= 2
    assert first == second


def test_it_pauses_resumes_and_finishes(demos):
    for demo in demos:
        training, inference = (r["runs"] for r in demo["receipts"])
        assert [r["phase"] for r in training[:-1]] == ["Paused"] * (len(training) - 1)
        assert training[-1]["phase"] == inference[-1]["phase"] == "Succeeded"
        assert demo["pauses"] >= 1 and demo["windows"] == len(training) + len(inference)


def test_every_gram_of_the_receipts_computes_again(demos):
    for receipt in (r for d in demos for r in d["receipts"]):
        rows = receipt["intervals"]
        mine = [i["joules"] / 3.6e6 * i["intensityGramsPerKwh"] * i["pue"] for i in rows]
        assert [i["emissionsGrams"] for i in rows] == pytest.approx(mine, rel=1e-6)
        assert receipt["emissionsGrams"] == pytest.approx(sum(mine), rel=1e-6)
        assert receipt["energyJoules"] == pytest.approx(sum(i["joules"] for i in rows), rel=1e-9)
        assert receipt["savedGrams"] == pytest.approx(receipt["runNowGrams"] - receipt["emissionsGrams"], rel=1e-6)
        assert "DEMO" in receipt["demo"] and "clock" in receipt["note"]


def test_a_stranger_agrees_with_the_receipts(demos):
    for demo in demos:
        bodies = [{k: v for k, v in r.items() if k != "sha256"} for r in demo["receipts"]]
        assert receipts.faults_of([receipts.entry(b) for b in bodies]) == []
        assert [receipts.entry(b).sha256 for b in bodies] == [r["sha256"] for r in demo["receipts"]]


def test_the_work_is_real(demos):
    for demo in demos:
        training, inference = (r["work"] for r in demo["receipts"])
        assert training["unitsDone"] > 0 and inference["unitsDone"] > 0
        assert 0 < training["metrics"]["bits_per_character"] < 7, "worse than no model at all"
