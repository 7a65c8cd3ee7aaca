"""The main job on a real cluster: the examples as users apply them, the operator as the chart installs it.

Only time is shrunk: hours to seconds, two thousand steps of a six-layer model to as many of a tiny one, and a recording
of the grid whose periods are minutes. Pods, nodes, the pause by SIGTERM, the move to another region, the volume, the
model and the accounts are real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.images import CHART
from cluster.kube import Cluster, Helm, Kube
from cluster.kube.client import wait_for
from cluster.kube.node import Node
from receipts import entry, faults_of

from windward.tools.verify import verify

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SYSTEM = "windward-system"
Body = dict[str, Any]


def recording(start: datetime) -> Body:
    """A grid for this test, by the minute: north is clean for 80 to 140 seconds from `start`, central from a minute
    later on; at other times both are dirty."""
    rows = ["zone,timestamp_utc,carbon_intensity_gco2_kwh"]
    turns = (start + timedelta(seconds=140)).replace(second=0, microsecond=0)
    for minute in range(-30, 120):
        at = turns + timedelta(minutes=minute)
        north, central = (20, 900) if minute < 0 else (900, 100 if minute >= 1 else 900)
        rows += [f"GB,{at:%Y-%m-%dT%H:%M:%SZ},{north}", f"DE,{at:%Y-%m-%dT%H:%M:%SZ},{central}"]
    kind = {"signal": "Average", "scope": "LifeCycle", "basis": "Consumption", "attribution": "made for a test"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "recording", "namespace": SYSTEM},
        "data": {"trace.csv": "\n".join(rows) + "\n", "trace.json": json.dumps(kind)},
    }


def example(name: str, namespace: str, **spec: Any) -> list[Body]:
    """The objects of one example, jobs in this namespace, and in their specs what this test shrinks."""
    out = []
    for body in yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()):
        if body["kind"] == "GreenJob":
            body["metadata"]["namespace"] = namespace
            body["spec"] |= spec
        out.append(body)
    return out


@pytest.fixture(scope="module")
def operator(kube: Kube, cluster: Cluster, helm: Helm, nodes: dict[str, Node], release: str) -> Iterator[None]:
    """The chart with a book that outlives the pod, told to read our recording and to look often; its pod is ready.

    The regions are there before it, so that no test rests on another that ran earlier.
    """
    cluster.storage(SYSTEM, "book")
    kube.apply(recording(datetime.now(UTC)), *yaml.safe_load_all((EXAMPLES / "regions.yaml").read_text()))
    words = (
        "provider.trace.existingConfigMap=recording",
        "persistence.enabled=true",
        "persistence.existingClaim=book",
        "intervals.resync=2",
        "intervals.forecast=10",
    )
    helm.install(release, CHART, SYSTEM, *[part for word in words for part in ("--set", word)], wait=False)
    wait_ready(kube)
    yield
    helm.install(release, CHART, SYSTEM, "--reset-values", wait=False)


def wait_ready(kube: Kube) -> None:
    def ready(one: Body) -> bool:
        status = one["status"]
        return status.get("availableReplicas") == 1 and status.get("updatedReplicas") == 1 and status["replicas"] == 1

    kube.wait("deployment", "windward", ready, 120, SYSTEM)


def kill_operator(kube: Kube) -> None:
    """No farewell: the pod is gone at once, and another takes its place."""
    for pod in kube.list("pods", SYSTEM, "app.kubernetes.io/name=windward"):
        name = pod["metadata"]["name"]  # which may go by itself between the list and this
        kube.kubectl("delete", "pod", name, "-n", SYSTEM, "--grace-period=0", "--force", "--ignore-not-found")


def state(job: Body) -> str:
    return str(job.get("status", {}).get("summary", {}).get("state"))


def conditions(job: Body) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in job.get("status", {}).get("conditions", [])}


def children(kube: Kube, namespace: str, job: Body) -> list[Body]:
    return kube.list("jobs", namespace, f"windward.dev/job-uid={job['metadata']['uid']}")


def test_a_job_trains_pauses_moves_resumes_and_is_accounted_for_while_its_operator_is_killed(
    kube: Kube, cluster: Cluster, operator: None, namespace: str
) -> None:
    folder = cluster.storage(namespace)
    train = {"model": {"layers": 2, "width": 64, "context": 64}, "steps": 8000, "batchSize": 8, "checkpointEvery": 100}
    objects = example(
        "train",
        namespace,
        completeWithin="12m",
        duration="3m",
        interruption={"policy": "Checkpoint", "overhead": "15s"},
        train=train,
    )
    kube.apply(*objects)
    name = "nightly-finetune"

    def wait(word: str, timeout_s: float = 120) -> Body:
        return kube.wait("greenjob", name, lambda one: state(one) == word, timeout_s, namespace)

    first = wait("Running")
    assert first["status"]["plan"]["windows"][0]["region"] == "north"
    kill_operator(kube)
    paused = wait("Paused", 180)
    assert [r["phase"] for r in paused["status"]["runs"]] == ["Paused"]
    assert paused["status"]["runs"][0]["exitCode"] == 75
    assert float(paused["status"]["accounting"]["energyJoules"]) > 0
    kill_operator(kube)
    wait_ready(kube)
    wait("Running", 180)
    job = wait("Complete", 600)

    runs = job["status"]["runs"]
    assert [(r["attempt"], r["region"], r["phase"]) for r in runs] == [
        (1, "north", "Paused"),
        (2, "central", "Succeeded"),
    ]
    made = children(kube, namespace, job)
    assert sorted(j["metadata"]["labels"]["windward.dev/attempt"] for j in made) == ["1", "2"], "a run was doubled"
    (pod,) = kube.list("pods", namespace, "windward.dev/attempt=2")
    assert pod["spec"]["nodeName"] == "central"
    log = kube.logs(pod["metadata"]["name"], namespace)
    began = next(int(line.split("step ")[1].split()[0]) for line in log.splitlines() if "parameters, step" in line)
    assert 0 < began < 8000, "the second run began anew instead of where the first one paused"

    assert conditions(job)["Complete"] == ("True", "Succeeded")
    settled = ("True", "Settled")  # a moment later: nobody waits for the hours of an account
    job = kube.wait("greenjob", name, lambda one: conditions(one).get("Accounted") == settled, 60, namespace)
    account = job["status"]["accounting"]
    assert account["method"] == "estimated" and account["unit"] == "token"
    assert float(account["savedGrams"]) == pytest.approx(
        float(account["runNowGrams"]) - float(account["emissionsGrams"]), abs=2e-3
    )
    assert (folder / "models" / name / "model.safetensors").stat().st_size > 100_000
    told = {e["reason"] for e in kube.list("events", namespace) if e["involvedObject"]["kind"] == "GreenJob"}
    assert {"Planned", "Started", "Paused", "Complete"} <= told

    _infer_with_what_was_trained(kube, namespace, folder)
    _delete_leaves_nothing(kube, namespace, name)


def _infer_with_what_was_trained(kube: Kube, namespace: str, folder: Path) -> None:
    objects = example("infer", namespace, completeWithin="10m", duration="1m", policy={"minSavingPercent": 99})
    (job,) = [o for o in objects if o["kind"] == "GreenJob"]
    kube.apply(*objects)
    name = job["metadata"]["name"]
    done = kube.wait("greenjob", name, lambda one: state(one) in ("Complete", "Failed"), 180, namespace)
    assert conditions(done).get("Complete") == ("True", "Succeeded"), kube.diagnose(namespace)
    assert done["status"]["plan"]["reason"] in ("RunNow", "SavingBelowThreshold")  # home is clean by now
    lines = [json.loads(line) for line in (folder / "outputs" / f"{name}.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == list(job["spec"]["infer"]["prompts"])
    assert all(line["text"] for line in lines)
    assert done["status"]["accounting"]["unit"] == "prompt"


def _delete_leaves_nothing(kube: Kube, namespace: str, name: str) -> None:
    kube.delete("greenjob", name, namespace)

    def left() -> list[str]:
        kinds = (("jobs", kube.list("jobs", namespace)), ("pods", kube.list("pods", namespace)))
        return [f"{k}/{o['metadata']['name']}" for k, os in kinds for o in os if o["metadata"]["name"].startswith(name)]

    wait_for("children gone", lambda: not left(), 60)


def test_any_container_runs_and_a_deleted_job_stops(kube: Kube, operator: None, namespace: str) -> None:
    """A job that brings its own pod; deleting it in the middle ends its pod."""
    pod = {
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "containers": [
                {
                    "name": "main",
                    "image": "ghcr.io/windward-dev/windward-worker:0.1.0",
                    "command": ["sleep", "600"],
                }
            ],
        }
    }
    body = {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": "sleeper", "namespace": namespace, "annotations": {"windward.dev/run-now": "true"}},
        "spec": {
            "completeWithin": "1h",
            "duration": "10m",
            "placement": {"regions": ["central"]},
            "template": pod,
        },
    }
    kube.apply(body)
    kube.wait("greenjob", "sleeper", lambda one: state(one) == "Running", 60, namespace)
    job = kube.must_get("greenjob", "sleeper", namespace)
    assert conditions(job)["Planned"] == ("True", "UserForced")
    _delete_leaves_nothing(kube, namespace, "sleeper")


def test_a_run_is_at_the_level_of_its_plan(kube: Kube, operator: None, namespace: str) -> None:
    """Its hours are as good as any other, and at the level it needs half: so it runs, is labelled, told and counted."""
    level = {"name": "slow", "watts": 40, "capWatts": 50, "duration": "8s"}
    command = ["sh", "-c", "echo level $WINDWARD_POWER_LEVEL below $WINDWARD_POWER_CAP_WATTS; sleep 8"]
    container = {"name": "main", "image": "ghcr.io/windward-dev/windward-worker:0.1.0", "command": command}
    body = {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": "capped", "namespace": namespace},
        "spec": {
            "completeWithin": "40s",
            "duration": "4s",
            "placement": {"regions": ["central"]},
            "power": {"watts": 160, "levels": [level]},
            "template": {"spec": {"containers": [container]}},
        },
    }
    kube.apply(body)
    job = kube.wait("greenjob", "capped", lambda one: state(one) == "Complete", 120, namespace)
    assert [(r["phase"], r["powerLevel"]) for r in job["status"]["runs"]] == [("Succeeded", "slow")]
    (made,) = children(kube, namespace, job)
    assert made["metadata"]["labels"]["windward.dev/power-level"] == "slow"
    (pod,) = kube.list("pods", namespace, "windward.dev/power-level=slow")
    assert "level slow below 50" in kube.logs(pod["metadata"]["name"], namespace)
    account = job["status"]["accounting"]
    assert float(account["energyJoules"]) == pytest.approx(40 * 9, rel=0.4), "forty watts, for as long as it ran"
    assert float(account["runNowGrams"]) > 1.5 * float(account["emissionsGrams"]), "against 160 W half as long"


def test_a_schedule_opens_a_window(kube: Kube, operator: None, namespace: str) -> None:
    """GreenCronJob: the tick makes one job, named after its time, and the window's end is its finish-by."""
    (cron,) = [o for o in yaml.safe_load_all((EXAMPLES / "nightly.yaml").read_text()) if o["kind"] == "GreenCronJob"]
    cron["metadata"]["namespace"] = namespace
    cron["spec"] |= {"schedule": "* * * * *", "timeZone": "UTC", "window": "30m"}
    cron["spec"]["jobTemplate"]["spec"] |= {"duration": "5m", "suspend": True}
    kube.apply(cron)
    (job,) = wait_for("a job of the schedule", lambda: kube.list("greenjobs", namespace), 90)
    scheduled = datetime.fromisoformat(job["metadata"]["annotations"]["windward.dev/scheduled-at"])
    assert job["metadata"]["name"] == f"{cron['metadata']['name']}-{int(scheduled.timestamp()) // 60}"
    assert datetime.fromisoformat(job["spec"]["deadline"]) == scheduled + timedelta(minutes=30)
    assert job["metadata"]["ownerReferences"][0]["kind"] == "GreenCronJob"
    kube.delete("greencronjob", cron["metadata"]["name"], namespace)
    kube.wait_gone("greenjob", job["metadata"]["name"], 60, namespace)


def test_a_stranger_computes_every_receipt_of_this_cluster_again(kube: Kube, operator: None) -> None:
    """What the operator's pod exports agrees to the last gram; a joule more is found, even under a hash made anew."""
    said = kube.kubectl(
        "exec", "-n", SYSTEM, "deploy/windward", "--", "windward", "report", "--include-demo", "--export", "-"
    )
    export = json.loads(said.stdout)
    assert verify(export) == []
    bodies = {one["body"]["job"]["name"]: one["body"] for one in export["receipts"]}
    assert {"nightly-finetune", "capped"} <= set(bodies)
    for name, body in bodies.items():
        for row in body["intervals"]:
            told = row["joules"]
            row["joules"] = told * 1.001
            assert not told or faults_of([entry(body)]), f"{name}: a joule more at {row['start']} was not found"
            row["joules"] = told
