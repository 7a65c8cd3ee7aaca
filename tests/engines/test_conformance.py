"""What each engine promises (`windward.cluster.engines.port`). A new one adds itself to ENGINES, and runs here."""

import json

import pytest
from engines.bodies import NOON, WORKS, between, facts, labelled, pod, rendered, stored
from engines.fake_engine import ASKED_FOR, WorkloadEngine
from lifecycle.cases import greenjob

from windward.cluster.engines import ENGINES
from windward.cluster.engines.port import engine_of
from windward.cluster.kube_pods import ancestor_uid, controller_of
from windward.cluster.kube_runs import is_child, runs_of
from windward.domain.run import Phase
from windward.manifests.pod import LABEL_WORK, RuntimeImage, labels_of
from windward_api.kinds import KINDS
from windward_api.pod_template import PodTemplate

ALL = (*ENGINES, WorkloadEngine())
CASES = [(e, w) for e in ALL for w in WORKS if w == e.resource.kind or (w, e.resource.kind) == ("JobTemplate", "Job")]
each = pytest.mark.parametrize(("engine", "work"), CASES, ids=[w for _, w in CASES])
KEPT = {"name": facts().name, "attempt": 3, "uid": "child-1", "region": "north", "phase": "Running"}


def templates(body):
    """All pod templates in an object, and in a patch of a runtime what stands for one."""
    if isinstance(body, dict):
        if "containers" in (body.get("spec") or {}) or "nodeSelector" in (body.get("spec") or {}):
            yield body
        else:
            for value in body.values():
                yield from templates(value)
    elif isinstance(body, list):
        for value in body:
            yield from templates(value)


def controllers(engine):
    return {o["metadata"]["uid"]: controller_of(o["metadata"]) for _, o in between(engine)}


def observed(engine, work, children=(), pods=(), **status):
    job = greenjob(status=status, **({"template": None} | WORKS[work]))
    listed = {e: list(children) if e is engine else [] for e in ALL}
    return runs_of(job, listed, [labelled(p, work) for p in pods], {}, NOON, None, controllers(engine))


def test_each_kind_of_work_has_a_case():
    assert {k.field for k in KINDS} - {"train", "infer"} == {next(iter(w)) for w in WORKS.values()}


@each
def test_an_object_has_the_name_labels_and_owner_by_which_it_is_known(engine, work):
    body, known = rendered(engine, work), facts(work)
    meta = body["metadata"]
    assert (body["apiVersion"], body["kind"]) == (engine.resource.api_version, engine.resource.kind)
    assert (meta["name"], meta["namespace"]) == (known.name, "ml")
    assert labels_of(known).items() <= meta["labels"].items()
    assert meta["labels"][LABEL_WORK] == next(iter(WORKS[work]))
    assert is_child(known.job, body)
    (owner,) = meta["ownerReferences"]
    assert owner["blockOwnerDeletion"] is True, "the garbage collector deletes it with its GreenJob"


@each
def test_the_same_facts_give_the_same_object_and_the_greenjob_stays_as_it_was(engine, work):
    one = facts(work)
    before = one.job.model_dump()
    bodies = [engine.render(one, RuntimeImage("w:1")) for _ in range(2)]
    assert bodies[0] == bodies[1] and one.job.model_dump() == before
    assert rendered(engine, work, attempt=4)["metadata"]["name"] != bodies[0]["metadata"]["name"]
    json.dumps(bodies[0])


@each
def test_each_pod_is_labelled_and_on_the_nodes_of_its_region(engine, work):
    pods = list(templates(rendered(engine, work)))
    assert pods
    for template in pods:
        assert labels_of(facts(work)).items() <= template["metadata"]["labels"].items()
        assert template["spec"]["nodeSelector"] == {"zone": "north"}


@each
def test_each_container_keeps_the_contract_and_asks_no_more_than_the_planner_knows(engine, work):
    body = rendered(engine, work)
    demand = engine.demand(facts(work).job.spec)
    if work == "TrainJob":  # its containers are its runtime's
        environments, asked = [body["spec"]["trainer"]["env"]], []
    else:
        pods = list(templates(body))
        environments = [c["env"] for t in pods for c in t["spec"]["containers"]]
        asked = [PodTemplate.model_validate(t).spec.requests() for t in pods]
        assert demand["pods"] >= len(pods)
    assert all({"WINDWARD_RUN", "WINDWARD_REPORT_FILE"} <= {e["name"] for e in env} for env in environments)
    for name in {n for one in asked for n in one}:
        assert sum(one.get(name, 0.0) for one in asked) <= demand[name]


@each
def test_what_all_pods_are_told_of_power_is_what_was_declared_of_the_run(engine, work):
    body = rendered(engine, work)
    env = (
        body["spec"]["trainer"]["env"] if work == "TrainJob" else next(templates(body))["spec"]["containers"][0]["env"]
    )
    told = {e["name"]: e["value"] for e in env}
    together = 1 if engine.resource.kind == "Workload" else engine.demand(facts(work).job.spec)["pods"]
    assert float(told["WINDWARD_POWER_WATTS"]) * together == pytest.approx(120)


@each
def test_an_object_that_was_just_created_is_a_run_that_starts(engine, work):
    (run,) = observed(engine, work, [stored(engine, work)])
    assert (run.attempt, run.region, run.level, run.uid) == (3, "north", "slow", "child-1")
    assert run.phase is Phase.STARTING and run.name == facts(work).name


@each
def test_what_may_still_compute_is_live(engine, work):
    """Otherwise another attempt would start beside it."""
    going = pod(engine, running=1, deletionTimestamp="2026-03-02T12:02:00Z")
    for children in ([stored(engine, work)], []):
        (run,) = observed(engine, work, children, [going], runs=[KEPT])
        assert run.phase.live


@each
def test_a_pod_belongs_to_an_object_by_its_controllers_and_by_no_label(engine, work):
    def owner(**meta):
        return ancestor_uid(pod(engine, **meta), engine.pod_owners, controllers(engine))

    assert owner() == "child-1"
    assert owner(ownerReferences=[]) == ""
    assert owner(ownerReferences=[{"kind": "CronTab", "uid": "child-1", "controller": True}]) == ""


@each
def test_rights_name_each_verb_and_cover_create_list_and_get(engine, work):
    verbs = {(r.group, r.resource, v) for r in engine.rights for v in r.verbs}
    group, plural = engine.resource.group, engine.resource.plural
    assert {(group, plural, v) for v in ("create", "get", "list")} <= verbs
    assert not any("*" in one for one in verbs)
    assert {r for _, r, _ in verbs}.isdisjoint({"secrets", "nodes", "serviceaccounts"})


def test_registered_engines_have_resources_of_their_own_and_run_every_greenjob():
    assert len({e.resource for e in ENGINES}) == len(ENGINES)
    for work in WORKS:
        engine = engine_of(ENGINES, facts(work).job)
        assert engine is not None and engine.resource.kind == {"Workload": "Job", "JobTemplate": "Job"}.get(work, work)
    assert engine_of(ENGINES, greenjob(template=None, train={"steps": 1})) is not None


def test_another_engine_may_stand_before_them():
    job = greenjob(metadata={"annotations": {ASKED_FOR: "1"}})
    assert isinstance(engine_of((WorkloadEngine(), *ENGINES), job), WorkloadEngine)
