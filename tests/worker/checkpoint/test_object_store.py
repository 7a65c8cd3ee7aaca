"""An object store's own promises: no commit after a newer claim whatever the order of requests, and stores that err."""

import pytest
from worker.checkpoint.backends import Backend, commit, content
from worker.checkpoint.faulty_s3 import FaultyS3

from windward_worker.checkpoint import ObjectStore, objects
from windward_worker.checkpoint.objects import Objects
from windward_worker.control import ClaimLost, Refused

MOST_REQUESTS = 60


class Stepped(Objects):
    """Objects that call something before their n-th request from now."""

    def __init__(self, uri):
        super().__init__(uri)
        self.left, self.call, self.count = -1, None, 0

    def at(self, number, call):
        self.left, self.call, self.count = number, call, 0

    def _errors(self, path):
        self.count += 1
        if self.left == 0:
            self.left = -1
            self.call()
        self.left -= 1
        return super()._errors(path)


class Died(BaseException):
    """As SIGKILL: nothing after it is done."""


def die():
    raise Died


def requests_of(work, uri):
    """How many requests some work makes."""
    counted = Stepped(uri)
    counted.at(-1, None)
    work(ObjectStore(counted))
    assert 0 < counted.count < MOST_REQUESTS
    return counted.count


def test_a_claim_at_any_moment_of_a_commit_fences_it(objects):
    """Between any two requests of a commit a newer claim is taken: what is there then is all that ever will be."""
    lost = landed = 0
    number = 0
    while True:
        backend = Backend(objects.files / str(number), f"{objects.uri}/{number}", objects.environ)
        stepped = Stepped(backend.uri)
        old = ObjectStore(stepped)
        claim = old.claim("uid-1")
        for step in (10, 20):
            commit(old, claim, step)
        seen = []

        def overtake(backend=backend, seen=seen):
            newer = backend.open()
            seen.append((newer, newer.claim("uid-2"), backend.ids()))

        stepped.at(number, overtake)
        try:
            commit(old, claim, 30)
            landed += 1
        except ClaimLost:
            lost += 1
            assert backend.leftovers() == [], "it takes away what it had put"
        if not seen:
            break  # a commit has no further request
        newer, newest, then = seen[0]
        assert backend.ids() == then, f"request {number}"
        assert backend.ids() in (["00000010.00000001", "00000020.00000001"], ["00000020.00000001", "00000030.00000001"])
        with pytest.raises(ClaimLost):
            commit(old, claim, 40)
        with pytest.raises(ClaimLost):
            old.complete(claim, "00000020.00000001")
        loaded = newer.load()
        assert loaded.passed_over == () and loaded.checkpoint.step in (20, 30)
        commit(newer, newest, 35)
        assert newer.load().checkpoint.id == "00000035.00000002" and backend.leftovers() == []
        number += 1
    assert lost >= 5 and landed >= 2 and number >= 8


def test_a_commit_at_any_moment_of_a_claim_is_seen_or_refused(objects):
    """Between any two requests of a claim the older claimant commits: it is there when the claim is had, or never."""
    number = seen = refused = 0
    while True:
        backend = Backend(objects.files / str(number), f"{objects.uri}/{number}", objects.environ)
        old = backend.open()
        claim = old.claim("uid-1")
        for step in (10, 20):
            commit(old, claim, step)
        ended = []

        def work(old=old, claim=claim, ended=ended):
            try:
                for step in (30, 40, 50):  # far enough that entries are pruned under a slow claimant
                    commit(old, claim, step)
                ended.append("landed")
            except ClaimLost:
                ended.append("lost")

        stepped = Stepped(backend.uri)
        stepped.at(number, work)
        newer = ObjectStore(stepped)
        newest = newer.claim("uid-2")
        if not ended:
            break
        there = backend.ids()
        with pytest.raises(ClaimLost):
            commit(old, claim, 60)
        assert backend.ids() == there
        assert (ended == ["landed"]) == (newer.load().checkpoint.step == 50)
        commit(newer, newest, 35)
        assert newer.load().checkpoint.id == "00000035.00000002"
        seen, refused, number = seen + (ended == ["landed"]), refused + (ended == ["lost"]), number + 1
    assert seen >= 2 and refused >= 4


def test_dying_at_any_request_leaves_the_old_or_the_new(objects):
    """As SIGKILL between any two requests of a commit: two sound checkpoints, and the next process clears the rest."""
    number, ended = 0, set()
    while True:
        backend = Backend(objects.files / str(number), f"{objects.uri}/{number}", objects.environ)
        stepped = Stepped(backend.uri)
        store = ObjectStore(stepped)
        claim = store.claim("uid-1")
        for step in (10, 20, 30):
            commit(store, claim, step)
        stepped.at(number, die)
        try:
            commit(store, claim, 40)
        except Died:
            number += 1
        else:
            break
        loaded = backend.open().load()
        assert loaded.passed_over == () and loaded.checkpoint.step in (30, 40)
        ended.add(loaded.checkpoint.step)
        successor = backend.open()
        claim = successor.claim("uid-2")
        assert len(backend.ids()) == 2 and backend.leftovers() == []
        assert commit(successor, claim, 50) == "00000050.00000002"
    assert ended == {30, 40} and number >= 8


def test_dying_at_any_request_of_a_claim_loses_nothing(objects):
    number = 0
    while True:
        backend = Backend(objects.files / str(number), f"{objects.uri}/{number}", objects.environ)
        old = backend.open()
        claim = old.claim("uid-1")
        commit(old, claim, 10)
        stepped = Stepped(backend.uri)
        stepped.at(number, die)
        try:
            ObjectStore(stepped).claim("uid-2")
        except Died:
            number += 1
        else:
            break
        successor = backend.open()
        newest = successor.claim("uid-3")
        assert successor.load().checkpoint.step == 10
        with pytest.raises(ClaimLost):
            commit(old, claim, 20)
        commit(successor, newest, 15)
        assert successor.load().checkpoint.step == 15
    assert number >= 6


def test_large_files_go_in_parts(objects, monkeypatch):
    monkeypatch.setattr("windward_worker.checkpoint.objects.READ_BYTES", 1_000_000)
    monkeypatch.setattr("windward_worker.checkpoint.objects.LEAST_PART_BYTES", 5 << 20)
    store = objects.open()
    tensors, state = content(3, size=1800)  # 13 MB
    store.commit(store.claim("uid-1"), 3, tensors, state)
    assert bool((store.load().checkpoint.tensors["w"] == 3.0).all())


@pytest.fixture
def faulty(monkeypatch):
    servers = []

    def start(fault=""):
        servers.append(FaultyS3(fault))
        for name, value in servers[-1].environ.items():
            monkeypatch.setenv(name, value)
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_the_faulty_store_without_a_fault_is_a_store(faulty):
    """So that what the next tests see comes from the fault."""
    faulty()
    store = ObjectStore(Objects("s3://bucket/job"))
    commit(store, store.claim("uid-1"), 10)
    assert store.load().checkpoint.step == 10


@pytest.mark.parametrize("fault", ["forgets", "unknown"])
def test_a_store_without_conditions_is_refused_at_the_claim(faulty, fault, monkeypatch):
    monkeypatch.setattr(objects, "_RETRY", {"max_retries": 1})
    server = faulty(fault)
    with pytest.raises(Refused) as caught:
        ObjectStore(Objects("s3://bucket/job")).claim("uid-1")
    said = str(caught.value)
    assert said.startswith("the object store of s3://bucket/job does not write on condition (")
    assert "use one that honours If-None-Match, such as S3, GCS or Azure, or a volume in spec.storage.claimName" in said
    assert not [k for k in server.objects if "parts" in k]


@pytest.mark.parametrize("fault_at", ["claim", "commit"])
def test_an_answer_that_was_lost_costs_nothing(faulty, fault_at):
    """The put was done and its answer lost: sent again it finds its own object, which is a success."""
    server = faulty("loses" if fault_at == "claim" else "")
    store = ObjectStore(Objects("s3://bucket/job"))
    claim = store.claim("uid-1")
    assert claim.number == 1
    if fault_at == "commit":
        server.fault = "loses"
    assert commit(store, claim, 10) == "00000010.00000001" == store.load().checkpoint.id
    assert server.fault == "", "it was lost"
    assert len([k for k in server.objects if "/log/" in k]) == 2


def test_a_store_that_forbids_says_what_to_grant(faulty):
    faulty("forbids")
    with pytest.raises(PermissionError, match="give them the right to list, read, write and delete"):
        ObjectStore(Objects("s3://bucket/job")).claim("uid-1")


def test_what_an_error_says_holds_no_query(faulty, monkeypatch):
    """A shared access signature of Azure is part of the address."""
    monkeypatch.setattr(objects, "_RETRY", {"max_retries": 0})
    server = faulty("forbids")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "sv=2026&sig=hidden")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    with pytest.raises(OSError) as caught:
        Objects("azblob://container/job").put("x", b"")
    assert "sig=hidden" in server.requests[-1][1], "it was asked with it"
    assert "hidden" not in str(caught.value) and "azblob://container/job/x" in str(caught.value)


def test_wrong_credentials_are_named(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermissionError, match="credentials refused"):
        ObjectStore(Objects(s3.uri)).claim("uid-1")


def test_a_bucket_that_is_not_there_is_an_os_error(s3):
    with pytest.raises(OSError, match="no-such-bucket"):
        ObjectStore(Objects("s3://no-such-bucket/job")).claim("uid-1")


def test_a_store_that_fails_is_not_taken_for_damage(faulty, monkeypatch):
    """A failing read must raise, not fall back to an older checkpoint."""
    monkeypatch.setattr(objects, "_RETRY", {"max_retries": 0})
    server = faulty()
    store = ObjectStore(Objects("s3://bucket/job"))
    claim = store.claim("uid-1")
    commit(store, claim, 10)
    commit(store, claim, 20)
    server.fault = "fails"
    with pytest.raises(OSError, match="500"):
        store.load()


@pytest.mark.parametrize("uri", ["ftp://bucket/job", "s3://", "file://relative", "file:///", "bucket/job", ""])
def test_what_is_no_object_store_is_refused(uri):
    with pytest.raises(Refused, match="is no object store: give s3://"):
        Objects(uri)


@pytest.mark.parametrize("uri", ["gs://bucket/job", "azblob://container/job"])
def test_other_clouds_are_opened(uri, monkeypatch):
    """That their clients take our options: nothing is asked of them here."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert Objects(uri).uri == uri


def test_azure_without_an_account_is_refused(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(Refused, match="azblob://container/job cannot be opened"):
        Objects("azblob://container/job")
