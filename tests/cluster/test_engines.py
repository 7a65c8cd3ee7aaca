"""GreenJobs that run as groups of pods, with real JobSet and Trainer on a real node: started, paused, resumed, done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from cluster.images import CHART
from cluster.kube import Cluster, Helm, Kube, RunningEngines
from cluster.kube.node import Node
from cluster.test_main_job import EXAMPLES, SYSTEM, recording, state, wait_ready
from cluster.test_managed import pod, runtime

from windward.tools.verify import verify

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]  # with a build of the engines, where it goes on

Body = dict[str, Any]
SECONDS_OF_WORK = 45
KINDS = {"job": "jobs", "jobset": "jobsets", "trainjob": "trainjobs"}


@pytest.fixture(scope="module", autouse=True)
def operator(
    kube: Kube, cluster: Cluster, engines: RunningEngines, helm: Helm, nodes: dict[str, Node], release: str
) -> Iterator[None]:
    """The chart told to read a recording and to look often."""
    kube.apply(recording(datetime.now(UTC)), *yaml.safe_load_all((EXAMPLES / "regions.yaml").read_text()))
    words = ("provider.trace.existingConfigMap=recording", "intervals.resync=2", "intervals.forecast=10")
    helm.install(release, CHART, SYSTEM, *[part for word in words for part in ("--set", word)], wait=False)
    wait_ready(kube)
    yield
    helm.install(release, CHART, SYSTEM, "--reset-values", wait=False)


def template(name: str) -> Body:
    """Pods that keep the pause contract and count in a file that outlives them; where they run, Windward says."""
    spec = pod(name, SECONDS_OF_WORK)
    del spec["nodeSelector"]
    return {"spec": spec}


def green_job(name: str, field: str, body: Body) -> Body:
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": name, "annotations": {"windward.dev/run-now": "true"}},
        "spec": {
            "completeWithin": "1h", "duration": "10m", "placement": {"regions": ["north"]}, "power": {"watts": 900},
            "interruption": {"policy": "Checkpoint", "overhead": "1s"}, field: {"spec": body},
        },
    }  # fmt: skip


def works() -> dict[str, tuple[str, Body]]:
    """A GreenJob of each kind, by the kind of its child."""
    indexed = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "template": template("job")}
    replicated = {"name": "w", "replicas": 2, "template": {"spec": {"template": template("set")}}}
    trainer = {"numNodes": 2, "resourcesPerNode": {"requests": {"cpu": "50m"}}}
    train = {"runtimeRef": {"name": "torch", "kind": "TrainingRuntime"}, "trainer": trainer}
    return {
        "job": ("jobTemplate", indexed),
        "jobset": ("jobSetTemplate", {"replicatedJobs": [replicated]}),
        "trainjob": ("trainJobTemplate", train),
    }


def test_each_kind_of_group_runs_is_paused_and_resumed_and_completes_with_a_receipt(
    kube: Kube, cluster: Cluster, namespace: str
) -> None:
    cluster.storage(namespace, "scratch")
    spec = template("train")["spec"]
    kube.apply(runtime("torch", spec), namespace=namespace)
    kube.create(*(green_job(kind, *work) for kind, work in works().items()), namespace=namespace)

    def wait(kind: str, word: str) -> Body:
        return kube.wait("greenjob", kind, lambda one: state(one) == word, 180, namespace)

    def child(kind: str, uid: str, attempt: int) -> Body:
        selector = f"windward.dev/job-uid={uid},windward.dev/attempt={attempt}"
        (one,) = [
            c for c in kube.list(KINDS[kind], namespace, selector)
            if c["metadata"]["ownerReferences"][0]["kind"] == "GreenJob"
        ]  # fmt: skip
        return one

    uids = {kind: wait(kind, "Running")["metadata"]["uid"] for kind in works()}
    for kind, uid in uids.items():
        pods = kube.list("pods", namespace, f"windward.dev/job-uid={uid}")
        assert len(pods) == 2 and {p["spec"]["nodeName"] for p in pods} == {"north"}, kube.diagnose(namespace)
        assert child(kind, uid, 1)["metadata"]["name"].endswith("-1")
    for kind in uids:
        kube.patch("greenjob", kind, {"spec": {"suspend": True}}, namespace)
    for kind, uid in uids.items():
        runs = wait(kind, "Held")["status"]["runs"]
        assert [(r["phase"], r.get("exitCode")) for r in runs] == [("Paused", 75)], (kind, runs)
        assert child(kind, uid, 1)["spec"]["suspend"] is True
    for kind in uids:
        kube.patch("greenjob", kind, {"spec": {"suspend": False}}, namespace)
    for kind, uid in uids.items():
        done = wait(kind, "Complete")["status"]
        assert [r["phase"] for r in done["runs"]] == ["Paused", "Succeeded"], (kind, done["runs"])
        assert float(done["accounting"]["energyJoules"]) > 0
        assert child(kind, uid, 2)["metadata"]["uid"] != child(kind, uid, 1)["metadata"]["uid"]
    for log in sorted((cluster.folder / "storage" / namespace / "scratch").glob("*.log")):
        words = [line.split()[0] for line in log.read_text().splitlines()]
        assert words == ["start", "paused", "start", "done"], (log.name, words)
    export = kube.kubectl("exec", "-n", SYSTEM, "deploy/windward", "--", "windward", "report", "--export", "-").stdout
    assert verify(json.loads(export)) == []
