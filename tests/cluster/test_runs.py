"""Runs on real nodes: whose they are, that they ended, and what keeps them from getting on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from cluster.images import CHART
from cluster.kube import Cluster, Helm, Kube
from cluster.kube.client import wait_for
from cluster.kube.node import Node
from cluster.test_main_job import EXAMPLES, SYSTEM, children, conditions, kill_operator, recording, state, wait_ready

pytestmark = pytest.mark.cluster

IMAGE = "ghcr.io/windward-dev/windward-worker:0.1.0"
Body = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def operator(kube: Kube, cluster: Cluster, helm: Helm, nodes: dict[str, Node], release: str) -> Iterator[None]:
    kube.apply(recording(datetime.now(UTC)), *yaml.safe_load_all((EXAMPLES / "regions.yaml").read_text()))
    words = ("provider.trace.existingConfigMap=recording", "intervals.resync=2", "intervals.forecast=10")
    helm.install(release, CHART, SYSTEM, *[part for word in words for part in ("--set", word)], wait=False)
    wait_ready(kube)
    yield
    helm.install(release, CHART, SYSTEM, "--reset-values", wait=False)


def job(name: str, namespace: str, command: list[str], *, pod: Body | None = None, **spec: Any) -> Body:
    container = {"name": "main", "image": IMAGE, "command": command}
    body = {"terminationGracePeriodSeconds": 10, "containers": [container], **(pod or {})}
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"windward.dev/run-now": "true"}},
        "spec": {
            "completeWithin": "1h",
            "duration": "10m",
            "placement": {"regions": ["central"]},
            "interruption": {"policy": "Checkpoint", "overhead": "1s"},
            "template": {"spec": body},
            **spec,
        },
    }


def scale_operator(kube: Kube, replicas: int) -> None:
    kube.kubectl("scale", "deployment/windward", f"--replicas={replicas}", "-n", SYSTEM)
    if replicas == 0:
        pods: Callable[[], bool] = lambda: not kube.list("pods", SYSTEM, "app.kubernetes.io/name=windward")  # noqa: E731
        kill_operator(kube)
        wait_for("operator gone", pods, 60)
    else:
        wait_ready(kube)


def test_what_ends_well_while_it_is_paused_and_nobody_looks_is_done(kube: Kube, namespace: str) -> None:
    """The operator dies after it told a run to pause; the container finishes its work at that moment, and its pod is
    gone before anybody looks again."""
    command = ["sh", "-c", "trap 'echo finished; exit 0' TERM; while :; do sleep 0.1; done"]
    kube.apply(job("finisher", namespace, command))
    body = kube.wait("greenjob", "finisher", lambda one: state(one) == "Running", 60, namespace)
    (child,) = children(kube, namespace, body)
    scale_operator(kube, 0)
    told = {"windward.dev/paused-at": "2026-01-01T00:00:00Z"}  # its last deed, as `stop_run` does it
    kube.patch("job", child["metadata"]["name"], {"metadata": {"annotations": told}}, namespace)
    (pod,) = kube.list("pods", namespace)
    kube.delete("pod", pod["metadata"]["name"], namespace, wait=False)
    wait_for("pod gone", lambda: not kube.list("pods", namespace), 60)
    scale_operator(kube, 1)
    done = kube.wait("greenjob", "finisher", lambda one: state(one) in ("Complete", "Paused", "Running"), 90, namespace)
    assert state(done) == "Complete", kube.diagnose(namespace)
    assert [(r["attempt"], r["phase"]) for r in done["status"]["runs"]] == [(1, "Succeeded")]
    assert len(children(kube, namespace, done)) == 1, "its work was done again"


def test_a_foreign_job_with_a_copied_label_neither_ends_nor_stops_anything(kube: Kube, namespace: str) -> None:
    kube.apply(job("victim", namespace, ["sleep", "600"]))
    victim = kube.wait("greenjob", "victim", lambda one: state(one) == "Running", 60, namespace)
    (child,) = children(kube, namespace, victim)
    forged = {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "prod", "namespace": namespace, "labels": dict(child["metadata"]["labels"])},
        "spec": {"template": {
            "metadata": {"labels": dict(child["metadata"]["labels"])},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": IMAGE, "command": ["true"]}]},
        }},
    }  # fmt: skip
    forged["metadata"]["labels"].pop("batch.kubernetes.io/job-name", None)
    kube.create(forged)
    kube.wait("job", "prod", lambda one: one.get("status", {}).get("succeeded") == 1, 60, namespace)
    kube.patch("greenjob", "victim", {"spec": {"suspend": True}}, namespace)
    held = kube.wait("greenjob", "victim", lambda one: state(one) == "Held", 60, namespace)
    assert "Complete" not in conditions(held) and [r["attempt"] for r in held["status"]["runs"]] == [1]
    assert not kube.must_get("job", "prod", namespace)["spec"].get("suspend")
    kube.delete("greenjob", "victim", namespace)


UNSCHEDULABLE = {"nodeSelector": {"no": "such-node"}}
CLAIM = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "not-there"}}]}
SECRET = {
    "containers": [{"name": "main", "image": IMAGE, "command": ["true"], "envFrom": [{"secretRef": {"name": "x"}}]}]
}
BAD_IMAGE = {"containers": [{"name": "main", "image": "127.0.0.1:1/none:1", "command": ["true"]}]}


@pytest.mark.parametrize(
    ("name", "pod", "reason", "fix"),
    [
        ("unschedulable", UNSCHEDULABLE, "Unschedulable", "allow more regions"),
        ("claim", CLAIM, "ClaimMissing", "create the claim"),
        ("secret", SECRET, "ContainerConfigInvalid", "describe pod"),
        ("image", BAD_IMAGE, "ImagePullFailed", "name an image"),
    ],
)
def test_what_keeps_a_run_from_starting_is_told_within_half_a_minute(
    kube: Kube, namespace: str, name: str, pod: Body, reason: str, fix: str
) -> None:
    kube.apply(job(name, namespace, ["true"], pod=pod))
    body = kube.wait("greenjob", name, lambda one: conditions(one).get("Running", ("", ""))[1] == reason, 40, namespace)
    (told,) = [c for c in body["status"]["conditions"] if c["type"] == "Running"]
    assert fix in told["message"] and " since " in told["message"], told
    assert body["status"]["summary"]["reason"] == reason
    created = datetime.fromisoformat(children(kube, namespace, body)[0]["metadata"]["creationTimestamp"])
    assert (datetime.fromisoformat(told["lastTransitionTime"]) - created).total_seconds() <= 30
    kube.delete("greenjob", name, namespace)


def test_a_node_that_no_longer_answers_is_told_within_half_a_minute_and_its_run_goes_on(
    kube: Kube, namespace: str, nodes: dict[str, Node]
) -> None:
    """Kubernetes gives a node most of a minute to answer; from when it says so, it is told, and nothing runs twice."""
    kube.apply(job("cut-off", namespace, ["sleep", "3600"], placement={"regions": ["north"]}))
    running: Callable[[Body], bool] = lambda one: conditions(one).get("Running", ("", ""))[0] == "True"  # noqa: E731
    body = kube.wait("greenjob", "cut-off", running, 90, namespace)
    lost: Callable[[Body], bool] = lambda one: conditions(one).get("Running", ("", ""))[1] == "NodeLost"  # noqa: E731
    with nodes["north"].silent():
        body = kube.wait("greenjob", "cut-off", lost, 180, namespace)
        (told,) = [c for c in body["status"]["conditions"] if c["type"] == "Running"]
        assert "node north does not answer" in told["message"] and "describe node" in told["message"]
        (node,) = [n for n in kube.list("nodes") if n["metadata"]["name"] == "north"]
        (ready,) = [c for c in node["status"]["conditions"] if c["type"] == "Ready"]
        since = datetime.fromisoformat(told["lastTransitionTime"]) - datetime.fromisoformat(ready["lastTransitionTime"])
        assert since.total_seconds() <= 30
    body = kube.wait("greenjob", "cut-off", running, 90, namespace)
    assert body["status"]["attempt"] == 1 and len(children(kube, namespace, body)) == 1
    kube.delete("greenjob", "cut-off", namespace)


def test_work_that_one_region_has_no_place_for_is_placed_in_another(kube: Kube, namespace: str) -> None:
    """Nothing says that `full` has no node: only its pod does, by waiting."""
    kube.apply(
        {
            "apiVersion": "windward.dev/v1alpha1", "kind": "GreenRegion", "metadata": {"name": "full"},
            "spec": {"gridZone": "GB", "nodeSelector": {"no": "such-node"}},
        }
    )  # fmt: skip
    placement = {"regions": ["full", "central"], "home": "full"}
    body = job("mover", namespace, ["sleep", "2"], placement=placement, duration="5s", policy={"minSavingPercent": 99})
    kube.apply(body)
    done = kube.wait("greenjob", "mover", lambda one: state(one) == "Complete", 300, namespace)
    regions = [(r["region"], r["phase"]) for r in done["status"]["runs"]]
    assert regions in ([("full", "Paused"), ("central", "Succeeded")], [("central", "Succeeded")]), json.dumps(regions)
    kube.delete("greenregion", "full")


@pytest.mark.parametrize("name", ["a" * 74, "dots.in.a-name", "x" * 46 + "-.y" + "z" * 30])
def test_a_legal_name_of_any_length_and_shape_works(kube: Kube, namespace: str, name: str) -> None:
    name = name.replace("-.", "-a.")
    kube.apply(job(name, namespace, ["true"], duration="5s"))
    done = kube.wait("greenjob", name, lambda one: state(one) in ("Complete", "Failed"), 90, namespace)
    assert state(done) == "Complete", kube.diagnose(namespace)
    assert any(e["reason"] == "Complete" for e in kube.list("events", namespace))
