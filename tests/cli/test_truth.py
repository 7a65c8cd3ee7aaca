"""Whole jobs under a fast clock, each receipt against docs/accounting.md: a saving that would not withstand it shows.

Every receipt here is computed again by `windward.tools.verify` too (the suite's own fixture does it).
"""

import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
import yaml

from windward.reports import figures

SPEED = 7200
START = datetime.fromisoformat("2026-05-11T06:00:00+00:00")
HOUR_S = 3600 / SPEED  # real seconds of a planned hour
# Works so many real seconds through pauses, and keeps what it did; `fail` breaks its first run shortly before the end,
# `ignore` pauses without a checkpoint and begins anew.
WORK = """
import os, pathlib, signal, sys, time
goal, mode = float(sys.argv[1]), sys.argv[2]
folder = pathlib.Path(os.environ["WINDWARD_CHECKPOINT_DIR"]); state, count = folder / "state", folder / "count"
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
k = int(count.read_text()) if count.exists() else 0
count.write_text(str(k + 1))
before = float(state.read_text()) if state.exists() else 0.0
begun = time.monotonic()
while before + time.monotonic() - begun < goal and not asked:
    time.sleep(0.005)
    if mode == "fail" and k == 0 and time.monotonic() - begun > 0.9 * goal: sys.exit(1)
if mode == "ignore" and asked: sys.exit(143)
done = before + time.monotonic() - begun
state.write_text(str(done))
sys.exit(0 if done >= goal else 75)
"""


def work(hours, mode="ok"):
    return [sys.executable, "-S", "-E", "-c", WORK, f"{hours * HOUR_S:g}", mode]


def recording(folder):
    """HOME is dirty and slowly better; AWAY has two clean stretches of five hours, a day apart."""
    rows = ["zone,timestamp_utc,carbon_intensity_gco2_kwh"]
    for h in range(-48, 100):
        at = f"{START + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ}"
        clean = 2 <= h < 7 or 26 <= h < 31
        rows += [f"HOME,{at},{500 - h}", f"AWAY,{at},{60 if clean else 450}"]
    (folder / "trace.csv").write_text("\n".join(rows) + "\n")
    (folder / "trace.json").write_text('{"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}')


@dataclass(frozen=True)
class Receipt:
    """A receipt, and the card that a person sees."""

    body: dict
    card: str
    code: int
    grams: dict = field(default_factory=dict)  # by run

    def __getitem__(self, name):
        return self.body[name]

    @property
    def lost_g(self):
        """Grams of runs of which nothing was kept."""
        return sum(self.grams[k["attempt"]] for k in self["baseline"]["kept"] if k["start"] == k["end"])


@pytest.fixture
def receipt_of(windward, tmp_path):
    recording(tmp_path)

    def run(command, speed=SPEED, on_site=None, **spec):
        whole = {
            "completeWithin": "2d", "duration": "3h", "power": {"watts": 200},
            "placement": {"regions": ["home", "away"], "home": "home"},
            "template": {"spec": {"containers": [{"name": "c", "image": "none", "command": command}]}},
        } | spec  # fmt: skip
        api = {"apiVersion": "windward.dev/v1alpha1"}
        away = {"gridZone": "AWAY", "pue": "1.10"} | ({"onSite": on_site} if on_site else {})
        files = [
            {**api, "kind": "GreenJob", "metadata": {"name": "work", "namespace": "default"}, "spec": whole},
            {**api, "kind": "GreenRegion", "metadata": {"name": "home"}, "spec": {"gridZone": "HOME", "pue": "1.50"}},
            {**api, "kind": "GreenRegion", "metadata": {"name": "away"}, "spec": away},
        ]
        (tmp_path / "job.yaml").write_text(yaml.safe_dump_all(files))
        how = ("--trace", str(tmp_path / "trace.csv"), "--start", START.isoformat(), "--speed", str(speed))
        told = windward("run", "--yes", "-f", str(tmp_path / "job.yaml"), *how, "-o", "json")
        (body,) = told.json()["items"]
        card = windward("report", "--name", body["job"]["uid"]).out
        card = card[: card.index("\nrecord")]
        grams: dict = {}
        for i in body["intervals"]:
            grams[i["attempt"]] = grams.get(i["attempt"], 0.0) + i["emissionsGrams"]
        return Receipt(body, card, told.code, grams)

    return run


def useful_h(receipt):
    return receipt["baseline"]["usefulSeconds"] / 3600


CASES = [
    # name, command, spec, hours of useful work
    ("plain", work(3), {}, 3),
    ("longer than declared", work(4), {}, 4),
    ("four times the declared time", work(4), {"duration": "1h"}, 4),
    ("on-site generation", work(3), {"on_site": {"intensityGramsPerKwh": 40, "hours": [{"fromHour": 8, "toHour": 13,
     "sharePercent": 60}]}}, 3),
    ("a failure first", work(3, "fail"), {"backoffLimit": 2}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("command", "spec", "hours"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_success_is_compared_with_its_useful_work_at_once_at_home(receipt_of, command, spec, hours):
    r = receipt_of(command, **spec)
    assert (r.code, r["outcome"], r["settled"]) == (0, "Succeeded", True)
    assert useful_h(r) == pytest.approx(hours, rel=0.15) and r["baseline"]["meanPowerWatts"] == pytest.approx(200, 0.02)
    per_kwh = 1.5 * (500 - useful_h(r) / 2)  # at home, from submission
    assert r["runNowGrams"] == pytest.approx(0.2 * useful_h(r) * per_kwh, rel=0.03)
    assert sum(r["levers"].values()) == pytest.approx(r["savedGrams"]) and r["levers"]["placeGrams"] > 0
    failed = sum(r.grams[k["attempt"]] for k in r["runs"] if k["phase"] == "Failed")
    assert r["levers"]["overheadGrams"] == pytest.approx(-failed, abs=1e-6), "an undisturbed success less the failure"
    assert ("nothing of it was kept" in r.card) is bool(failed) is bool(r["failedRuns"])
    assert ("generated on site at 40 g/kWh, as declared" in r.card) is ("on_site" in spec)


def test_what_did_nothing_saved_next_to_nothing(receipt_of):
    r = receipt_of(["true"])
    assert r["outcome"] == "Succeeded" and useful_h(r) < 0.1 and 0 < r["savedGrams"] < 10


def test_work_that_failed_for_good_shows_what_it_cost_and_no_saving(receipt_of):
    r = receipt_of(["sh", "-c", f"sleep {2 * HOUR_S:g}; exit 3"], backoffLimit=1)
    assert (r.code, r["outcome"], r["failedRuns"]) == (1, "Failed", 2)
    assert (r["savedGrams"], r["runNowGrams"], r["baseline"], r["levers"]) == (None, None, None, None)
    assert r["emissionsGrams"] > 0 and "nothing saved: the work failed for good" in r.card and "%" not in r.card


PAUSABLE = {"duration": "10h", "interruption": {"policy": "Checkpoint", "overhead": "10m"}}


def test_a_pause_costs_its_resume_and_work_done_again_is_a_loss(receipt_of):
    paused = receipt_of(work(10), **PAUSABLE)
    assert [r["phase"] for r in paused["runs"]] == ["Paused", "Succeeded"]
    assert useful_h(paused) == pytest.approx(10, rel=0.1) and paused["failedRuns"] == 0
    assert -40 < paused["levers"]["overheadGrams"] < 0 and paused.lost_g == 0
    again = receipt_of(work(10, "ignore"), **PAUSABLE)
    assert useful_h(again) == pytest.approx(10, rel=0.1) and len(again["runs"]) > 1
    assert again["levers"]["overheadGrams"] == pytest.approx(-again.lost_g, rel=1e-6) and again.lost_g > 50
    assert again["savedGrams"] < paused["savedGrams"] - again.lost_g / 2
    assert again.card.count("nothing of it was kept") == len(again["runs"]) - 1


def test_a_power_level_saves_by_what_it_drew_less_and_not_by_being_slower(receipt_of):
    level = {"name": "slow", "watts": 120, "capWatts": 130, "duration": "4h"}
    r = receipt_of(work(4), power={"watts": 200, "levels": [level]})
    assert r["runs"][-1]["powerLevel"] == "slow" and r["meanPowerWatts"] == pytest.approx(120, rel=0.02)
    assert useful_h(r) == pytest.approx(3, rel=0.15) and r["baseline"]["meanPowerWatts"] == pytest.approx(200, rel=0.02)
    assert r["levers"]["powerGrams"] == pytest.approx(sum(r.grams.values()) * (0.6 / 0.48 - 1), rel=0.05)


def test_figures_do_not_drift_with_the_warp(receipt_of):
    """Twelve planned hours at two speeds: what a machine needs to start and to look takes no planned time."""
    slow, fast = (
        receipt_of(["sleep", f"{12 * 3600 / speed:g}"], speed=speed, duration="12h") for speed in (3600, 7200)
    )
    for name in ("energyJoules", "emissionsGrams", "runTimeSeconds", "runNowGrams", "savedGrams"):
        assert slow[name] == pytest.approx(fast[name], rel=0.005), name
    for r in (slow, fast):
        begun, ended = (datetime.fromisoformat(r["intervals"][i][k]) for i, k in ((0, "start"), (-1, "end")))
        finished = datetime.fromisoformat(r["finishedAt"])
        whole_s = (finished - datetime.fromisoformat(r["submittedAt"])).total_seconds()
        waited_s = (begun - START).total_seconds()
        assert waited_s % 3600 < 60, "it begins when its window does"
        assert r["runTimeSeconds"] + waited_s == pytest.approx(whole_s, rel=0.001)
        assert abs((ended - finished).total_seconds()) < 2
        assert r["runTimeSeconds"] == pytest.approx(12 * 3600, rel=0.005)
        assert r["energyJoules"] == pytest.approx(200 * r["runTimeSeconds"], rel=0.005)


@pytest.mark.parametrize(
    ("saved_g", "run_now_g", "said"),
    [(-0.4, 0.0, "-0.4 g"), (-0.4, 1e-12, "-0.4 g"), (-0.4, None, "-0.4 g"), (-0.1, 0.2, "-0.1 g (-50 %)"),
     (None, 5.0, "unknown")],
)  # fmt: skip
def test_there_is_no_per_cent_of_nothing(saved_g, run_now_g, said):
    assert figures.saved(saved_g, run_now_g) == said
