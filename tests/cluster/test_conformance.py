"""The promises of the `Cluster` port, kept by each implementation: real, local, simulated, and that behind JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cluster.conftest import RELEASE_NAMESPACE
from cluster.implementations import Implementation, Kubernetes, Local, Served, Simulated
from cluster.kube import Kube

from windward.cluster.port import ClusterError
from windward.domain.observed import Event
from windward.domain.run import Phase
from windward_api.greenjob_status import GreenJobStatus

KUBERNETES = pytest.param("kubernetes", marks=pytest.mark.cluster)
ALL = ["local", "simulated", "served", KUBERNETES]
# Nothing that is simulated recurs or is malformed; a real API server refuses most of what cannot be read.
with_crons = pytest.mark.parametrize("it", ["local", "served", KUBERNETES], indirect=True)
with_any_text = pytest.mark.parametrize("it", ["local", "served"], indirect=True)


@pytest.fixture(scope="module")
def without_operator(request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A real cluster, in which nobody but the test acts."""
    kube: Kube = request.getfixturevalue("kube")
    scale = ("scale", "deployment/windward", "-n", RELEASE_NAMESPACE)
    there = kube.get("deployment", "windward", RELEASE_NAMESPACE) is not None
    if there:
        kube.kubectl(*scale, "--replicas=0")
        kube.kubectl("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=windward", "-n", RELEASE_NAMESPACE,
                     "--timeout=90s", check=False)  # fmt: skip
    yield kube
    if there:
        kube.kubectl(*scale, "--replicas=1")


@pytest.fixture(params=ALL)
def it(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Implementation]:
    """The implementation under test."""
    implementation = _implementation(request, tmp_path)
    yield implementation
    implementation.close()


def _implementation(request: pytest.FixtureRequest, home: Path) -> Implementation:
    if request.param == "kubernetes":
        return Kubernetes(request.getfixturevalue("without_operator"), request.getfixturevalue("namespace"))
    return {"local": lambda: Local(home), "simulated": Simulated, "served": Served}[request.param]()


def test_what_was_submitted_is_seen_with_its_region_and_without_runs(it: Implementation) -> None:
    it.submit()
    it.submit("other")
    snapshot = it.cluster.snapshot()
    assert sorted(o.job.metadata.name for o in snapshot.jobs) == ["night", "other"] and snapshot.bad == ()
    assert all(o.runs == () and o.job.metadata.uid and o.job.status.attempt == 0 for o in snapshot.jobs)
    assert it.region in [r.metadata.name for r in snapshot.regions]


def test_a_claim_is_written_before_anything_runs(it: Implementation) -> None:
    it.submit()
    job = it.cluster.claim_attempt(it.seen(), 1, it.region)
    seen = it.seen()
    assert job.status.attempt == seen.job.status.attempt == 1 and seen.job.status.attempt_region == it.region
    assert seen.runs == () and job.metadata.uid == seen.job.metadata.uid


def test_a_claim_over_an_older_view_is_refused_and_writes_nothing(it: Implementation) -> None:
    it.submit()
    stale = it.seen()
    it.cluster.claim_attempt(stale, 1, it.region)
    with pytest.raises(ClusterError):
        it.cluster.claim_attempt(stale, 2, it.region)
    assert it.seen().job.status.attempt == 1


def test_a_claim_on_a_job_that_is_gone_is_refused(it: Implementation) -> None:
    it.submit()
    stale = it.seen()
    it.cluster.delete_job(it.namespace, "night")
    it.until(lambda: it.observed() is None)
    with pytest.raises(ClusterError):
        it.cluster.claim_attempt(stale, 1, it.region)


def test_a_run_is_created_once_however_often_it_is_asked_for(it: Implementation) -> None:
    it.submit()
    facts = it.start()
    for _ in range(2):
        it.cluster.create_run(facts)
    (run,) = it.seen().runs
    assert (run.name, run.attempt, run.region) == (facts.name, 1, it.region)
    assert run.phase.live and run.exit_code is None and run.finished_at is None and not run.pause_requested
    it.pass_time()
    assert [r.name for r in it.seen().runs] == [facts.name]


def test_a_run_that_is_stopped_ends_and_is_known_to_have_been_asked(it: Implementation) -> None:
    it.submit()
    facts = it.start()
    for _ in range(2):
        it.cluster.stop_run(facts.job, facts.name)
    it.until(lambda: not it.seen().live)
    (run,) = it.seen().runs
    assert run.phase is Phase.PAUSED
    it.cluster.stop_run(facts.job, facts.name)
    assert it.seen().runs[0].phase is Phase.PAUSED, "nothing more happens to what has ended"


def test_the_next_attempt_is_another_run_beside_the_first(it: Implementation) -> None:
    it.submit()
    first = it.start()
    it.cluster.stop_run(first.job, first.name)
    it.until(lambda: not it.seen().live)
    second = it.start(attempt=2)
    runs = it.seen().runs
    assert [(r.name, r.attempt) for r in runs] == [(first.name, 1), (second.name, 2)]
    assert runs[1].phase.live and not runs[0].phase.live
    it.cluster.create_run(first)
    assert len(it.seen().runs) == 2, "a number is never used again"


def test_who_stops_what_is_not_there_does_nothing(it: Implementation) -> None:
    it.submit()
    it.submit("other")
    facts = it.start()
    it.cluster.stop_run(facts.job, "no-such-run")
    it.cluster.stop_run(it.seen("other").job, facts.name)
    it.pass_time()
    assert it.seen().runs[0].phase.live


def test_a_status_replaces_the_one_before(it: Implementation) -> None:
    it.submit()
    seen = it.seen()
    for failures in (3, 3, 0):
        status = seen.job.status.model_copy(update={"failures": failures})
        it.cluster.write_status(seen.job, status, [Event("Planned", "at night", failures > 0)])
        assert it.seen().job.status.failures == failures
    assert it.seen().job.spec == seen.job.spec


def test_a_write_makes_an_older_view_stale(it: Implementation) -> None:
    it.submit()
    stale = it.seen()
    it.cluster.write_status(stale.job, stale.job.status.model_copy(update={"failures": 1}), [])
    with pytest.raises(ClusterError):
        it.cluster.claim_attempt(stale, 1, it.region)


def test_a_deleted_job_is_gone_with_its_runs(it: Implementation) -> None:
    it.submit()
    it.submit("other")
    it.start()
    for _ in range(2):
        it.cluster.delete_job(it.namespace, "night")
    it.until(lambda: it.observed() is None)
    assert it.seen("other").runs == ()
    it.submit()
    assert it.seen().runs == () and it.seen().job.status.attempt == 0, "of the same name, and another"


def test_late_words_to_a_deleted_job_harm_nobody(it: Implementation) -> None:
    it.submit()
    facts = it.start()
    seen = it.seen()
    it.cluster.delete_job(it.namespace, "night")
    it.until(lambda: it.observed() is None)
    it.cluster.stop_run(facts.job, facts.name)
    it.cluster.write_status(seen.job, seen.job.status, [Event("Planned", "too late")])
    assert it.observed() is None


def test_a_regions_status_is_taken(it: Implementation) -> None:
    region = it.green_region()
    for _ in range(2):
        it.cluster.write_region_status(region, region.status)
    with suppress(ClusterError):
        gone = region.model_copy(update={"metadata": region.metadata.model_copy(update={"name": "gone"})})
        it.cluster.write_region_status(gone, region.status)


@with_crons
def test_a_job_that_is_created_twice_is_one(it: Implementation) -> None:
    for _ in range(2):
        it.cluster.create_job(it.job("tick"))
    uid = it.seen("tick").job.metadata.uid
    it.cluster.create_job(it.job("tick"))
    assert it.seen("tick").job.metadata.uid == uid


@with_crons
def test_a_crons_status_is_replaced(it: Implementation) -> None:
    work = {k: v for k, v in it.job("x")["spec"].items() if k != "completeWithin"}
    spec = {"schedule": "0 20 * * *", "window": "10h", "jobTemplate": {"spec": work}}
    it.apply({"kind": "GreenCronJob", "metadata": {"name": "nightly", "namespace": it.namespace}, "spec": spec})
    for at in ("2026-03-02T20:00:00Z", "2026-03-03T20:00:00Z"):
        (cron,) = it.cluster.snapshot().crons
        it.cluster.write_cron_status(cron, cron.status.model_copy(update={"next_schedule_time": at}))
    (cron,) = it.cluster.snapshot().crons
    assert cron.status.next_schedule_time == "2026-03-03T20:00:00Z"


@with_any_text
def test_what_cannot_be_read_harms_itself_only_and_is_told(it: Implementation) -> None:
    it.submit()
    broken = it.job("broken")
    it.apply({**broken, "spec": {**broken["spec"], "duration": "soon"}})
    snapshot = it.cluster.snapshot()
    assert [o.job.metadata.name for o in snapshot.jobs] == ["night"]
    (bad,) = snapshot.bad
    assert (bad.kind, bad.key) == ("GreenJob", f"{it.namespace}/broken") and "duration" in bad.message
    it.cluster.write_bad(bad, GreenJobStatus(failures=3))
    assert it.cluster.snapshot().bad[0].status["failures"] == 3
