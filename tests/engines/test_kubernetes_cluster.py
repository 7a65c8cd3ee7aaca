"""`KubernetesCluster` knows engines by their port alone: a second one is listed, created and stopped like the first."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from engines.bodies import WORKS
from engines.fake_engine import ASKED_FOR, WorkloadEngine
from engines.rest_server import Asked, serving
from lifecycle.cases import greenjob

from windward.cluster import kube_runs, kubernetes
from windward.cluster.engines import ENGINES
from windward.cluster.kubernetes import KubernetesCluster
from windward.cluster.port import Refused
from windward.domain.clock import FixedClock
from windward.domain.run import Phase, run_name
from windward.lifecycle.work import work_of
from windward.manifests import RunFacts
from windward.manifests.pod import RuntimeImage
from windward_api.greenregion import GreenRegion

NOW = datetime(2026, 3, 2, 6, 0, 1, tzinfo=UTC)
REGION = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE"}})
OURS = "windward.dev"
CHILDREN = [
    Asked("list", "jobset.x-k8s.io", "jobsets", ""),
    Asked("list", "trainer.kubeflow.org", "trainjobs", ""),
    Asked("list", "batch", "jobs", ""),
]
LISTS = [Asked("list", OURS, kind, "") for kind in ("greencronjobs", "greenregions", "greenjobs")]


@pytest.fixture
def world():
    with serving() as (rest, api):
        yield rest, KubernetesCluster(api, FixedClock(NOW), RuntimeImage("w:1"), ("ml",))


def add(rest, name="night", work=None, **annotations):
    job = greenjob(**(work or {}), metadata={"name": name, "uid": f"0badcafe-{name}", "annotations": annotations})
    rest.put(OURS, "greenjobs", job.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_unset=True))
    return RunFacts(job, 1, REGION)


def add_pod(rest, facts, kind, uid):
    owner = {"kind": kind, "uid": uid, "controller": True}
    meta = {"name": f"{facts.name}-x", "namespace": "ml", "labels": {"windward.dev/job-uid": facts.job.metadata.uid}}
    running = {"name": "main", "state": {"running": {"startedAt": "2026-03-02T06:00:00Z"}}}
    status = {"phase": "Running", "containerStatuses": [running]}
    spec = {"containers": [{"name": "main"}]}
    return rest.put("", "pods", {"metadata": meta | {"ownerReferences": [owner]}, "spec": spec, "status": status})


def phases(cluster):
    return {o.job.metadata.name: [r.phase for r in o.runs] for o in cluster.snapshot().jobs}


def requests(rest):
    asked, rest.asked[:] = list(rest.asked), []
    return asked


def test_a_job_is_created_listed_and_stopped_by_these_requests(world):
    rest, cluster = world
    facts = add(rest)
    name = run_name("night", "0badcafe-night", 1)
    cluster.create_run(facts)
    assert requests(rest) == [Asked("create", "batch", "jobs", name)]
    cluster.create_run(facts)
    assert requests(rest) == [Asked("create", "batch", "jobs", name), Asked("get", "batch", "jobs", name)]
    assert phases(cluster) == {"night": [Phase.STARTING]}
    assert requests(rest) == [*LISTS, *CHILDREN, Asked("list", "", "pods", "")]
    add_pod(rest, facts, "Job", f"jobs-{name}")
    assert phases(cluster) == {"night": [Phase.RUNNING]}
    requests(rest)
    gets = [Asked("get", group, resource, name) for _, group, resource, _ in CHILDREN]
    pods = Asked("list", "", "pods", "")
    cluster.stop_run(facts.job, name)
    assert requests(rest) == [
        *gets,
        Asked("patch", "batch", "jobs", name),
        pods,
        Asked("delete", "", "pods", f"{name}-x"),
    ]
    cluster.stop_run(facts.job, name)
    assert requests(rest) == [*gets, pods], "its pod has its grace period"
    assert phases(cluster) == {"night": [Phase.STOPPING]}


def test_a_job_without_a_pod_is_kept_from_starting(world):
    rest, cluster = world
    facts = add(rest)
    cluster.create_run(facts)
    requests(rest)
    cluster.stop_run(facts.job, facts.name)
    assert [a.verb for a in requests(rest)] == ["get", "get", "get", "patch", "list", "patch"]
    assert phases(cluster) == {"night": [Phase.PAUSED]}
    cluster.stop_run(facts.job, "no-such-run")
    assert [a.verb for a in requests(rest)][-1] == "get"


def test_a_stranger_of_the_same_name_is_neither_taken_nor_stopped(world):
    rest, cluster = world
    facts = add(rest)
    rest.put("batch", "jobs", {"metadata": {"name": facts.name, "namespace": "ml"}, "spec": {}})
    with pytest.raises(Refused, match=f"Job {facts.name} belongs to somebody else: delete or rename it"):
        cluster.create_run(facts)
    requests(rest)
    cluster.stop_run(facts.job, facts.name)
    assert {a.verb for a in requests(rest)} == {"get"}


def test_storage_that_no_pod_has_is_refused_and_nothing_created(world):
    rest, cluster = world
    job = greenjob(template=None, train={"steps": 1}, storage={"uri": "file:///data"})
    with pytest.raises(Refused, match=r"^spec\.storage\.uri: a pod of train keeps no files: name s3://"):
        cluster.create_run(RunFacts(job, 1, REGION))
    assert requests(rest) == []


@pytest.fixture
def two(world):
    rest, cluster = world
    return rest, KubernetesCluster(cluster.api, cluster.clock, cluster.runtime, ("ml",), (WorkloadEngine(), *ENGINES))


def test_a_second_engine_is_created_listed_and_stopped_through_the_port_alone(two):
    rest, cluster = two
    plain, other = add(rest), add(rest, "odd", **{ASKED_FOR: "yes"})
    cluster.create_run(plain)
    cluster.create_run(other)
    assert requests(rest) == [
        Asked("create", "batch", "jobs", plain.name),
        Asked("create", "example.dev", "workloads", other.name),
    ]
    cluster.create_run(other)
    assert [a.verb for a in requests(rest)] == ["create", "get"], "one of ours that exists already is success"
    assert phases(cluster) == {"night": [Phase.STARTING], "odd": [Phase.STARTING]}
    lists = [Asked("list", "example.dev", "workloads", "")]
    assert requests(rest) == [*LISTS, *lists, *CHILDREN, Asked("list", "", "pods", "")]
    cluster.stop_run(other.job, other.name)
    assert Asked("patch", "example.dev", "workloads", other.name) in requests(rest)
    assert phases(cluster) == {"night": [Phase.STARTING], "odd": [Phase.PAUSED]}
    cluster.stop_run(plain.job, plain.name)
    assert phases(cluster) == {"night": [Phase.PAUSED], "odd": [Phase.PAUSED]}


def test_the_planner_hears_what_the_engine_holds_of_a_region(two):
    rest, cluster = two
    add(rest), add(rest, "odd", **{ASKED_FOR: "yes"})
    held = {o.job.metadata.name: work_of(o, NOW).demand for o in cluster.snapshot().jobs}
    assert held == {"night": {"pods": 1.0}, "odd": {"pods": 2.0}}


def test_a_run_is_observed_by_the_engine_that_rendered_it_whatever_its_greenjob_asks_now(two):
    """Otherwise it would count as lost, and another one would start beside it."""
    rest, cluster = two
    facts = add(rest, "odd", **{ASKED_FOR: "yes"})
    cluster.create_run(facts)
    add(rest, "odd")
    assert phases(cluster) == {"odd": [Phase.STARTING]}
    cluster.stop_run(facts.job, facts.name)
    assert phases(cluster) == {"odd": [Phase.PAUSED]}


def test_the_end_of_a_pod_is_remembered_for_each_engine(two):
    """A pod that is paused is gone soon after its last words."""
    rest, cluster = two
    facts = add(rest)
    cluster.create_run(facts)
    pod = add_pod(rest, facts, "Job", f"jobs-{facts.name}")
    pod["status"]["containerStatuses"] = [{"name": "main", "state": {"terminated": {"exitCode": 0}}}]
    assert phases(cluster) == {"night": [Phase.SUCCEEDED]}
    rest.objects = {at: body for at, body in rest.objects.items() if at.resource != "pods"}
    assert phases(cluster) == {"night": [Phase.SUCCEEDED]}


def test_work_that_no_engine_runs_is_refused(world):
    rest, cluster = world
    alone = KubernetesCluster(cluster.api, cluster.clock, cluster.runtime, ("ml",), (WorkloadEngine(),))
    with pytest.raises(Refused, match="no engine of this operator"):
        alone.create_run(add(rest))
    assert phases(alone) == {"night": []}


@pytest.mark.parametrize("engine", (WorkloadEngine(), *ENGINES), ids=lambda e: e.resource.kind)
def test_what_is_asked_of_the_api_server_is_within_the_rights_that_the_engine_declares(world, engine):
    rest, cluster = world
    cluster = KubernetesCluster(cluster.api, cluster.clock, cluster.runtime, ("ml",), (engine,))
    work = {"template": None} | WORKS[engine.resource.kind]
    facts = add(rest, work=work, **{ASKED_FOR: "yes"})
    cluster.create_run(facts)
    cluster.create_run(facts)
    cluster.snapshot()
    cluster.stop_run(facts.job, facts.name)
    add_pod(rest, facts, engine.resource.kind, f"{engine.resource.plural}-{facts.name}")
    cluster.stop_run(facts.job, facts.name)
    asked = {(a.group, a.resource, a.verb) for a in requests(rest) if a.group != OURS}
    declared = {(r.group, r.resource, verb) for r in engine.rights for verb in r.verbs}
    assert asked == declared | {("", "pods", "list")}, "no right that is not used, no request without a right"


@pytest.mark.parametrize("work", ["JobTemplate", "JobSet", "TrainJob"])
def test_a_group_is_suspended_by_one_write_that_says_who_did_it(world, work):
    rest, cluster = world
    facts = add(rest, work={"template": None} | WORKS[work])
    cluster.create_run(facts)
    cluster.stop_run(facts.job, facts.name)
    writes = [a for a in requests(rest) if a.verb == "patch"]
    assert len(writes) == 1
    (body,) = [b for at, b in rest.objects.items() if at.name == facts.name and at.group == writes[0].group]
    assert body["spec"]["suspend"] is True
    assert body["metadata"]["annotations"]["windward.dev/paused-at"] == "2026-03-02T06:00:01Z"
    cluster.stop_run(facts.job, facts.name)
    assert not [a for a in requests(rest) if a.verb == "patch"], "once is enough"


def test_a_kind_that_the_cluster_does_not_know_harms_nobody_elses_work(world):
    rest, cluster = world
    rest.absent = {"jobsets", "trainjobs"}
    facts = add(rest, "odd", work={"template": None} | WORKS["JobSet"])
    with pytest.raises(Refused, match=r"this cluster knows no JobSet of jobset\.x-k8s\.io: install its controller"):
        cluster.create_run(facts)
    cluster.create_run(add(rest))
    assert phases(cluster) == {"odd": [], "night": [Phase.STARTING]}


def test_the_ends_of_all_pods_of_a_group_are_remembered_through_the_objects_between(world):
    """Pods of a JobSet belong to its Jobs; a watch sees their ends, and they are gone soon after."""
    rest, cluster = world
    facts = add(rest, work={"template": None} | WORKS["JobSet"])
    cluster.create_run(facts)
    uid = f"jobsets-{facts.name}"
    labels = {"windward.dev/job-uid": facts.job.metadata.uid}
    owners = [{"kind": "JobSet", "uid": uid, "controller": True}]
    meta = {"name": "j", "namespace": "ml", "uid": "job-1", "labels": labels, "ownerReferences": owners}
    rest.put("batch", "jobs", {"metadata": meta, "spec": {}})
    pod = add_pod(rest, facts, "Job", "job-1")
    assert phases(cluster) == {"night": [Phase.RUNNING]}
    ended = {"exitCode": 75, "startedAt": "2026-03-02T06:00:00Z", "finishedAt": "2026-03-02T06:00:01Z"}
    pod["status"]["containerStatuses"] = [{"name": "main", "state": {"terminated": ended}}]
    cluster.snapshot()
    rest.objects = {at: body for at, body in rest.objects.items() if at.resource != "pods"}
    (child,) = [b for at, b in rest.objects.items() if at.resource == "jobsets"]
    child["spec"]["suspend"] = True
    child["status"] = {"conditions": [{"type": "Suspended", "status": "True"}]}
    (run,) = cluster.snapshot().jobs[0].runs
    assert (run.phase, run.exit_code) == (Phase.PAUSED, 75)
    rest.objects = {at: body for at, body in rest.objects.items() if at.resource not in ("jobs", "jobsets")}
    cluster.snapshot()
    assert not cluster._memory.ends(), "nothing is kept of what is gone"


def test_pods_that_end_after_all_that_is_above_them_was_deleted_keep_their_run_live(world):
    """Otherwise another attempt would start beside them. The status knows the uid of the JobSet alone."""
    rest, cluster = world
    facts = add(rest, work={"template": None} | WORKS["JobSet"])
    cluster.create_run(facts)
    uid = f"jobsets-{facts.name}"
    labels = {"windward.dev/job-uid": facts.job.metadata.uid}
    owners = [{"kind": "JobSet", "uid": uid, "controller": True}]
    meta = {"name": "j", "namespace": "ml", "uid": "job-1", "labels": labels, "ownerReferences": owners}
    rest.put("batch", "jobs", {"metadata": meta, "spec": {}})
    add_pod(rest, facts, "Job", "job-1")
    assert phases(cluster) == {"night": [Phase.RUNNING]}
    kept = {"name": facts.name, "attempt": 1, "uid": uid, "region": "north", "phase": "Running"}
    (job,) = [b for at, b in rest.objects.items() if at.resource == "greenjobs"]
    job["status"] = {"attempt": 1, "runs": [kept]}
    rest.objects = {at: body for at, body in rest.objects.items() if at.resource not in ("jobs", "jobsets")}
    for _ in range(2):
        assert phases(cluster) == {"night": [Phase.STOPPING]}
    rest.objects = {at: body for at, body in rest.objects.items() if at.resource != "pods"}
    assert not phases(cluster)["night"][0].live


@pytest.mark.parametrize("module", [kubernetes, kube_runs])
def test_the_adapter_names_no_kind_of_workload(module):
    text = Path(module.__file__).read_text()
    assert not [word for word in ("batch", "render_job", "JobEngine", '"Job"', "engines.job") if word in text]
