"""What every checkpoint store promises: complete or absent, verified, fenced.

Over a folder; over objects in a folder, where put-if-absent is an exclusive hard link; and over a real S3 server. The
last proves signatures, listings, `If-None-Match: *` and its races as the Versity gateway keeps them on one machine. It
does not prove what AWS, GCS or Azure do, nor anything of partitions between the nodes of a store.
"""

import json
import shutil
import threading

import pytest
import torch
from worker.checkpoint.backends import FILES, SERVER, commit, content, overlap, write_forever

from windward_worker.checkpoint import Claims, FolderStore
from windward_worker.control import ClaimLost


def steps_of(backend):
    return [int(identity.split(".")[0]) for identity in backend.ids()]


def test_what_is_committed_is_loaded(backend, store):
    claim = store.claim("uid-1")
    assert store.load().checkpoint is None
    name = commit(store, claim, 7)
    for reader in (store, backend.open()):
        loaded = reader.load()
        assert loaded.passed_over == ()
        assert (loaded.checkpoint.id, loaded.checkpoint.step) == (name, 7) == ("00000007.00000001", 7)
        tensors, state = content(7)
        assert loaded.checkpoint.state == state and loaded.checkpoint.complete is False
        assert all(torch.equal(loaded.checkpoint.tensors[k], v) for k, v in tensors.items())


def test_the_newest_two_are_kept(backend, store):
    claim = store.claim("uid-1")
    for step in (10, 20, 30, 40):
        commit(store, claim, step)
    assert steps_of(backend) == [30, 40]
    assert backend.leftovers() == []


def test_the_newest_two_are_kept_over_claims(backend, store):
    for number, step in enumerate((10, 20, 30), start=1):
        assert commit(store, store.claim("uid-1"), step) == f"{step:08d}.{number:08d}"
    assert steps_of(backend) == [20, 30] and store.load().checkpoint.step == 30


def test_the_manifest_names_sums_and_token(backend, store):
    claim = store.claim("uid-1")
    manifest = json.loads(backend.file(commit(store, claim, 3), "manifest.json").read_text())
    assert (manifest["step"], manifest["run"], manifest["claim"]) == (3, "uid-1", 1)
    assert set(manifest["files"]) == {"tensors.safetensors", "state.json"}


def test_a_step_twice_keeps_the_first(backend, store):
    claim = store.claim("uid-1")
    first = commit(store, claim, 3)
    assert store.commit(claim, 3, *content(4)) == first == backend.open().commit(claim, 3, *content(4))
    assert steps_of(backend) == [3] and store.load().checkpoint.state["step"] == 3


def test_of_one_claim_the_highest_step_is_loaded(store):
    claim = store.claim("uid-1")
    for step in (20, 10):
        commit(store, claim, step)
    assert store.load().checkpoint.step == 20


@pytest.mark.parametrize("later", [False, True], ids=["its own claim", "a later claim"])
def test_complete_is_kept_and_done_twice_is_as_once(backend, store, later):
    claim = store.claim("uid-1")
    commit(store, claim, 10)
    name = commit(store, claim, 20)
    claim = store.claim("uid-1") if later else claim
    for _ in range(2):
        store.complete(claim, name)
    loaded = backend.open().load()
    assert (loaded.checkpoint.id, loaded.checkpoint.complete, loaded.passed_over) == (name, True, ())
    assert steps_of(backend) == [10, 20]
    commit(store, claim, 30)
    assert store.load().checkpoint.complete is False and steps_of(backend) == [20, 30]


def test_an_older_claim_cannot_complete(store):
    old = store.claim("uid-1")
    name = commit(store, old, 10)
    store.claim("uid-1")
    with pytest.raises(ClaimLost):
        store.complete(old, name)
    assert store.load().checkpoint.complete is False


def test_completing_what_is_not_there_is_an_error(store):
    with pytest.raises(FileNotFoundError):
        store.complete(store.claim("uid-1"), "00000010.00000001")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [flip, cut, empty, remove])
def test_damage_goes_back_one_and_says_so(backend, store, file, damage):
    claim = store.claim("uid-1")
    older = commit(store, claim, 10)
    newer = commit(store, claim, 20)
    path = backend.file(newer, file)
    damage(path)
    loaded = store.load()
    if loaded.checkpoint.id == newer:  # a flipped bit in a part of the manifest that carries nothing
        assert file == "manifest.json" and damage is flip and loaded.checkpoint.state["step"] == 20
        return
    assert loaded.checkpoint.id == older and loaded.checkpoint.state["step"] == 10
    if backend.uri is not None and file == "manifest.json" and damage is remove:
        assert loaded.passed_over == ()  # nothing says any more that it was ever committed
        return
    assert len(loaded.passed_over) == 1 and (newer in loaded.passed_over[0] or path.name in loaded.passed_over[0])


def test_all_damaged_is_none_and_says_so(backend, store):
    claim = store.claim("uid-1")
    for step in (10, 20):
        flip(backend.file(commit(store, claim, step), "tensors.safetensors"))
    loaded = store.load()
    assert loaded.checkpoint is None and len(loaded.passed_over) == 2


def test_work_goes_on_after_damage(backend, store):
    claim = store.claim("uid-1")
    commit(store, claim, 10)
    empty(backend.file(commit(store, claim, 20), "manifest.json"))
    claim = store.claim("uid-1")
    assert store.load().checkpoint.step == 10
    for step in (20, 30, 40):
        commit(store, claim, step)
    assert store.load().checkpoint.step == 40 and store.load().passed_over == ()


def test_a_checkpoint_under_anothers_name_is_not_taken(backend, store):
    claim = store.claim("uid-1")
    name = commit(store, claim, 10)
    folder = backend.file(name, "state.json").parent
    shutil.copytree(folder, folder.parent / "00000099.00000001")
    assert store.load().checkpoint.id == name


def test_an_older_claim_cannot_commit(backend, store):
    old = store.claim("uid-1")
    commit(store, old, 10)
    new = store.claim("uid-1")
    with pytest.raises(ClaimLost, match=r"claim 1 .* no longer the newest"):
        commit(store, old, 20)
    with pytest.raises(ClaimLost):
        store.check(old)
    assert steps_of(backend) == [10] and backend.leftovers() == []
    commit(store, new, 15)
    store.check(new)
    assert store.load().checkpoint.step == 15


def test_a_claim_taken_during_a_commit_to_a_folder_wins(tmp_path, monkeypatch):
    """The successor comes between the first check and the rename."""
    store = FolderStore(tmp_path)
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


def test_every_number_is_taken_once(backend):
    taken = []

    def take(store):
        for _ in range(8):
            taken.append(store.claim("uid-1").number)

    threads = [threading.Thread(target=take, args=(backend.open(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 33))


TURNS = 12


def test_killed_at_any_moment_it_loads(backend):
    """SIGKILL in the middle of commits, again and again: what loads is whole, newest but one at worst, never older."""
    seen = 0
    for turn in range(TURNS):
        ready = SERVER.Event()
        child = SERVER.Process(target=write_forever, args=(backend, ready))
        child.start()
        assert ready.wait(60)
        child.join(0.003 * turn)
        child.kill()
        child.join()
        loaded = backend.open().load()
        assert loaded.passed_over == () or "manifest" in loaded.passed_over[0]
        step = loaded.checkpoint.step
        assert step > seen and loaded.checkpoint.state["step"] == step
        assert torch.equal(loaded.checkpoint.tensors["w"], content(step)[0]["w"])
        seen = step
    backend.open().claim("uid-1")
    assert backend.leftovers() == []


def test_of_overlapping_processes_only_the_newest_finishes(backend):
    start, results = SERVER.Barrier(3), SERVER.Queue()
    children = [SERVER.Process(target=overlap, args=(backend, start, results)) for _ in range(3)]
    for child in children:
        child.start()
    ended = dict(results.get(timeout=120) for _ in children)
    for child in children:
        child.join()
    assert ended[3] == "done"
    assert backend.open().load().checkpoint.id == "00000039.00000003"


def test_keeping_one_is_refused(backend):
    with pytest.raises(ValueError, match="at least 2"):
        backend.open(keep=1)
