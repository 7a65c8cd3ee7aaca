"""What each engine promises (`windward.cluster.engines.port`). A new one adds itself to ENGINES, and runs here."""

import copy
import json
from datetime import UTC, datetime

import pytest
from engines.fake_engine import ASKED_FOR, WorkloadEngine
from lifecycle.cases import greenjob

from windward.cluster.engines import ENGINES
from windward.cluster.engines.port import engine_of
from windward.cluster.kube_runs import is_child, runs_of
from windward.domain.run import Phase
from windward.manifests import RunFacts
from windward.manifests.pod import RuntimeImage, labels_of
from windward_api.greenregion import GreenRegion
from windward_api.pod_template import PodTemplate

NOW = datetime(2026, 3, 2, 6, 0, 1, tzinfo=UTC)
REGION = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE"}})
LEVELS = {"watts": 360, "levels": [{"name": "slow", "watts": 120, "duration": "4h"}]}
SIZED = {"name": "main", "image": "x", "command": ["true"], "resources": {"requests": {"cpu": "2", "amd.com/gpu": 1}}}
ALL = (*ENGINES, WorkloadEngine())
each = pytest.mark.parametrize("engine", ALL, ids=lambda e: e.resource.kind)


def facts(attempt=3, level="slow"):
    job = greenjob(power=LEVELS, template={"spec": {"containers": [SIZED]}}, metadata={"annotations": {ASKED_FOR: "1"}})
    return RunFacts(job, attempt, REGION, level=level)


def rendered(engine, **more):
    return engine.render(facts(**more), RuntimeImage("w:1"))


def stored(engine, **more):
    """An object as the API server would return it."""
    body = copy.deepcopy(rendered(engine, **more))
    body["metadata"] |= {"uid": "child-1", "creationTimestamp": "2026-03-02T06:00:00Z"}
    return body


def pod(engine, **meta):
    """A pod that runs, controlled by an object of the engine."""
    owner = {"kind": engine.resource.kind, "uid": "child-1", "controller": True}
    whole = {"name": "p", "uid": "pod-1", "namespace": "ml", "labels": labels_of(facts()), "ownerReferences": [owner]}
    running = {"name": "main", "state": {"running": {"startedAt": "2026-03-02T06:00:00Z"}}}
    spec = {"containers": [{"name": "main"}], "nodeName": "n1"}
    return {"metadata": whole | meta, "spec": spec, "status": {"phase": "Running", "containerStatuses": [running]}}


def templates(body):
    """All pod templates in an object."""
    if isinstance(body, dict):
        if "containers" in (body.get("spec") or {}):
            yield body
        else:
            for value in body.values():
                yield from templates(value)
    elif isinstance(body, list):
        for value in body:
            yield from templates(value)


def observed(engine, children=(), pods=(), **job):
    return runs_of(job_with(**job), {e: list(children) if e is engine else [] for e in ALL}, pods, {}, NOW)


def job_with(**status):
    job = facts().job
    return greenjob(status=status, power=LEVELS, template=job.spec.template, metadata={"annotations": {ASKED_FOR: ""}})


@each
def test_an_object_has_the_name_labels_and_owner_by_which_it_is_known(engine):
    body, known = rendered(engine), facts()
    meta = body["metadata"]
    assert (body["apiVersion"], body["kind"]) == (engine.resource.api_version, engine.resource.kind)
    assert (meta["name"], meta["namespace"]) == (known.name, "ml")
    assert labels_of(known).items() <= meta["labels"].items()
    assert is_child(known.job, body)
    (owner,) = meta["ownerReferences"]
    assert owner["blockOwnerDeletion"] is True, "the garbage collector deletes it with its GreenJob"


@each
def test_the_same_facts_give_the_same_object_and_the_greenjob_stays_as_it_was(engine):
    one = facts()
    before = one.job.model_dump()
    bodies = [engine.render(one, RuntimeImage("w:1")) for _ in range(2)]
    assert bodies[0] == bodies[1] and one.job.model_dump() == before
    assert rendered(engine, attempt=4)["metadata"]["name"] != bodies[0]["metadata"]["name"]
    json.dumps(bodies[0])


@each
def test_each_pod_is_labelled_keeps_the_contract_and_asks_no_more_than_the_planner_knows(engine):
    pods = list(templates(rendered(engine)))
    assert pods
    demand = engine.demand(facts().job.spec)
    assert demand["pods"] >= len(pods)
    for template in pods:
        assert labels_of(facts()).items() <= template["metadata"]["labels"].items()
        assert all("WINDWARD_RUN" in {e["name"] for e in c["env"]} for c in template["spec"]["containers"])
    asked = [PodTemplate.model_validate(t).spec.requests() for t in pods]
    for name in {n for one in asked for n in one}:
        assert sum(one.get(name, 0.0) for one in asked) <= demand[name]


@each
def test_an_object_that_was_just_created_is_a_run_that_starts(engine):
    (run,) = observed(engine, [stored(engine)])
    assert (run.attempt, run.region, run.level, run.uid) == (3, "north", "slow", "child-1")
    assert run.phase is Phase.STARTING and run.name == facts().name


@each
def test_what_may_still_compute_is_live(engine):
    """Otherwise another attempt would start beside it."""
    going = pod(engine, deletionTimestamp="2026-03-02T06:02:00Z")
    kept = {"name": facts().name, "attempt": 3, "uid": "child-1", "region": "north", "phase": "Running"}
    for children in ([stored(engine)], []):
        (run,) = observed(engine, children, [going], runs=[kept])
        assert run.phase.live


@each
def test_a_pod_belongs_to_an_object_by_its_controller_and_by_no_label(engine):
    assert engine.owner_uid(pod(engine)) == "child-1"
    assert engine.owner_uid(pod(engine, ownerReferences=[])) == ""
    stranger = {"kind": "CronTab", "uid": "child-1", "controller": True}
    assert engine.owner_uid(pod(engine, ownerReferences=[stranger])) == ""


@each
def test_rights_name_each_verb_and_cover_create_list_and_get(engine):
    verbs = {(r.group, r.resource, v) for r in engine.rights for v in r.verbs}
    group, plural = engine.resource.group, engine.resource.plural
    assert {(group, plural, v) for v in ("create", "get", "list")} <= verbs
    assert not any("*" in one for one in verbs)
    assert {r for _, r, _ in verbs}.isdisjoint({"secrets", "nodes", "serviceaccounts"})


def test_registered_engines_have_resources_of_their_own_and_run_every_greenjob():
    assert len({e.resource for e in ENGINES}) == len(ENGINES)
    assert engine_of(ENGINES, greenjob()) is not None
    assert engine_of(ENGINES, facts().job) is not None
