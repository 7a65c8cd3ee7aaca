"""Training pauses, dies and resumes as if nothing had happened."""

import json
import os
import signal

import pytest
import torch

from windward_api.contract import Outcome
from windward_worker.model import load_path

SPEC = {
    "model": {"layers": 1, "width": 32, "vocabulary": 300, "context": 16},
    "data": {"path": "text"},
    "steps": 40,
    "batchSize": 4,
    "accumulation": 2,
    "precision": "float32",
    "checkpointEvery": 10,
    "seed": 5,
}


def train(**changes):
    return ("train", "--spec", json.dumps({**SPEC, **changes}))


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Before any fork, so that no child pays for it."""
    import windward_worker.train  # noqa: F401

    torch.set_num_threads(1)


@pytest.fixture
def calm(tmp_path_factory):
    """A run that nobody disturbs: its weights and report."""
    from worker.conftest import World

    def run(**changes):
        world = World(tmp_path_factory.mktemp("calm"))
        assert world.run(*train(**changes)) == 0
        return weights(world), world.report

    return run


def weights(world):
    return (world.storage / "models" / "job" / "model.safetensors").read_bytes()


def test_a_run_trains_exports_and_reports(world):
    assert world.run(*train()) == 0
    report = world.report
    assert report.outcome == Outcome.SUCCEEDED and report.message == ""
    tokens = 40 * 4 * 2 * 16
    assert report.progress.fraction == 1 and report.progress.unit == "token"
    assert report.progress.units_done == tokens == report.run_units
    metrics = report.progress.metrics
    assert set(metrics) == {"loss", "bits_per_byte", "tokens_per_s", "joules_per_token"}
    assert 1 < metrics["loss"] < 5.71, "less than log 300: it has learned something"
    assert 0 < metrics["bits_per_byte"] < 8
    assert metrics["joules_per_token"] <= report.energy.total_j / tokens * 1.001
    assert report.checkpoint == "00000040.00000001"
    model = load_path(world.storage / "models" / "job")
    assert model.decoder.config.max_position_embeddings == 16


def disturbed(world, until, step, send, **changes):
    """Start, wait for a step, send a signal; returns the exit code."""
    child = world.fork(*train(**changes))

    def reached():
        from windward_worker.control import read_progress

        progress = read_progress(world.progress_file)
        assert child.exitcode is None, "it ended before it could be disturbed"
        return progress is not None and progress.fraction * SPEC["steps"] >= step

    until(reached)
    os.kill(child.pid, send)
    child.join()
    return child.exitcode


# Slow enough that a signal lands inside: progress is written once a second.
LONG = {"steps": 600, "accumulation": 4, "checkpointEvery": 100}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_paused_and_resumed_gives_the_same_bits(world, until, calm, precision, monkeypatch):
    changes = {**LONG, "precision": precision, "steps": 600 if precision == "float32" else 300}
    monkeypatch.setitem(SPEC, "steps", changes["steps"])
    expected, undisturbed = calm(**changes)
    assert disturbed(world, until, 1, signal.SIGTERM, **changes) == 75
    paused = world.report
    assert paused.outcome == Outcome.PAUSED and 0 < paused.progress.fraction < 1
    step = int(paused.checkpoint.split(".")[0])
    assert paused.progress.units_done == step * 4 * 4 * 16 and paused.run_units == paused.progress.units_done
    world.environ["WINDWARD_RUN"] = "uid-2"
    assert world.run(*train(**changes)) == 0
    assert weights(world) == expected
    resumed = world.report
    assert resumed.progress.metrics["loss"] == undisturbed.progress.metrics["loss"]
    assert resumed.progress.metrics["bits_per_byte"] == undisturbed.progress.metrics["bits_per_byte"]
    assert resumed.run_units + paused.run_units == resumed.progress.units_done


def test_killed_between_checkpoints_gives_the_same_bits(world, until, calm, monkeypatch):
    monkeypatch.setitem(SPEC, "steps", 600)
    expected, _ = calm(**LONG)
    assert disturbed(world, until, 101, signal.SIGKILL, **LONG) == -9
    assert world.run(*train(**LONG)) == 0
    assert weights(world) == expected
    assert 0 < world.report.run_units < world.report.progress.units_done


def test_a_fresh_interpreter_pauses_too(world, until):
    """The real thing: a process of its own, paused while it still imports, then run to its end."""
    child = world.popen(*train())
    until(lambda: child.poll() is not None or (world.checkpoints / "claims").exists())
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate()
    assert child.returncode == 75, said
    assert world.report.outcome == Outcome.PAUSED
    child = world.popen(*train())
    _, said = child.communicate()
    assert child.returncode == 0, said
    assert "step 40/40" in said and "J/token" in said
    assert world.report.outcome == Outcome.SUCCEEDED


def test_what_is_complete_finishes_at_once(world):
    assert world.run(*train()) == 0
    before, metrics = weights(world), world.report.progress.metrics
    assert world.run(*train()) == 0
    report = world.report
    assert report.outcome == Outcome.SUCCEEDED and report.run_units == 0 and weights(world) == before
    assert report.progress.metrics["loss"] == metrics["loss"]
    assert report.progress.metrics["bits_per_byte"] == metrics["bits_per_byte"]


def test_a_damaged_checkpoint_costs_steps_not_the_result(world, calm):
    expected, _ = calm()
    assert world.run(*train()) == 0
    newest = max(p for p in world.checkpoints.iterdir() if p.name[0] == "0")
    (newest / "tensors.safetensors").write_bytes(b"rubbish")
    assert world.run(*train()) == 0
    assert weights(world) == expected
    assert newest.name in world.report.message and world.report.run_units == 10 * 4 * 2 * 16


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 30}, "it stands at step 40 of 30"),
        ({"seed": 6}, "seed was 5 and is 6"),
        ({"learningRateMicro": 500}, "learning_rate_micro was 1000 and is 500"),
        ({"model": {**SPEC["model"], "width": 64}}, "model.width was 32 and is 64"),
    ],
)
def test_other_work_is_not_resumed(world, changes, named):
    assert world.run(*train()) == 0
    assert world.run(*train(**changes)) == 2
    assert world.report.outcome == Outcome.FAILED
    assert "other work" in world.report.message and named in world.report.message


def test_changed_text_is_not_resumed(world):
    assert world.run(*train()) == 0
    (world.storage / "text" / "more.py").write_text("sun = 1\n" * 99)
    assert world.run(*train(steps=50)) == 2 and "text changed" in world.report.message


def test_checkpoint_distance_and_threads_may_change(world, calm):
    expected, _ = calm()
    assert world.run(*train(steps=40, checkpointEvery=15)) == 0
    assert world.run(*train(checkpointEvery=7, threads=1)) == 0
    assert weights(world) == expected


def test_a_successor_stops_the_overlapping_predecessor(world, until, monkeypatch):
    monkeypatch.setitem(SPEC, "steps", 600)
    first = world.fork(*train(**LONG), WINDWARD_REPORT_FILE=str(world.root / "first.json"))
    until((world.checkpoints / "00000100.00000001").exists)
    assert world.run(*train(**LONG)) == 0
    first.join()
    assert first.exitcode == 1
    assert "no longer the newest" in (world.root / "first.json").read_text()
    assert world.report.outcome == Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"path": "nowhere"}}, "no text found in 'nowhere'"),
        ({"data": {"path": "a/../../.."}}, "outside the storage"),
        ({"model": {**SPEC["model"], "context": 8192}}, "too few for a context"),
    ],
)
def test_what_cannot_work_is_refused(world, changes, words):
    assert world.run(*train(**changes)) == 2
    assert world.report.outcome == Outcome.FAILED and words in world.report.message


def test_a_missing_folder_is_named(world):
    assert world.run(*train(), WINDWARD_CHECKPOINT_DIR="") == 2
    assert "WINDWARD_CHECKPOINT_DIR is not set" in world.report.message


def test_measure_prints_one_line_and_warms_the_cache(world, capfd):
    assert world.run("measure", "--spec", json.dumps(SPEC)) == 0
    line = json.loads(capfd.readouterr().out)
    assert set(line) == {"steps_per_s", "startup_s"} and min(line.values()) > 0
    assert list(world.storage.glob("cache/text/*/tokens.bin"))
    assert not world.checkpoints.exists() and not world.report_file.exists()
