"""Training whose checkpoints, text and model lie in an object store: the same model, over runs that are killed."""

import json
import os
import signal

import pytest

from windward_api.contract import EXIT_PAUSED, Outcome
from windward_worker.checkpoint import SharedStorage
from windward_worker.control import Refused, read_env

SPEC = {
    "model": {"layers": 1, "width": 32, "vocabulary": 300, "context": 16},
    "data": {"path": "text"},
    "steps": 400,
    "batchSize": 4,
    "checkpointEvery": 10,
    "seed": 5,
}
TRAIN = ("train", "--spec", json.dumps(SPEC))


def in_objects(world):
    """The same world, whose storage is an object store of the same files."""
    for name in ("WINDWARD_CHECKPOINT_DIR", "WINDWARD_STORAGE_DIR"):
        del world.environ[name]
    world.environ |= {
        "WINDWARD_CHECKPOINT_URI": f"file://{world.root}/storage/checkpoints/job-uid",
        "WINDWARD_STORAGE_URI": f"file://{world.root}/storage",
    }


def manifests(world):
    return [
        p for p in world.storage.glob("checkpoints/job-uid/log/*") if p.name[-1] not in "0" and p.stat().st_size > 99
    ]


def test_it_pauses_dies_and_ends_with_the_model_of_a_calm_run(world, until):
    assert world.run(*TRAIN) == 0
    model = world.storage / "models" / "job"
    calm = {p.name: p.read_bytes() for p in model.iterdir()}
    for path in model.iterdir():
        path.unlink()
    model.rmdir()
    in_objects(world)

    for how, code in ((signal.SIGTERM, EXIT_PAUSED), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(list(world.storage.glob("checkpoints/job-uid/log/*")))
        child = world.popen(*TRAIN)
        until(
            lambda n=before: (
                len(list(world.storage.glob("checkpoints/job-uid/log/*"))) > n + 2 or child.poll() is not None
            )
        )
        os.kill(child.pid, how)
        assert (child.wait(60), child.communicate()[1][-2000:])[0] == code
    for _ in range(2):
        child = world.popen(*TRAIN)
        assert child.wait(120) == 0, child.communicate()[1][-2000:]
        assert {p.name: p.read_bytes() for p in model.iterdir()} == calm
    assert world.report.outcome == Outcome.SUCCEEDED and world.report.run_units == 0, "the second found it complete"
    assert world.report.checkpoint.startswith("00000400.")


def test_what_is_not_in_the_store_is_named(world):
    in_objects(world)
    storage = SharedStorage(read_env(world.environ))
    assert not storage.holds("models/job")
    with pytest.raises(Refused, match=r"storage/nothing is not there; put it there, or name another path"):
        storage.fetch("nothing")


def test_a_folder_and_a_file_are_fetched(world):
    in_objects(world)
    storage = SharedStorage(read_env(world.environ))
    for path in ("text", "text/rules.py"):
        storage.fetch(path)
    copy = storage.env.inside_storage("text/rules.py")
    assert copy.read_bytes() == (world.storage / "text" / "rules.py").read_bytes()
    assert not copy.is_relative_to(world.storage)
