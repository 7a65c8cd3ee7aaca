"""Managed workloads as a team meets them: real Kueue, JobSet and Trainer, one label on what they have, the chart as
installed. Only time is shrunk: a recording by the minute, clean in two minutes of every four."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cluster.images import CHART
from cluster.kube import Cluster, Helm, Kube, Refused, RunningEngines
from cluster.kube.client import wait_for
from cluster.kube.node import Node
from cluster.test_main_job import EXAMPLES, SYSTEM, wait_ready
from cluster.test_runs import scale_operator
from cluster.workloads import fake_pod, job, job_set, pod, queue, recording, runtime, state, status, train_job

from windward.cluster.kueue import GATES
from windward.tools.verify import verify
from windward_api.managed import ERROR, LABEL_MANAGED

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]  # with a build of the engines, where it goes on

Body = dict[str, Any]
WATTS = 3000
LABEL = f"{LABEL_MANAGED}=true"
GREEN = ("green-a", "green-b")
WORDS = {
    "duration": "150s", "complete-within": "20m", "regions": "north", "watts": str(WATTS),
    "interruption": "Checkpoint", "interruption-overhead": "1s",
}  # fmt: skip


def clean(minute: datetime) -> bool:
    return minute.minute % 4 in (2, 3)


@pytest.fixture(scope="module", autouse=True)
def operator(
    kube: Kube, cluster: Cluster, engines: RunningEngines, helm: Helm, nodes: dict[str, Node], release: str
) -> Iterator[None]:
    """The chart told to read our recording and to look often, beside one queue on the nodes of north."""
    regions = [
        r for r in yaml.safe_load_all((EXAMPLES / "regions.yaml").read_text()) if r["metadata"]["name"] == "north"
    ]
    kube.apply(recording(SYSTEM, datetime.now(UTC), clean, (250, 400)), *regions, *queue("north"))
    words = ("provider.trace.existingConfigMap=recording", "intervals.resync=2", "intervals.forecast=10")
    helm.install(release, CHART, SYSTEM, *[part for word in words for part in ("--set", word)], wait=False)
    wait_ready(kube)
    yield
    helm.install(release, CHART, SYSTEM, "--reset-values", wait=False)


@pytest.fixture
def team(kube: Kube, cluster: Cluster, namespace: str) -> str:
    """A namespace whose annotations say what its workloads have in common, with a queue and a shared folder."""
    words = {f"windward.dev/{word}": text for word, text in WORDS.items()}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "annotations": words}})
    kueue = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue"}
    kube.apply({**kueue, "metadata": {"name": "team", "namespace": namespace}, "spec": {"clusterQueue": "north"}})
    cluster.storage(namespace, "scratch")
    return namespace


def create(kube: Kube, bodies: list[Body], namespace: str) -> list[Body]:
    """Creates objects and returns them as the API server took them."""
    documents = yaml.safe_dump_all(bodies)
    answer = kube.kubectl("create", "-f", "-", "-n", namespace, "-o", "yaml", stdin=documents).stdout
    return list(yaml.safe_load_all(answer))


class Writes:
    """Every change of `suspend` on the workloads of a namespace, from what was answered to their creation on."""

    def __init__(self, kube: Kube, namespace: str, kinds: tuple[str, ...], created: list[Body]) -> None:
        self.kube, self.namespace, self.kinds = kube, namespace, kinds
        self.flips: dict[str, list[bool]] = {}
        self.versions: dict[str, set[str]] = {}
        for body in created:
            self.flips[f"{body['kind'].lower()}s/{body['metadata']['name']}"] = [bool(body["spec"].get("suspend"))]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            for kind in self.kinds:
                for body in self.kube.list(kind, self.namespace, LABEL):
                    name, now = f"{kind}/{body['metadata']['name']}", bool(body["spec"].get("suspend"))
                    seen = self.flips.setdefault(name, [])
                    if not seen or seen[-1] is not now:
                        seen.append(now)
                    self.versions.setdefault(name, set()).add(body["metadata"]["resourceVersion"])

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def test_one_label_has_three_kinds_wait_pause_resume_and_finish(kube: Kube, cluster: Cluster, team: str) -> None:
    """On a real node: a plain Job, and a Job, a JobSet and a TrainJob in a queue, each with no more than its label."""
    kube.apply(runtime("torch", pod("train", 150)), namespace=team)
    works = [
        ("job", "plain", job("plain", pod("plain", 150), queued=False)),
        ("job", "queued", job("queued", pod("queued", 150))),
        ("jobset", "set", job_set("set", pod("set", 150))),
        ("trainjob", "train", train_job("train", "torch")),
    ]
    created = create(kube, [body for *_, body in works], team)
    watch = Writes(kube, team, ("jobs", "jobsets", "trainjobs"), created)
    kube.create(*(green_job(name, 150) for name in GREEN), namespace=team)
    assert all(body["spec"]["suspend"] for body in created), "each is held from its creation on"
    for kind, name, _ in works:
        kube.wait(kind, name, lambda one: state(one) == "Complete", 720, team)
    for name in GREEN:
        kube.wait("greenjob", name, lambda one: one["status"]["summary"]["state"] == "Complete", 240, team)
    watch.stop()
    folder = cluster.folder / "storage" / team / "scratch"
    for kind, name, _ in works:
        body = kube.must_get(kind, name, team)
        runs = status(body)["runs"]
        assert [r["phase"] for r in runs][-1] == "Succeeded"
        assert all(r["phase"] == "Paused" and r["exitCode"] == 75 for r in runs[:-1]), runs
        flips = watch.flips[f"{kind}s/{name}"]
        assert flips == [True, False] * len(runs) or flips == [True, False] * len(runs) + [True], (name, flips)
        accounting = status(body)["accounting"]
        assert accounting["method"] == "estimated"
        assert float(accounting["savedGrams"]) > 0, accounting
    for log in sorted(folder.glob("*.log")):
        lines = [line.split() for line in log.read_text().splitlines()]
        assert [words[0] for words in lines] == ["start", "paused"] * (len(lines) // 2 - 1) + ["start", "done"]
        assert [int(words[2]) for words in lines] == sorted(int(words[2]) for words in lines), "nothing was done twice"
    grams = [float(status(kube.must_get(kind, name, team))["accounting"]["emissionsGrams"]) for kind, name, _ in works]
    ours = [float(kube.must_get("greenjob", name, team)["status"]["accounting"]["emissionsGrams"]) for name in GREEN]
    ratio = (sum(grams) / len(grams)) / (sum(ours) / len(ours))
    print(f"grams {ratio:.4f} of the same work as GreenJobs: {grams}, {ours}")
    assert 0.98 < ratio < 1.02, (grams, ours)
    export = kube.kubectl("exec", "-n", SYSTEM, "deploy/windward", "--", "windward", "report", "--export", "-").stdout
    assert verify(json.loads(export)) == []


def starts(body: Body) -> list[datetime]:
    return [datetime.fromisoformat(r["startedAt"]) for r in status(body)["runs"]]


def test_thirty_workloads_start_in_their_windows_hold_no_quota_before_and_nobody_fights(
    kube: Kube, cluster: Cluster, team: str
) -> None:
    """Ten of each kind, their pods on a fake node."""
    cluster.fake_nodes("north")
    spec, metadata = fake_pod(60)
    kube.apply(runtime("torch", spec, metadata), namespace=team)
    short = {
        "windward.dev/duration": "1m",
        "windward.dev/interruption": "Never",
        "windward.dev/interruption-overhead": None,
    }
    kube.patch("namespace", team, {"metadata": {"annotations": short}})
    works = [("job", f"plain-{n}", job(f"plain-{n}", spec, queued=False, pod_metadata=metadata)) for n in range(5)]
    works += [("job", f"job-{n}", job(f"job-{n}", spec, pod_metadata=metadata)) for n in range(5)]
    works += [("jobset", f"set-{n}", job_set(f"set-{n}", spec, pod_metadata=metadata)) for n in range(10)]
    works += [("trainjob", f"train-{n}", train_job(f"train-{n}", "torch")) for n in range(10)]
    watch = Writes(kube, team, ("jobs", "jobsets", "trainjobs"), create(kube, [body for *_, body in works], team))
    reserved_early: set[str] = set()
    kinds = {"job": "jobs", "jobset": "jobsets", "trainjob": "trainjobs"}

    def all_done() -> bool:
        reserved = {w["metadata"]["ownerReferences"][0]["uid"] for w in kube.list("workloads", team) if has_quota(w)}
        bodies = {(k, b["metadata"]["name"]): b for k in kinds for b in kube.list(kinds[k], team, LABEL)}
        for (
            body
        ) in bodies.values():  # listed after the Workloads: what is still gated had no quota when those were read
            if GATES in body["metadata"].get("annotations", {}) and body["metadata"]["uid"] in reserved:
                reserved_early.add(body["metadata"]["name"])
        return all(state(bodies[kind, name]) == "Complete" for kind, name, _ in works)

    wait_for("thirty workloads complete", all_done, 600)
    watch.stop()
    assert reserved_early == set(), "none holds quota while it waits for grams"
    for kind, name, _ in works:
        (start,) = starts(kube.must_get(kind, name, team))
        assert clean(start), (name, start)
        assert watch.flips[f"{kind}s/{name}"] == [True, False], name
    most = max(len(versions) for versions in watch.versions.values())
    print(f"30 workloads: at most {most} versions of an object")
    assert most < 40, "nobody fights over a field"


def green_job(name: str, seconds: int) -> Body:
    """The same work as a GreenJob."""
    return {
        "apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": {"name": name},
        "spec": {
            "completeWithin": WORDS["complete-within"], "duration": WORDS["duration"],
            "interruption": {"policy": "Checkpoint", "overhead": "1s"}, "placement": {"regions": ["north"]},
            "power": {"watts": WATTS}, "template": {"spec": pod(name, seconds)},
        },
    }  # fmt: skip


def has_quota(workload: Body) -> bool:
    conditions = (workload.get("status") or {}).get("conditions") or []
    return any(c["type"] == "QuotaReserved" and c["status"] == "True" for c in conditions)


def test_with_the_operator_gone_what_is_held_starts_at_its_latest_safe_start(kube: Kube, team: str) -> None:
    spec, metadata = fake_pod(5)
    scale_operator(kube, 0)
    try:
        latest = (datetime.now(UTC) + timedelta(seconds=12)).replace(microsecond=0)
        told = {"windward.dev/latest-start": latest.strftime("%Y-%m-%dT%H:%M:%SZ")}
        works = [
            ("job", "plain", job("plain", spec, queued=False, pod_metadata=metadata)),
            ("job", "queued", job("queued", spec, pod_metadata=metadata)),
            ("jobset", "set", job_set("set", spec, pod_metadata=metadata)),
        ]
        for _, _, body in works:
            body["metadata"]["annotations"] = told
        kube.create(*(body for *_, body in works), namespace=team)
        assert all(kube.must_get(kind, name, team)["spec"]["suspend"] for kind, name, _ in works)
        for kind, name, _ in works:
            kube.wait(kind, name, lambda one: not one["spec"]["suspend"], 40, team)
            late_s = (datetime.now(UTC) - latest).total_seconds()
            assert 0 <= late_s < 10, (name, late_s)
    finally:
        scale_operator(kube, 1)


ACCOUNTS = ("windward", "windward-release")
CHANGES: dict[str, tuple[Body, bool]] = {
    "suspend": ({"spec": {"suspend": False}}, True),
    "annotation": ({"metadata": {"annotations": {"windward.dev/summary": "x"}}}, True),
    "queue": ({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "other"}}}, True),
    "label": ({"metadata": {"labels": {"example.com/team": "other"}}}, False),
    "owner": ({"metadata": {"ownerReferences": [{"name": "p", "uid": "0", "kind": "Pod", "apiVersion": "v1"}]}}, False),
}


def another_template(kind: str, spec: Body) -> Body:
    """A change of what an object runs."""
    if kind == "jobset":
        return {"replicatedJobs": [{**spec["replicatedJobs"][0], "replicas": 9}]}
    return {"template": {"metadata": {"labels": {"a": "b"}}}} if kind == "job" else {"trainer": {"numNodes": 9}}


def test_what_windwards_accounts_may_change_of_whom(kube: Kube, team: str, namespace: str) -> None:
    """The matrix: both accounts, three kinds; labelled or not; what is a hold, and what would be a right of its own."""
    spec, _ = fake_pod(5)
    kube.apply(runtime("torch", spec), namespace=team)
    cases = 0
    for labelled_too in (True, False):
        works = {
            "job": job(f"j-{labelled_too}".lower(), spec, queued=False),
            "jobset": job_set(f"s-{labelled_too}".lower(), spec),
            "trainjob": train_job(f"t-{labelled_too}".lower(), "torch"),
        }
        for kind, body in works.items():
            body["spec"]["suspend"] = True
            body["metadata"]["annotations"] = {"windward.dev/suspend": "true"}  # whatever the hour, it is not started
            if not labelled_too:
                body["metadata"]["labels"] = {}
            kube.create(body, namespace=team)
            changes = {**CHANGES, "template": ({"spec": another_template(kind, body["spec"])}, False)}
            for account in ACCOUNTS:
                user = kube.as_user(f"system:serviceaccount:{SYSTEM}:{account}", "system:authenticated")
                for what, (patch, allowed) in changes.items():
                    words = ("patch", kind, body["metadata"]["name"], "-n", team, "--type=merge", "--dry-run=server")
                    done = user.kubectl(*words, "-p", json.dumps(patch), check=False)
                    may = allowed and labelled_too
                    assert (done.returncode == 0) is may, (account, kind, what, labelled_too, done.stderr)
                    if not may and "Windward" not in done.stderr:
                        assert "immutable" in done.stderr or "Forbidden" in done.stderr, done.stderr
                    cases += 1
    assert cases == 72


def test_a_tenant_gains_nothing_by_writing_what_is_windwards(kube: Kube, team: str) -> None:
    """An administrator deactivates a Workload; its owner, who may not touch Workloads, forges that Windward did it."""
    spec, _ = fake_pod(300)
    held = job("held", spec)
    held["metadata"]["annotations"] = {"windward.dev/suspend": "true"}
    kube.create(held, namespace=team)
    body = kube.wait("job", "held", lambda one: state(one) == "Held", 30, team)
    (workload,) = kube.list("workloads", team)
    kube.patch("workload", workload["metadata"]["name"], {"spec": {"active": False}}, team)
    for word, text in (("held-at", f"2026-01-01T00:00:00Z {body['metadata']['uid']}"), ("status", "{}")):
        forged = {"metadata": {"annotations": {f"windward.dev/{word}": text}}}
        with pytest.raises(Refused, match=f"windward.dev/{word} is written by Windward alone"):
            kube.patch("job", "held", forged, team)
    started = {"windward.dev/suspend": None, "windward.dev/run-now": "true"}
    kube.patch("job", "held", {"metadata": {"annotations": started}}, team)
    time.sleep(8)  # four looks
    assert state(kube.must_get("job", "held", team)) == "Held"
    assert kube.must_get("workload", workload["metadata"]["name"], team)["spec"]["active"] is False


def test_a_wrong_word_is_told_on_the_object(kube: Kube, team: str) -> None:
    spec, _ = fake_pod(5)
    wrong = job("wrong", spec)
    wrong["metadata"]["annotations"] = {"windward.dev/complete-wihtin": "8h"}
    kube.create(wrong, namespace=team)
    body = kube.wait("job", "wrong", lambda one: ERROR in one["metadata"].get("annotations", {}), 30, team)
    assert body["metadata"]["annotations"][ERROR].endswith("did you mean windward.dev/complete-within?")
    assert body["spec"]["suspend"] is True
