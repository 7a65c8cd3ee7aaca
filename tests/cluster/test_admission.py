"""Who may submit a GreenJob: nobody gets pods by one that he could not have had without."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from cluster.images import CHART
from cluster.kube import Helm, Kube
from cluster.kube.client import Refused, wait_for

pytestmark = pytest.mark.cluster

GREEN = {
    "apiGroups": ["windward.dev"],
    "resources": ["greenjobs", "greencronjobs"],
    "verbs": ["create", "get", "patch"],
}
GROUPS = {  # field -> what runs it, where its pods' specs stand
    "jobTemplate": ("batch", "jobs", "spec.template.spec"),
    "jobSetTemplate": ("jobset.x-k8s.io", "jobsets", "spec.replicatedJobs.template.spec.template.spec"),
    "trainJobTemplate": ("trainer.kubeflow.org", "trainjobs", "spec.runtimePatches.spec"),
}
JOBS = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}
USE = {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["builder"], "verbs": ["use"]}
IMPERSONATE = {**USE, "verbs": ["impersonate"]}


def user(kube: Kube, namespace: str, name: str, *rules: dict[str, Any]) -> Kube:
    """A user with these rights in the namespace."""
    metadata = {"name": name, "namespace": namespace}
    api = "rbac.authorization.k8s.io"
    subject = {"kind": "User", "name": name, "apiGroup": api}
    binding = {"roleRef": {"kind": "Role", "name": name, "apiGroup": api}, "subjects": [subject]}
    kube.apply(
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)},
        {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": metadata, **binding},
    )
    return kube.as_user(name, "system:authenticated")


def groups(*pods: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of specs that ask for groups of pods, the last of several templates being these pods."""
    specs = [{"containers": [{"name": "main", "image": "x"}], **pod} for pod in ({}, *pods)]
    jobs = [{"name": f"j{i}", "template": {"spec": {"template": {"spec": s}}}} for i, s in enumerate(specs)]
    runtime = {"template": {"spec": {"replicatedJobs": [{**j, "name": "node"} for j in jobs[1:]]}}}
    patches = [{"manager": "a.example/x"}, {"manager": "b.example/x", "trainingRuntimeSpec": runtime}]
    return {
        "jobTemplate": {"spec": {"template": {"spec": specs[-1]}}},
        "jobSetTemplate": {"spec": {"replicatedJobs": jobs}},
        "trainJobTemplate": {"spec": {"runtimeRef": {"name": "torch"}, "runtimePatches": patches}},
    }


def green_job(namespace: str, pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "main", "image": "x"}], **(pod or {})}}
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": f"job-{uuid.uuid4().hex[:6]}", "namespace": namespace},
        "spec": {
            "completeWithin": "8h",
            "duration": "1h",
            "suspend": True,
            "placement": {"regions": ["north"], "home": "north"},
            **({"template": template} if not {"train", "infer", *GROUPS} & spec.keys() else {}),
            **spec,
        },
    }


def green_cron_job(namespace: str, pod: dict[str, Any] | None = None) -> dict[str, Any]:
    job = green_job(namespace, pod)
    spec = {key: value for key, value in job["spec"].items() if key not in {"suspend", "completeWithin"}}
    return {
        **job,
        "kind": "GreenCronJob",
        "spec": {"schedule": "0 1 * * *", "window": "6h", "jobTemplate": {"spec": spec}},
    }


@pytest.fixture(scope="module", autouse=True)
def policy(kube: Kube, release: str) -> None:
    """Policies speak a moment after they are written."""
    kube.namespace("admission")
    nobody = user(kube, "admission", "nobody", GREEN)

    def speaks() -> bool:
        try:
            nobody.apply(green_job("admission"), dry_run=True)
        except Refused as refused:
            return "may not create jobs" in refused.text
        return False

    wait_for("admission policy in force", speaks, 30)


def test_a_right_to_green_jobs_alone_gives_no_pods(kube: Kube, namespace: str) -> None:
    alice = user(kube, namespace, "alice", GREEN)
    said = alice.refusal(green_job(namespace))
    assert f"spec.template: user alice may not create jobs in namespace {namespace}" in said


def test_our_own_runtime_is_no_way_round(kube: Kube, namespace: str) -> None:
    alice = user(kube, namespace, "alice", GREEN)
    said = alice.refusal(green_job(namespace, train={"data": {"corpus": "python-stdlib"}, "steps": 10}))
    assert f"spec.train: user alice may not create jobs in namespace {namespace}" in said


def test_a_schedule_is_no_way_round(kube: Kube, namespace: str) -> None:
    alice = user(kube, namespace, "alice", GREEN)
    said = alice.refusal(green_cron_job(namespace))
    assert f"spec.jobTemplate.spec.template: user alice may not create jobs in namespace {namespace}" in said


@pytest.mark.parametrize("field", GROUPS)
def test_a_group_needs_the_right_to_create_what_runs_it_and_to_use_its_account(
    kube: Kube, namespace: str, field: str
) -> None:
    group, resource, at = GROUPS[field]
    others = [{"apiGroups": [g], "resources": [r], "verbs": ["create"]} for g, r, _ in GROUPS.values() if r != resource]
    alice = user(kube, namespace, "alice", GREEN, *others)
    said = alice.refusal(green_job(namespace, **{field: groups({})[field]}))
    assert f"spec.{field}: user alice may not create {resource} in namespace {namespace}" in said
    bob = user(kube, namespace, "bob", GREEN, {"apiGroups": [group], "resources": [resource], "verbs": ["create"]}, USE)
    bob.apply(green_job(namespace, **{field: groups({})[field]}))
    bob.apply(green_job(namespace, **{field: groups({"serviceAccountName": "builder"})[field]}))
    said = bob.refusal(green_job(namespace, **{field: groups({"serviceAccount": "other"})[field]}))
    sentence = f"spec.{field}.{at}.serviceAccountName: user bob may not use service account other in namespace "
    assert sentence + namespace in said
    if field != "jobTemplate":
        both = groups({"serviceAccountName": "builder"}, {"serviceAccountName": "other"})
        assert "several are named; use one" in bob.refusal(green_job(namespace, **{field: both[field]}))


def test_rights_elsewhere_do_not_count(kube: Kube, namespace: str) -> None:
    user(kube, "admission", "carol", GREEN, JOBS)
    carol = user(kube, namespace, "carol", GREEN)
    assert "user carol may not create jobs" in carol.refusal(green_job(namespace))


@pytest.mark.parametrize("make", [green_job, green_cron_job])
def test_who_may_create_jobs_may_submit(kube: Kube, namespace: str, make: Any) -> None:
    bob = user(kube, namespace, "bob", GREEN, JOBS)
    bob.apply(make(namespace))
    bob.apply(make(namespace, {"serviceAccountName": "default"}))


@pytest.mark.parametrize("field", ["serviceAccountName", "serviceAccount"])
@pytest.mark.parametrize("make", [green_job, green_cron_job])
def test_another_account_must_be_his_to_use(kube: Kube, namespace: str, make: Any, field: str) -> None:
    bob = user(kube, namespace, "bob", GREEN, JOBS)
    said = bob.refusal(make(namespace, {field: "builder"}))
    sentence = f"spec.template.spec.serviceAccountName: user bob may not use service account builder in {'namespace'} "
    assert sentence + namespace in said


@pytest.mark.parametrize("right", [USE, IMPERSONATE], ids=["use", "impersonate"])
def test_an_account_that_is_his_to_use_is_taken(kube: Kube, namespace: str, right: dict[str, Any]) -> None:
    bob = user(kube, namespace, "bob", GREEN, JOBS, right)
    bob.apply(green_job(namespace, {"serviceAccountName": "builder"}))
    assert "service account other" in bob.refusal(green_job(namespace, {"serviceAccountName": "other"}))


def test_a_change_is_judged_like_a_creation(kube: Kube, namespace: str) -> None:
    alice = user(kube, namespace, "alice", GREEN)
    body = green_job(namespace)
    name = body["metadata"]["name"]
    kube.apply(body)
    with pytest.raises(Refused, match="user alice may not create jobs"):
        alice.patch("greenjob", name, {"spec": {"suspend": False}}, namespace)
    # What is not the spec gives nobody a pod; controllers that may create nothing change it.
    alice.patch("greenjob", name, {"metadata": {"labels": {"seen": "yes"}}}, namespace)


OPERATOR = "system:serviceaccount:windward-system:windward"


def owned(body: dict[str, Any], kind: str, uid: str = "") -> dict[str, Any]:
    """As a child that a controller made; what is not there need not be when it is created, and then it goes again."""
    owner = {"apiVersion": "windward.dev/v1alpha1", "kind": kind, "name": "x", "uid": uid or str(uuid.uuid4())}
    body["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    return body


def batch_job(namespace: str) -> dict[str, Any]:
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}}
    meta = {"name": f"child-{uuid.uuid4().hex[:6]}", "namespace": namespace}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"suspend": True, "template": pod}}


def test_the_operator_creates_what_a_schedule_asks_for(kube: Kube, namespace: str, release: str) -> None:
    operator = kube.as_user(OPERATOR, "system:authenticated")
    operator.create(owned(green_job(namespace, {"serviceAccountName": "builder"}), "GreenCronJob"))
    with pytest.raises(Refused, match="children of a GreenCronJob"):
        operator.create(green_job(namespace))


def test_the_operator_makes_and_changes_only_children_of_green_jobs(kube: Kube, namespace: str, release: str) -> None:
    """Whatever a fault or a stolen token asks for: no Job of others, none in kube-system, nothing but suspend."""
    operator = kube.as_user(OPERATOR, "system:authenticated")
    with pytest.raises(Refused, match="children of a GreenJob"):
        operator.create(batch_job(namespace))
    with pytest.raises(Refused, match="touches nothing in namespace kube-system"):
        operator.create(owned(batch_job("kube-system"), "GreenJob"))
    prod = batch_job(namespace)
    kube.create(prod)
    with pytest.raises(Refused, match="children of a GreenJob"):
        operator.patch("job", prod["metadata"]["name"], {"spec": {"suspend": False}}, namespace)
    container = {"name": "main", "image": "x"}
    meta = {"name": "stray", "namespace": namespace, "labels": {"windward.dev/job-uid": "copied"}}
    stray = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
    kube.create(stray)
    parent = green_job(namespace)
    kube.apply(parent)
    found = kube.must_get("greenjob", parent["metadata"]["name"], namespace)
    mine = owned(batch_job(namespace), "GreenJob", found["metadata"]["uid"])
    mine["metadata"]["ownerReferences"][0]["name"] = parent["metadata"]["name"]
    operator.create(mine)
    name = mine["metadata"]["name"]
    operator.patch("job", name, {"spec": {"suspend": False}}, namespace)
    with pytest.raises(Refused, match="children of a Job"):
        operator.delete("pod", stray["metadata"]["name"], namespace)
    with pytest.raises(Refused, match=r"nothing of a workload but spec\.suspend"):
        operator.patch("job", name, {"metadata": {"labels": {"a": "b"}}}, namespace)


REACHING_OUT = {
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "shareProcessNamespace": {"shareProcessNamespace": True},
    "ephemeralContainers": {"ephemeralContainers": [{"name": "e", "image": "x"}]},
    "volumes": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    "privileged": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
    "initContainers": {"initContainers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
    "procMount": {"containers": [{"name": "c", "image": "x", "securityContext": {"procMount": "Unmasked"}}]},
    "hostPort": {"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
}


@pytest.fixture
def narrowed(kube: Kube, helm: Helm, release: str) -> Any:
    helm.install(release, CHART, "windward-system", "--set", "admissionPolicy.restrictTemplates=true", wait=False)
    kube.namespace("admission")

    def speaks() -> bool:
        try:
            kube.apply(green_job("admission", {"hostNetwork": True}), dry_run=True)
        except Refused:
            return True
        return False

    wait_for("narrowed policy in force", speaks, 30)
    yield
    helm.install(release, CHART, "windward-system", wait=False)


def test_an_administrator_can_narrow_what_templates_say(kube: Kube, namespace: str, narrowed: None) -> None:
    for word, pod in REACHING_OUT.items():
        for make, path in ((green_job, "spec.template"), (green_cron_job, "spec.jobTemplate.spec.template")):
            said = kube.refusal(make(namespace, pod))
            assert f"{path}.spec." in said
            assert "is not allowed in this cluster" in said, word
        for field, body in groups(pod).items():
            assert f"spec.{field}.{GROUPS[field][2]}." in kube.refusal(green_job(namespace, **{field: body})), word
    kube.apply(green_job(namespace, {"securityContext": {"runAsNonRoot": True}}))
