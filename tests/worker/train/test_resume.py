"""What outlives a run: sound checkpoints, a witness that all is done, an identity that upgrades do not break."""

import hashlib
import itertools
import json
import os
import shutil
import signal

import pytest
import torch

from windward_api.contract import Outcome
from windward_worker.checkpoint import FolderStore
from windward_worker.train import pretrain, trainer
from windward_worker.train import run as training

SPEC = {
    "model": {"layers": 1, "width": 32, "vocabulary": 300, "context": 16},
    "data": {"path": "text"},
    "steps": 40,
    "batchSize": 4,
    "checkpointEvery": 10,
    "seed": 5,
}
TOKENS = 4 * 16  # of a step


def train(**changes):
    return ("train", "--spec", json.dumps({**SPEC, **changes}))


def weights(world):
    return (world.storage / "models" / "job" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The model of a run that nobody disturbed."""
    from worker.conftest import World

    torch.set_num_threads(1)
    world = World(tmp_path_factory.mktemp("calm"))
    assert world.run(*train()) == 0
    return weights(world)


def checkpoints(world):
    return sorted(p for p in world.checkpoints.iterdir() if "." in p.name and p.name[0] != ".")


def unfinish(world):
    """As if it had been paused at step 30: the last checkpoint and the model are gone."""
    shutil.rmtree(checkpoints(world)[-1])
    shutil.rmtree(world.storage / "models")


def poisoned_gradient(number):
    old = trainer.AdamW.step

    def step(self, at, rate):
        if at == number:
            self.weights[0].grad[0, 0] = float("nan")
        old(self, at, rate)

    return trainer.AdamW, "step", step


def poisoned_loss(number):
    old, calls = pretrain.NextTokenLoss.__call__, itertools.count(1)  # one batch a step

    def loss(self, model, windows):
        return old(self, model, windows) * (float("inf") if next(calls) == number else 1.0)

    return pretrain.NextTokenLoss, "__call__", loss


def poisoned_weight(number):
    old = trainer.AdamW.step

    def step(self, at, rate):
        old(self, at, rate)
        if at == number:
            with torch.no_grad():
                self.weights[-1].view(-1)[0] = float("nan")

    return trainer.AdamW, "step", step


@pytest.mark.parametrize(
    ("poison", "step", "kept"),
    [
        (poisoned_gradient, 5, None),
        (poisoned_gradient, 25, "00000020"),
        (poisoned_loss, 25, "00000020"),
        (poisoned_weight, 24, "00000020"),
        (poisoned_weight, 30, "00000020"),  # would be in the checkpoint of that very step
        (poisoned_weight, 40, "00000030"),  # would be in the model
    ],
)
def test_it_stops_at_the_first_number_that_is_none(world, expected, monkeypatch, poison, step, kept):
    """It trained on in silence and exported NaN as Succeeded."""
    with monkeypatch.context() as patch:
        patch.setattr(*poison(step))
        assert world.run(*train()) == 1
    report = world.report
    named = step + 1 if poison is poisoned_weight and step == 24 else step
    assert report.outcome == Outcome.FAILED and f"step {named}: " in report.message, report.message
    assert (kept or "no checkpoint") in report.message and "learningRateMicro" in report.message
    assert not (world.storage / "models").exists()
    loaded = FolderStore(world.checkpoints).load()
    assert loaded.passed_over == () and (
        loaded.checkpoint is None if kept is None else loaded.checkpoint.id[:8] == kept
    )
    assert world.run(*train()) == 0 and weights(world) == expected, "without the poison it goes on from what was kept"


def test_a_checkpoint_with_nan_from_before_is_passed_over(tmp_path):
    store = FolderStore(tmp_path)
    claim = store.claim("uid-1")
    store.commit(claim, 1, {"w": torch.ones(3)}, {})
    store.commit(claim, 2, {"w": torch.tensor([1.0, float("nan")])}, {})
    loaded = store.load()
    assert loaded.checkpoint.step == 1 and "w is not finite" in loaded.passed_over[0]


def die_after(owner, name):
    """The method, and then SIGKILL: exit code, signals and reports of the process are lost."""
    old = getattr(owner, name)

    def method(*args, **options):
        old(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return owner, name, method


def test_complete_work_is_done_whoever_comes_later(world, expected, monkeypatch):
    """Killed after its last commit: a later attempt finds the witness, opens no text, does no step, and exits 0."""
    with monkeypatch.context() as patch:
        patch.setattr(*die_after(FolderStore, "complete"))
        assert world.run(*train()) == -signal.SIGKILL
    assert world.report is None
    monkeypatch.setattr(training, "open_corpus", lambda *_: pytest.fail("no text is needed any more"))
    for _ in range(2):
        assert world.run(*train()) == 0
        report = world.report
        assert (report.outcome, report.progress.fraction, report.run_units) == (Outcome.SUCCEEDED, 1.0, 0)
        assert report.progress.units_done == 40 * TOKENS and "bits_per_byte" in report.progress.metrics
        assert weights(world) == expected


def test_killed_between_the_last_step_and_the_model_only_the_model_is_made(world, expected, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_folder", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        assert world.run(*train()) == -signal.SIGKILL
    assert not FolderStore(world.checkpoints).load().checkpoint.complete, "there is no model yet"
    assert world.run(*train()) == 0
    assert weights(world) == expected and world.report.run_units == 0
    assert FolderStore(world.checkpoints).load().checkpoint.complete


def test_a_model_that_was_lost_is_made_again(world, expected):
    assert world.run(*train()) == 0
    shutil.rmtree(world.storage / "models")
    assert world.run(*train()) == 0 and weights(world) == expected and world.report.run_units == 0


def test_more_steps_go_on_from_what_is_there(world):
    assert world.run(*train()) == 0
    assert world.run(*train(steps=50)) == 0
    report = world.report
    assert report.run_units == 10 * TOKENS and report.progress.units_done == 50 * TOKENS
    assert "steps were 40 and are 50" in report.message and report.checkpoint.startswith("00000050")
    assert world.run(*train(steps=50)) == 0 and world.report.run_units == 0


def edit_state(world, change):
    """Rewrite the newest checkpoint's state, as another version would have written it."""
    folder = checkpoints(world)[-1]
    state = json.loads((folder / "state.json").read_text())
    data = json.dumps(change(state)).encode()
    (folder / "state.json").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["state.json"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def without(name):
    def change(state):
        state["identity"].pop(name)
        return state

    return change


def with_more(state):
    return {**state, "identity": {**state["identity"], "optimiser": "adamw", "model.heads": 1}}


def with_whole_spec(state):
    """As up to version 0.3: the whole spec, and the text's digest."""
    identity = state.pop("identity")
    text = identity.pop("text")
    shape = {n.removeprefix("model."): identity.pop(n) for n in list(identity) if n.startswith("model.")}
    spec = {"model": shape, "data": {"corpus": None, "path": "text"}, "steps": state.pop("steps"), **identity}
    return {**state, "fingerprint": {"spec": spec, "text": text}}


@pytest.mark.parametrize(
    "change",
    [without("precision"), without("accumulation"), with_more, with_whole_spec],
    ids=["before the precision", "before the accumulation", "a newer version's", "an older version's"],
)
def test_an_upgrade_does_not_orphan_paused_work(world, expected, change):
    assert world.run(*train()) == 0
    unfinish(world)
    edit_state(world, change)
    assert world.run(*train()) == 0
    assert weights(world) == expected and world.report.run_units == 10 * TOKENS


def test_a_field_that_was_not_stored_had_its_default(world):
    assert world.run(*train(accumulation=2)) == 0
    unfinish(world)
    edit_state(world, without("accumulation"))
    assert world.run(*train(accumulation=2)) == 2 and "accumulation was 1 and is 2" in world.report.message


def test_a_patch_release_of_python_does_not_orphan_paused_work(world, expected, monkeypatch):
    """The named corpus is Python's own source: what was begun on goes on from the cache."""
    from windward_worker.train import corpus

    stdlib = world.root / "stdlib"
    shutil.copytree(world.storage / "text", stdlib)
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(stdlib))
    named = {"data": {"corpus": "python-stdlib"}}
    assert world.run(*train(**named)) == 0
    unfinish(world)
    (stdlib / "rules.py").write_text((stdlib / "rules.py").read_text() + "fixed = True\n")
    assert world.run(*train(**named)) == 0
    assert weights(world) == expected and world.report.run_units == 10 * TOKENS
    unfinish(world)
    shutil.rmtree(world.storage / "cache")
    assert world.run(*train(**named)) == 2 and "text changed" in world.report.message
