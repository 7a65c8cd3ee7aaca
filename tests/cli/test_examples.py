"""The examples are what a user starts from: valid as they stand, consistent together, and they do what they say."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from windward.cli.manifest_files import read_objects
from windward_api.greencronjob import GreenCronJob

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
AT = ("--at", "2022-05-11T15:00:00Z")


def documents():
    return [d for f in FILES for d in yaml.safe_load_all(f.read_text())]


def test_there_are_six():
    assert [f.stem for f in FILES] == ["container", "first", "infer", "levels", "nightly", "regions", "train"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_valid_and_explained(file):
    objects = read_objects([file])
    assert file.read_text().startswith("# "), "a newcomer is told what it is"
    known = {r.metadata.name for r in objects.regions}
    for o in (*objects.jobs, *objects.crons):
        spec = o.spec.job_template.spec if isinstance(o, GreenCronJob) else o.spec
        assert set(spec.placement.regions) <= known, "each file can be applied alone"


def test_applied_together_they_do_not_contradict():
    seen = {}
    for d in documents():
        key = (d["kind"], d["metadata"]["name"])
        assert seen.setdefault(key, d) == d


def test_infer_uses_the_model_that_train_makes():
    jobs = {d["metadata"]["name"]: d for d in documents() if d["kind"] == "GreenJob"}
    used = jobs["write-with-it"]
    maker = jobs[used["spec"]["infer"]["model"]["job"]]
    assert "train" in maker["spec"] and maker["metadata"]["namespace"] == used["metadata"]["namespace"]


@pytest.mark.parametrize("name", ["train", "infer", "container", "levels"])
def test_plan_holds(windward, name):
    told = windward("plan", "-f", str(EXAMPLES / f"{name}.yaml"), *AT, "--check", "-o", "json")
    assert told.code == 0, told.err
    assert all(i["windows"] for i in told.json()["items"])


def test_a_level_is_chosen_said_and_kept(windward, tmp_path):
    """Planned, run and accounted for: the plan names the level, the run is told it, the receipt weighs by it."""
    told = windward("plan", "-f", str(EXAMPLES / "levels.yaml"), *AT)
    assert "level cap-200)" in told.out and "at cap-175" in told.out
    file = tmp_path / "levels.yaml"
    file.write_text((EXAMPLES / "levels.yaml").read_text().replace('"GOAL", 600', '"GOAL", 1'))
    told = windward("run", "--yes", "-f", str(file), "--start", "2022-05-11T15:00:00Z", "--speed", "7200", "-o", "json")
    assert told.code == 0, told.err
    (receipt,) = json.loads(told.out)["items"]
    assert receipt["runs"][0]["powerLevel"] == "cap-200" and receipt["meanPowerWatts"] <= 239
    (level,) = receipt["baseline"]["kept"]
    assert (level["speed"], level["draw"]) == pytest.approx((249 / 266, 304 / 239))
    assert receipt["baseline"]["meanPowerWatts"] == pytest.approx(receipt["meanPowerWatts"] * 304 / 239)
    assert "level: cap-200, to stay below 260 W" in next((tmp_path / "home" / "runs").rglob("log")).read_text()


def container():
    (job,) = (d for d in documents() if d["metadata"]["name"] == "count-primes")
    return job["spec"]["template"]["spec"]


def test_the_container_meets_the_restricted_profile():
    pod, (one,) = container(), container()["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"]["allowPrivilegeEscalation"] is False
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert one["resources"]["requests"] and one["resources"]["limits"]


def handles(pid, sent):
    """Whether a process has a handler of its own for a signal (proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16) >> (sent - 1) & 1


def computed_ticks(pid):
    """Processor time of a process, in hundredths of a second (field 14 of proc_pid_stat(5))."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_the_container_pauses_and_goes_on(tmp_path):
    _, *arguments = container()["containers"][0]["command"]
    command = [sys.executable, *arguments]
    env = {**os.environ, "WINDWARD_CHECKPOINT_DIR": str(tmp_path), "GOAL": "400000"}
    first = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    while not handles(first.pid, signal.SIGTERM):
        assert first.poll() is None
    begun = computed_ticks(first.pid)
    while computed_ticks(first.pid) < begun + 10:
        assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 75, said
    reached = int((tmp_path / "state").read_text().split()[0])
    assert 2 < reached < 400_000
    second = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (second.returncode, second.stdout) == (0, "33860 primes below 400000\n")


def test_the_container_runs_as_a_local_job(windward, tmp_path):
    """The whole file through the command, with a smaller goal."""
    text = (EXAMPLES / "container.yaml").read_text()
    file = tmp_path / "container.yaml"
    file.write_text(text.replace("5_000_000", "20_000"))
    told = windward("run", "--yes", "-f", str(file), "--start", "2022-05-11T15:00:00Z", "--speed", "3600", "-o", "json")
    assert told.code == 0, told.err
    (receipt,) = json.loads(told.out)["items"]
    assert receipt["runs"][-1]["phase"] == "Succeeded"
    (state,) = (tmp_path / "home" / "storage").rglob("state")
    assert state.read_text() == "20000 2262"
