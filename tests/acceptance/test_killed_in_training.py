"""kill -9 in a training window: started again, the job goes on from its last checkpoint to the same model."""

import argparse
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import time
import typing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from acceptance.shell import PATIENCE_S, ROOT, WINDWARD, environment, windward
from skips import needs

pytestmark = needs("torch")

START = datetime(2022, 5, 11, 15, tzinfo=UTC)
STEPS = 400
JOB = f"""
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {{name: small}}
spec:
  completeWithin: 10h
  duration: 1h
  interruption: {{policy: Checkpoint, overhead: 1m}}
  placement: {{regions: [here]}}
  power: {{watts: 200}}
  train:
    model: {{layers: 2, width: 64, vocabulary: 512, context: 64}}
    data: {{path: text}}
    steps: {STEPS}
    batchSize: 8
    checkpointEvery: 20
    seed: 7
    threads: 1
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {{name: here}}
spec: {{gridZone: FLAT}}
"""


@dataclass(frozen=True, slots=True)
class World:
    """A machine of its own: state folder, manifest, and a grid that is the same at all hours: nothing to wait for."""

    home: Path

    @classmethod
    def make(cls, folder: Path) -> "World":
        home = folder / "home"
        (folder / "flat").mkdir(parents=True)
        (folder / "job.yaml").write_text(JOB)
        rows = [f"FLAT,{START + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ},200" for h in range(-24, 72)]
        (folder / "flat" / "trace.csv").write_text(
            "\n".join(["zone,timestamp_utc,carbon_intensity_gco2_kwh", *rows]) + "\n"
        )
        kind = {"signal": "Average", "scope": "LifeCycle", "basis": "Consumption", "attribution": "made for a test"}
        (folder / "flat" / "trace.json").write_text(json.dumps(kind))
        text = home / "storage" / "default" / "text"
        text.mkdir(parents=True)
        for module in (argparse, inspect, typing):
            shutil.copy(module.__file__, text)
        return cls(home)

    @property
    def arguments(self) -> list[str]:
        folder = self.home.parent
        source = ["--trace", str(folder / "flat" / "trace.csv"), "--start", f"{START:%Y-%m-%dT%H:%M:%SZ}"]
        return ["run", "-f", str(folder / "job.yaml"), *source, "--speed", "60", "-o", "json"]

    def finish(self) -> dict:
        """The same command, to its end; the receipt."""
        done = windward(*self.arguments, home=self.home)
        assert done.returncode == 0, done.stderr
        (receipt,) = json.loads(done.stdout)["items"]
        return receipt

    def begin(self) -> subprocess.Popen:
        with (self.home.parent / "first.log").open("wb") as log:
            return subprocess.Popen(
                [WINDWARD, *self.arguments], cwd=ROOT, env=environment(self.home), stdout=log, stderr=log
            )

    def model(self) -> bytes:
        return (self.home / "storage" / "default" / "models" / "small" / "model.safetensors").read_bytes()

    def checkpoints(self) -> list[int]:
        """Steps of the complete checkpoints; one that is being written stands in a hidden folder."""
        found = self.home.glob("storage/default/checkpoints/*/[!.]*/manifest.json")
        return sorted(int(p.parent.name.split(".")[0]) for p in found)

    def workers(self) -> list[int]:
        """Processes of this world's runs: the supervisor and what it supervises, by the files they report to."""
        mark = f"WINDWARD_REPORT_FILE={self.home}/".encode()
        out = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                    if alive and mark in (entry / "environ").read_bytes():
                        out.append(int(entry.name))
                except OSError:
                    continue
        return out

    def logs(self) -> list[str]:
        return [p.read_text() for p in sorted(self.home.glob("runs/*/log"))]


def until(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def phases(receipt: dict) -> list[tuple[int, str]]:
    return [(r["attempt"], r["phase"]) for r in receipt["runs"]]


def first_step(log: str) -> int:
    return int(re.search(r"parameters, step (\d+)", log)[1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    world = World.make(tmp_path_factory.mktemp("undisturbed"))
    receipt = world.finish()
    assert phases(receipt) == [(1, "Succeeded")]
    return world, receipt


@pytest.fixture
def interrupted(tmp_path):
    """A world whose command was killed in the middle of training, with a checkpoint behind it."""
    world = World.make(tmp_path)
    command = world.begin()
    try:
        until(lambda: world.checkpoints() and world.workers(), "a first checkpoint")
        assert command.poll() is None
        yield world, command
    finally:
        for pid in (command.pid, *world.workers()):
            if pid != command.pid or command.poll() is None:
                os.kill(pid, signal.SIGKILL)
        command.wait()


def kill(world, command) -> None:
    command.kill()
    command.wait()


def same_end(receipt, world, undisturbed) -> None:
    calm_world, calm = undisturbed
    assert receipt["work"]["metrics"]["loss"] == calm["work"]["metrics"]["loss"]
    assert receipt["work"]["unitsDone"] == calm["work"]["unitsDone"]
    assert world.model() == calm_world.model()
    grams = sum(i["joules"] / 3.6e6 * i["intensityGramsPerKwh"] * i["pue"] for i in receipt["intervals"])
    assert receipt["emissionsGrams"] == pytest.approx(grams, rel=1e-9)


def test_command_and_worker_killed(interrupted, undisturbed):
    world, command = interrupted
    kill(world, command)
    for pid in world.workers():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not world.workers(), "the workers are gone")
    reached = world.checkpoints()[-1]
    assert 0 < reached < STEPS

    receipt = world.finish()

    assert phases(receipt) == [(1, "Lost"), (2, "Succeeded")]
    assert [first_step(log) for log in world.logs()] == [0, reached]
    lost = {i["method"] for i in receipt["intervals"] if i["attempt"] == 1}
    assert lost == {"estimated"}, "what a run without last words used is declared watts x time, and says so"
    same_end(receipt, world, undisturbed)


def test_only_the_command_killed(interrupted, undisturbed):
    world, command = interrupted
    at_work = world.workers()
    kill(world, command)
    assert world.workers() == at_work, "a worker does not depend on the command that started it"

    receipt = world.finish()

    assert phases(receipt) == [(1, "Succeeded")], "the run that went on is found again, and none runs beside it"
    assert [first_step(log) for log in world.logs()] == [0]
    same_end(receipt, world, undisturbed)


def test_only_the_worker_killed(interrupted, undisturbed):
    world, command = interrupted
    for pid in world.workers():
        os.kill(pid, signal.SIGKILL)
    assert command.wait(PATIENCE_S) == 0, (world.home.parent / "first.log").read_text()

    log = (world.home.parent / "first.log").read_text()
    (receipt,) = json.loads(log[log.index("\n{") :])["items"]

    assert phases(receipt) == [(1, "Lost"), (2, "Succeeded")]
    assert first_step(world.logs()[1]) > 0
    same_end(receipt, world, undisturbed)
