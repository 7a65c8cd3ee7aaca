"""`KubernetesCluster` knows engines by their port alone: a second one is listed, created and stopped like the first."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
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
LISTS = [Asked("list", OURS, kind, "") for kind in ("greencronjobs", "greenregions", "greenjobs")]


@pytest.fixture
def world():
    with serving() as (rest, api):
        yield rest, KubernetesCluster(api, FixedClock(NOW), RuntimeImage("w:1"), ("ml",))


def add(rest, name="night", **annotations):
    job = greenjob(metadata={"name": name, "uid": f"0badcafe-{name}", "annotations": annotations})
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
    assert requests(rest) == [*LISTS, Asked("list", "batch", "jobs", ""), Asked("list", "", "pods", "")]
    add_pod(rest, facts, "Job", f"jobs-{name}")
    assert phases(cluster) == {"night": [Phase.RUNNING]}
    requests(rest)
    get, pods = Asked("get", "batch", "jobs", name), Asked("list", "", "pods", "")
    cluster.stop_run(facts.job, name)
    assert requests(rest) == [
        get,
        Asked("patch", "batch", "jobs", name),
        pods,
        Asked("delete", "", "pods", f"{name}-x"),
    ]
    cluster.stop_run(facts.job, name)
    assert requests(rest) == [get, pods], "its pod has its grace period"
    assert phases(cluster) == {"night": [Phase.STOPPING]}


def test_a_job_without_a_pod_is_kept_from_starting(world):
    rest, cluster = world
    facts = add(rest)
    cluster.create_run(facts)
    requests(rest)
    cluster.stop_run(facts.job, facts.name)
    assert [a.verb for a in requests(rest)] == ["get", "patch", "list", "patch"]
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
    assert [a.verb for a in requests(rest)] == ["get"]


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
    lists = [Asked("list", "example.dev", "workloads", ""), Asked("list", "batch", "jobs", "")]
    assert requests(rest) == [*LISTS, *lists, Asked("list", "", "pods", "")]
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
    facts = add(rest, **{ASKED_FOR: "yes"})
    cluster.create_run(facts)
    cluster.create_run(facts)
    cluster.snapshot()
    cluster.stop_run(facts.job, facts.name)
    add_pod(rest, facts, engine.resource.kind, f"{engine.resource.plural}-{facts.name}")
    cluster.stop_run(facts.job, facts.name)
    asked = {(a.group, a.resource, a.verb) for a in requests(rest) if a.group != OURS}
    declared = {(r.group, r.resource, verb) for r in engine.rights for verb in r.verbs}
    assert asked == declared | {("", "pods", "list")}, "no right that is not used, no request without a right"


@pytest.mark.parametrize("module", [kubernetes, kube_runs])
def test_the_adapter_names_no_kind_of_workload(module):
    text = Path(module.__file__).read_text()
    assert not [word for word in ("batch", "render_job", "JobEngine", '"Job"', "engines.job") if word in text]
