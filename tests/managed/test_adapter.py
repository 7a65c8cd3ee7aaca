"""Managed workloads over HTTP: which are found, what is written on them, and what is not."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from engines.rest_server import Asked, serving

from windward.cluster import kueue
from windward.cluster.managed import ManagedWorkloads
from windward.cluster.managed_reader import ManagedReader
from windward.cluster.port import AttemptConflict, ClusterError
from windward.domain.clock import FixedClock
from windward.domain.observed import Event
from windward.domain.run import Phase
from windward.manifests import RunFacts
from windward.service.release import ReleaseLoop
from windward_api.greenregion import GreenRegion
from windward_api.managed import ERROR, HELD_AT, LATEST_START, STATUS, SUMMARY

NOW = datetime(2026, 3, 2, 6, 10, tzinfo=UTC)
REGIONS = ()
NORTH = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE"}})
WORDS = {f"windward.dev/{k}": v for k, v in {"duration": "1h", "complete-within": "8h", "regions": "north"}.items()}
POD = {"spec": {"containers": [{"name": "c", "image": "x"}]}}
MANAGED = {"windward.dev/managed": "true"}
QUEUED = {**MANAGED, kueue.LABEL_QUEUE: "team"}


@pytest.fixture
def world():
    with serving() as (rest, api):
        clock = FixedClock(NOW)
        rest.put("", "namespaces", {"metadata": {"name": "ml", "annotations": WORDS}})
        yield rest, ManagedWorkloads(api, clock, ManagedReader(api, clock))


def put(rest, name="mnist", labels=None, group="batch", resource="jobs", annotations=None, spec=None, **meta):
    metadata = {"name": name, "namespace": "ml", "labels": MANAGED if labels is None else labels}
    metadata |= {"annotations": annotations or {}, **meta}
    return rest.put(group, resource, {"metadata": metadata, "spec": spec or {"suspend": True, "template": POD}})


def put_workload(rest, owner, active=True):
    meta = {"name": f"w-{owner}", "namespace": "ml", "ownerReferences": [{"uid": owner, "controller": True}]}
    return rest.put("kueue.x-k8s.io", "workloads", {"metadata": meta, "spec": {"active": active}})


def keys(cluster):
    return sorted(o.key for o in cluster.snapshot(REGIONS).jobs)


def one(cluster):
    (observed,) = cluster.snapshot(REGIONS).jobs
    return observed


def annotations(body):
    return {k: v for k, v in body["metadata"]["annotations"].items() if k.startswith("windward.dev/")}


def test_only_labelled_workloads_are_found_and_none_that_is_part_of_another(world):
    rest, cluster = world
    put(rest, "mine")
    put(rest, "not", labels={})
    put(rest, "off", labels={"windward.dev/managed": "false"})
    for kind in ("GreenJob", "JobSet", "TrainJob"):
        put(rest, f"child-of-{kind.lower()}", ownerReferences=[{"kind": kind, "uid": "u", "controller": True}])
    put(rest, "of-cron", ownerReferences=[{"kind": "CronJob", "uid": "u", "controller": True}])
    replicated = {"name": "w", "template": {"spec": {"template": POD}}}
    put(rest, "mine", group="jobset.x-k8s.io", resource="jobsets", spec={"replicatedJobs": [replicated]})
    assert keys(cluster) == ["ml/job/mine", "ml/job/of-cron", "ml/jobset/mine"]


def test_a_label_on_a_namespace_manages_all_that_is_in_it_but_what_says_no(world):
    rest, cluster = world
    rest.put("", "namespaces", {"metadata": {"name": "ml", "annotations": WORDS, "labels": MANAGED}})
    put(rest, "mine", labels={})
    put(rest, "off", labels={"windward.dev/managed": "false"})
    assert keys(cluster) == ["ml/job/mine"]


def test_words_of_the_installation_the_namespace_and_the_object_are_layered(world):
    rest, cluster = world
    put(rest, annotations={"windward.dev/duration": "2h"})
    reader = ManagedReader(cluster.api, cluster.clock, defaults={"duration": "9h", "watts": "50"})
    (observed,) = reader.snapshot().jobs
    assert observed.job.spec.duration == timedelta(hours=2)
    assert observed.job.spec.placement.regions == ("north",)
    assert observed.job.spec.power.watts == 50


def test_what_cannot_be_read_is_told_in_an_annotation_and_an_event_and_harms_only_itself(world):
    rest, cluster = world
    put(rest, "good")
    body = put(rest, "bad", annotations={"windward.dev/duration": "soon"})
    snapshot = cluster.snapshot(REGIONS)
    (bad,) = snapshot.bad
    assert [o.key for o in snapshot.jobs] == ["ml/job/good"]
    from windward.service.invalid_objects import report_invalid

    report_invalid(cluster, bad, NOW)
    assert annotations(body)[ERROR].startswith("annotation windward.dev/duration: 'soon' is not a duration")
    (event,) = [b for place, b in rest.objects.items() if place.resource == "events"]
    assert (event["reason"], event["involvedObject"]["kind"]) == ("InvalidSpec", "Job")
    rest.asked.clear()
    (again,) = cluster.snapshot(REGIONS).bad
    report_invalid(cluster, again, NOW)
    assert {a.verb for a in rest.asked} <= {"list", "get"}, "told once, while it stays so"


def test_a_cluster_that_does_not_answer_makes_no_object_unreadable(world, monkeypatch):
    rest, cluster = world
    put(rest, spec={"suspend": False, "template": POD})

    def fails(*_, **__):
        raise ClusterError("the API server is gone")

    monkeypatch.setattr(ManagedReader, "_pods", fails)
    with pytest.raises(ClusterError, match="the API server is gone"):
        cluster.snapshot(REGIONS)


def test_a_start_is_claimed_before_the_job_is_released(world):
    rest, cluster = world
    body = put(rest)
    job = cluster.claim_attempt(one(cluster), 1, "north")
    assert body["spec"]["suspend"] is True
    assert json.loads(annotations(body)[STATUS])["status"]["attempt"] == 1
    rest.asked.clear()
    cluster.create_run(RunFacts(job, 1, NORTH))
    assert rest.asked == [Asked("get", "batch", "jobs", "mnist"), Asked("patch", "batch", "jobs", "mnist")]
    assert body["spec"] == {"suspend": False, "template": POD}
    assert [r.phase for r in one(cluster).runs] == [Phase.STARTING]


def test_a_job_that_is_gone_when_it_is_to_start_is_looked_at_again(world):
    rest, cluster = world
    put(rest)
    observed = one(cluster)
    rest.objects = {place: body for place, body in rest.objects.items() if place.resource != "jobs"}
    with pytest.raises(AttemptConflict, match="ml/job/mnist is gone"):
        cluster.create_run(RunFacts(observed.job, 1, NORTH))


def test_a_pause_is_noted_as_ours_and_suspends(world):
    rest, cluster = world
    body = put(rest, spec={"suspend": False, "template": POD})
    cluster.stop_run(one(cluster).job, "any")
    assert body["spec"] == {"suspend": True, "template": POD}
    assert annotations(body)[HELD_AT] == f"2026-03-02T06:10:00Z {body['metadata']['uid']}"
    assert not one(cluster).job.spec.suspend, "it waits for us, not for its owner"


def test_in_a_queue_suspend_is_left_to_kueue(world):
    rest, cluster = world
    gates = {kueue.GATES: "other.example/gate,windward.dev/greenjob"}
    body = put(rest, labels=QUEUED, annotations=gates)
    workload = put_workload(rest, body["metadata"]["uid"])
    observed = one(cluster)
    assert not observed.released, "gated"
    cluster.create_run(RunFacts(observed.job, 1, NORTH))
    assert body["metadata"]["annotations"][kueue.GATES] == "other.example/gate", "another's gate stays"
    cluster.stop_run(observed.job, "any")
    assert workload["spec"]["active"] is False
    cluster.create_run(RunFacts(one(cluster).job, 2, NORTH))
    assert workload["spec"]["active"] is True
    assert body["spec"]["suspend"] is True
    assert HELD_AT not in annotations(body)


def test_a_workload_that_its_queue_may_start_is_held_until_its_window(world):
    rest, cluster = world
    body = put(rest, labels=QUEUED)
    workload = put_workload(rest, body["metadata"]["uid"])
    observed = one(cluster)
    assert observed.released
    cluster.hold(observed.job)
    assert workload["spec"]["active"] is False
    assert not one(cluster).released
    assert not one(cluster).job.spec.suspend


def test_what_an_administrator_deactivated_is_not_activated_by_us(world):
    rest, cluster = world
    body = put(rest, labels=QUEUED, annotations={HELD_AT: "2026-03-02T06:00:00Z another-uid"})
    workload = put_workload(rest, body["metadata"]["uid"], active=False)
    observed = one(cluster)
    assert observed.job.spec.suspend
    cluster.create_run(RunFacts(observed.job, 1, NORTH))
    assert workload["spec"]["active"] is False


def test_a_status_is_one_annotation_with_a_line_for_people_and_events_follow(world):
    rest, cluster = world
    body = put(rest)
    observed = one(cluster)
    summary = {"state": "Waiting", "reason": "CleanerWindow", "region": "north", "saved": "~38 %"}
    status = observed.job.status.model_validate(
        {"attempt": 0, "summary": summary, "plan": {"latestStart": "2026-03-02T13:00:00Z"}}
    )
    cluster.write_status(observed.job, status, [Event("Planned", "cleaner later")])
    told = annotations(body)
    assert told[SUMMARY] == "Waiting (CleanerWindow), in north, saves ~38 %"
    assert told[LATEST_START] == "2026-03-02T13:00:00Z"
    assert one(cluster).job.status == status
    (event,) = [b for place, b in rest.objects.items() if place.resource == "events"]
    assert (event["reason"], event["involvedObject"]["name"]) == ("Planned", "mnist")
    running = status.model_copy(update={"summary": status.summary.model_copy(update={"state": "Running"})})
    cluster.write_status(observed.job, running, [])
    assert LATEST_START not in annotations(body), "nothing is held"


@pytest.mark.parametrize(
    ("minutes", "latest", "status", "released"),
    [
        (10, "2026-03-02T06:09:59Z", "{}", True),
        (10, "2026-03-02T06:10:01Z", "{}", False),
        (10, "nonsense", "{}", False),
        (10, None, None, True),
        (4, None, None, False),
        (10, None, "{}", False),
    ],
)  # fmt: skip
def test_the_second_process_releases_what_is_overdue_and_what_nobody_planned(world, minutes, latest, status, released):
    rest, cluster = world
    words = {k: v for k, v in ((LATEST_START, latest), (STATUS, status)) if v is not None}
    made = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = put(rest, annotations=words, creationTimestamp=made)
    loop = ReleaseLoop(cluster.api, cluster.clock, cluster.reader)
    assert loop.look() == released
    assert body["spec"]["suspend"] is not released
    assert loop.look() == 0, "released once"


def test_one_object_that_cannot_be_released_keeps_no_other_from_it(world, monkeypatch):
    rest, cluster = world
    bodies = [put(rest, name, annotations={LATEST_START: "2026-03-02T06:00:00Z"}) for name in ("a", "b")]
    import windward.service.release as module

    real = module.release

    def fails_for_a(api, kind, body):
        if body["metadata"]["name"] == "a":
            raise RuntimeError("of this one")
        real(api, kind, body)

    monkeypatch.setattr(module, "release", fails_for_a)
    loop = ReleaseLoop(cluster.api, cluster.clock, cluster.reader)
    assert loop.look() == 1
    assert [b["spec"]["suspend"] for b in bodies] == [True, False]


def test_of_what_has_ended_no_pod_is_asked_for_and_its_runs_are_those_that_were_told(world):
    rest, cluster = world
    done = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-02T06:09:00Z"}
    body = put(rest, spec={"suspend": False, "template": POD})
    body["status"] = {"conditions": [done]}
    observed = one(cluster)
    run = {"name": "r", "attempt": 1, "region": "north", "phase": "Succeeded", "startedAt": "2026-03-02T06:01:00Z",
           "finishedAt": "2026-03-02T06:08:00Z", "exitCode": 0}  # fmt: skip
    status = observed.job.status.model_validate({"attempt": 1, "finishedAt": "2026-03-02T06:09:00Z", "runs": [run]})
    cluster.write_status(observed.job, status, [])
    rest.asked.clear()
    (only,) = one(cluster).runs
    assert (only.phase, only.started_at, only.finished_at) == (
        Phase.SUCCEEDED, datetime(2026, 3, 2, 6, 1, tzinfo=UTC), datetime(2026, 3, 2, 6, 8, tzinfo=UTC),
    )  # fmt: skip
    assert "pods" not in {a.resource for a in rest.asked}


def test_namespaces_are_read_one_by_one_while_they_are_few_and_all_at_once_when_they_are_many(world):
    rest, cluster = world
    put(rest)
    cluster.snapshot(REGIONS)
    assert Asked("get", "", "namespaces", "ml") in rest.asked
    for n in range(30):
        rest.put("", "namespaces", {"metadata": {"name": f"ns-{n}", "annotations": WORDS}})
        meta = {"name": "j", "namespace": f"ns-{n}", "labels": MANAGED, "annotations": {}}
        rest.put("batch", "jobs", {"metadata": meta, "spec": {"suspend": True, "template": POD}})
    rest.asked.clear()
    assert len(cluster.snapshot(REGIONS).jobs) == 31
    assert [a.verb for a in rest.asked if a.resource == "namespaces"] == ["list", "list"]


class Died(BaseException):
    """The operator dies here."""


@pytest.mark.parametrize("writes", range(4))
def test_whenever_a_start_dies_between_two_writes_the_next_one_finishes_it(world, monkeypatch, writes):
    """A Workload that we deactivated must never be left inactive without the note that it was us."""
    rest, cluster = world
    body = put(rest, labels=QUEUED, annotations={kueue.GATES: kueue.GATE})
    workload = put_workload(rest, body["metadata"]["uid"])
    cluster.hold(one(cluster).job)
    left, real = [writes], type(cluster.api).patch

    def patch(self, *args, **kwargs):
        if left[0] == 0:
            raise Died
        left[0] -= 1
        return real(self, *args, **kwargs)

    south = GreenRegion.model_validate({"metadata": {"name": "south"}, "spec": {"gridZone": "DE", "queue": "q-south"}})
    with monkeypatch.context() as dying:
        dying.setattr(type(cluster.api), "patch", patch)
        try:
            cluster.create_run(RunFacts(one(cluster).job, 1, south))
        except Died:
            assert not one(cluster).job.spec.suspend, "it would wait for somebody else for ever"
    cluster.create_run(RunFacts(one(cluster).job, 1, south))
    assert workload["spec"]["active"] is True
    assert not {HELD_AT, kueue.GATES} & body["metadata"]["annotations"].keys()
    assert body["metadata"]["labels"][kueue.LABEL_QUEUE] == "q-south"


def test_a_queue_label_without_kueue_and_a_namespace_that_is_gone_harm_nobody(world, monkeypatch):
    rest, cluster = world
    put(rest, "good")
    put(rest, "queued", labels=QUEUED)
    put(rest, "orphan", namespace="gone", annotations=WORDS)
    real = rest.answer

    def answer(method, url, sent):
        return (404, {"message": "no such kind"}) if "/kueue.x-k8s.io/" in url else real(method, url, sent)

    monkeypatch.setattr(rest, "answer", answer)
    assert keys(cluster) == ["gone/job/orphan", "ml/job/good", "ml/job/queued"]


def test_a_quota_that_cannot_be_read_bounds_nothing_and_stops_nobody(world, caplog):
    rest, cluster = world
    put(rest, labels=QUEUED)
    strange = {"resourceGroups": [{"flavors": [{"resources": [{"name": "cpu", "nominalQuota": "many"}]}]}]}
    rest.put("kueue.x-k8s.io", "clusterqueues", {"metadata": {"name": "cq"}, "spec": strange})
    region = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE", "queue": "team"}})
    snapshot = cluster.snapshot((region,))
    assert [o.key for o in snapshot.jobs] == ["ml/job/mnist"]
    assert snapshot.quotas == {}


@pytest.mark.parametrize(("jobs", "requests"), [(3, 3), (60, 1)])
def test_the_requests_for_pods_do_not_grow_with_the_workloads_of_a_tenant(world, jobs, requests):
    rest, cluster = world
    for n in range(jobs):
        body = put(rest, f"j{n}", spec={"suspend": False, "template": POD})
        uid = body["metadata"]["uid"]
        labels = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": f"j{n}"}
        meta = {"name": f"p{n}", "namespace": "ml", "labels": labels}
        meta["ownerReferences"] = [{"kind": "Job", "uid": uid, "controller": True}]
        running = [{"name": "c", "state": {"running": {"startedAt": "2026-03-02T06:05:00Z"}}}]
        rest.put("", "pods", {"metadata": meta, "spec": POD["spec"], "status": {"containerStatuses": running}})
    rest.asked.clear()
    runs = [o.runs for o in cluster.snapshot(REGIONS).jobs]
    assert [r[0].phase for r in runs] == [Phase.RUNNING] * jobs
    assert len([a for a in rest.asked if a.resource == "pods"]) == requests
