"""Checkpoints: complete or absent, verified, fenced."""

import json
import multiprocessing
import os
import shutil
import signal
import threading

import pytest
import torch

from windward_worker.checkpoint import Claims, FolderStore
from windward_worker.control import ClaimLost


def content(step):
    tensors = {"w": torch.full((64, 64), float(step)), "rng": torch.arange(step + 1, dtype=torch.uint8)}
    return tensors, {"step": step, "words": "wind"}


def commit(store, claim, step):
    return store.commit(claim, step, *content(step))


def steps_of(folder):
    return sorted(int(p.name.split(".")[0]) for p in folder.glob("*.*") if p.name[0] != ".")


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path)


def test_what_is_committed_is_loaded(store):
    claim = store.claim("uid-1")
    assert store.load().checkpoint is None
    name = commit(store, claim, 7)
    loaded = store.load()
    assert loaded.passed_over == ()
    assert (loaded.checkpoint.id, loaded.checkpoint.step) == (name, 7)
    tensors, state = content(7)
    assert loaded.checkpoint.state == state
    assert all(torch.equal(loaded.checkpoint.tensors[k], v) for k, v in tensors.items())


def test_the_newest_two_are_kept(store, tmp_path):
    claim = store.claim("uid-1")
    for step in (10, 20, 30, 40):
        commit(store, claim, step)
    assert steps_of(tmp_path) == [30, 40]


def test_the_manifest_names_sums_and_token(store, tmp_path):
    claim = store.claim("uid-1")
    manifest = json.loads((tmp_path / commit(store, claim, 3) / "manifest.json").read_text())
    assert (manifest["step"], manifest["run"], manifest["claim"]) == (3, "uid-1", 1)
    assert set(manifest["files"]) == {"tensors.safetensors", "state.json"}


def test_a_step_twice_is_one(store, tmp_path):
    claim = store.claim("uid-1")
    assert commit(store, claim, 3) == commit(store, claim, 3)
    assert steps_of(tmp_path) == [3]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


FILES = ("tensors.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [flip, cut, lambda p: p.write_bytes(b""), lambda p: p.unlink()])
def test_damage_goes_back_one_and_says_so(store, tmp_path, file, damage):
    claim = store.claim("uid-1")
    older = commit(store, claim, 10)
    newer = commit(store, claim, 20)
    damage(tmp_path / newer / file)
    loaded = store.load()
    if loaded.checkpoint.id == newer:  # a flipped bit in a part of the manifest that carries nothing
        assert file == "manifest.json" and loaded.checkpoint.state["step"] == 20
        return
    assert loaded.checkpoint.id == older and loaded.checkpoint.state["step"] == 10
    assert len(loaded.passed_over) == 1 and newer in loaded.passed_over[0]


def test_all_damaged_is_none_and_says_so(store, tmp_path):
    claim = store.claim("uid-1")
    for step in (10, 20):
        flip(tmp_path / commit(store, claim, step) / "tensors.safetensors")
    loaded = store.load()
    assert loaded.checkpoint is None and len(loaded.passed_over) == 2


def test_a_checkpoint_under_anothers_name_is_not_taken(store, tmp_path):
    claim = store.claim("uid-1")
    name = commit(store, claim, 10)
    shutil.copytree(tmp_path / name, tmp_path / "00000099.00000001")
    assert store.load().checkpoint.id == name


def test_an_older_claim_cannot_commit(store, tmp_path):
    old = store.claim("uid-1")
    commit(store, old, 10)
    new = store.claim("uid-1")
    with pytest.raises(ClaimLost, match=r"claim 1 .* no longer the newest"):
        commit(store, old, 20)
    assert steps_of(tmp_path) == [10]
    commit(store, new, 15)
    assert store.load().checkpoint.step == 15


def test_a_claim_taken_during_a_commit_wins(store, tmp_path, monkeypatch):
    """The successor comes between the first check and the rename."""
    old = store.claim("uid-1")
    real = Claims.check
    calls = []

    def check(self, claim):
        calls.append(claim)
        if len(calls) == 2:
            FolderStore(tmp_path).claim("uid-1")
        real(self, claim)

    monkeypatch.setattr(Claims, "check", check)
    with pytest.raises(ClaimLost):
        commit(store, old, 20)
    assert len(calls) >= 2 and store.load().checkpoint is None


def test_the_newer_claims_line_is_the_truth(store):
    """A commit that slipped through under the old claim does not outrank the successor's, however far it got."""
    old = store.claim("uid-1")
    commit(store, old, 90)
    new = store.claim("uid-1")
    commit(store, new, 50)
    assert store.load().checkpoint.step == 50


def test_every_number_is_taken_once(tmp_path):
    claims, taken = Claims(tmp_path / "claims"), []

    def take():
        for _ in range(20):
            taken.append(claims.take("uid-1").number)

    threads = [threading.Thread(target=take) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 101))


def _write_forever(folder, ready):
    torch.set_num_threads(1)
    store = FolderStore(folder)
    claim, loaded = store.claim("uid-1"), store.load().checkpoint
    step = loaded.step if loaded else 0
    while True:
        step += 1
        commit(store, claim, step)
        ready.set()


def test_killed_at_any_moment_it_loads(tmp_path, until):
    """SIGKILL in the middle of commits, again and again: what loads is whole, newest but one at worst, never older."""
    fork = multiprocessing.get_context("fork")
    seen = 0
    for turn in range(12):
        ready = fork.Event()
        child = fork.Process(target=_write_forever, args=(tmp_path, ready))
        child.start()
        assert ready.wait(60)
        child.join(0.003 * turn)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        loaded = FolderStore(tmp_path).load()
        assert loaded.passed_over == () or "manifest" in loaded.passed_over[0]
        step = loaded.checkpoint.step
        assert step > seen and loaded.checkpoint.state["step"] == step
        assert torch.equal(loaded.checkpoint.tensors["w"], content(step)[0]["w"])
        seen = step
    FolderStore(tmp_path).claim("uid-1")
    assert not list(tmp_path.glob(".*"))


def _overlap(folder, start, results):
    torch.set_num_threads(1)
    store = FolderStore(folder)
    start.wait()
    claim = store.claim("uid-1")
    try:
        for step in range(1, 40):
            commit(store, claim, step)
    except ClaimLost:
        results.put((claim.number, "lost"))
    else:
        results.put((claim.number, "done"))


def test_of_overlapping_processes_only_the_newest_finishes(tmp_path):
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(3), fork.Queue()
    children = [fork.Process(target=_overlap, args=(tmp_path, start, results)) for _ in range(3)]
    for child in children:
        child.start()
    ended = dict(results.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    assert ended[3] == "done"
    loaded = FolderStore(tmp_path).load().checkpoint
    assert loaded.id == "00000039.00000003"


def test_keeping_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 2"):
        FolderStore(tmp_path, keep=1)
