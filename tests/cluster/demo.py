"""`make demo-cluster`: one label on three workloads, on a real cluster on this machine with Kueue, JobSet and Trainer.

Starts a control plane and a node, installs the chart, and creates a Job, a JobSet and a TrainJob that know nothing of
Windward but a label; says what they wait for, when they pause and resume, and shows a receipt of each. Only time is
shrunk: the grid of this demo is clean in every other minute. Needs what tests/cluster/README.md needs; minutes the
first time, since Kubernetes and the engines are built from source.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from cluster.images import CHART, chart_images  # noqa: E402
from cluster.kube import Cluster, RunningEngines, Unavailable, binaries, engine_binaries  # noqa: E402
from cluster.workloads import job, job_set, pod, queue, recording, runtime, state, status, train_job  # noqa: E402

from windward.tools.verify import verify  # noqa: E402

Body = dict[str, Any]
SYSTEM, TEAM = "windward-system", "team"
WORK_S = 75
PATIENCE_S = 420
WORDS = {
    "duration": f"{WORK_S}s", "complete-within": "20m", "regions": "north", "watts": "3000",
    "interruption": "Checkpoint", "interruption-overhead": "1s",
}  # fmt: skip
KINDS = {"nightly": "job", "sweep": "jobset", "finetune": "trainjob"}


def install(cluster: Cluster) -> None:
    """The chart, a region, a queue whose nodes are that region, and a team's namespace."""
    kube = cluster.kube
    kube.namespace(SYSTEM)
    cluster.helm.install("windward", CHART, SYSTEM, wait=False)
    (north, *_) = yaml.safe_load_all((ROOT / "examples" / "regions.yaml").read_text())
    kube.apply(recording(SYSTEM, datetime.now(UTC), lambda at: at.minute % 2 == 0), north, *queue("north"))
    settings = {"provider.trace.existingConfigMap": "recording", "intervals.resync": 2, "intervals.forecast": 10}
    words = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    cluster.helm.install("windward", CHART, SYSTEM, *words)
    kube.namespace(TEAM)
    annotations = {f"windward.dev/{word}": text for word, text in WORDS.items()}
    local = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "spec": {"clusterQueue": "north"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM, "annotations": annotations}}
    kube.apply(namespace, {**local, "metadata": {"name": "team", "namespace": TEAM}})
    cluster.storage(TEAM, "scratch")


def submit(cluster: Cluster) -> None:
    """A Job without a queue; a JobSet and a TrainJob through one. Each carries the label and nothing else of ours."""
    cluster.kube.apply(runtime("torch", pod("finetune", WORK_S)), namespace=TEAM)
    cluster.kube.create(
        job("nightly", pod("nightly", WORK_S), queued=False),
        job_set("sweep", pod("sweep", WORK_S)),
        train_job("finetune", "torch"),
        namespace=TEAM,
    )


def windward(cluster: Cluster, *words: str) -> None:
    where = ("--cluster", "--kubeconfig", str(cluster.kubeconfig), "-n", TEAM)
    command = [Path(sys.executable).parent / "windward", *words, *where]
    print(f"\n$ windward {' '.join(words)} --cluster -n {TEAM}", flush=True)
    subprocess.run(command, check=False, cwd=ROOT)


def follow(cluster: Cluster) -> None:
    """Prints each change of state, and all of them as `windward list` shows them when all wait."""
    seen: dict[str, str] = {}
    listed, end = False, time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for name, kind in KINDS.items():
            body = cluster.kube.must_get(kind, name, TEAM)
            now, summary = state(body), status(body).get("summary", {})
            if now not in ("None", seen.get(name)):
                seen[name] = now
                print(
                    f"{datetime.now(UTC):%H:%M:%S}Z  {kind}/{name:<9} {now:<9} {summary.get('reason', '')}", flush=True
                )
        if not listed and len(seen) == len(KINDS):
            listed = True
            windward(cluster, "list")
            windward(cluster, "why", "jobset/sweep")
            print()
        if all(one == "Complete" for one in seen.values()) and len(seen) == len(KINDS):
            return
        time.sleep(1)
    raise TimeoutError(f"not complete within {PATIENCE_S} s: {seen}")


def receipts(cluster: Cluster) -> None:
    """The receipts as the operator's pod reports them, and what a stranger says of them."""
    inside = ("exec", "-n", SYSTEM, "deploy/windward", "--", "windward", "report")
    print("\n$ windward report        # in the operator's pod")
    print(cluster.kube.kubectl(*inside).stdout)
    export = json.loads(cluster.kube.kubectl(*inside, "--export", "-").stdout)
    faults = verify(export)
    verdict = "every gram computed again, all agree" if not faults else "; ".join(map(str, faults))
    print(f"windward-verify: {len(export['receipts'])} receipts, {verdict}")
    for name, kind in KINDS.items():
        runs = status(cluster.kube.must_get(kind, name, TEAM))["runs"]
        print(f"{kind}/{name}: {len(runs)} runs, {sum(r['phase'] == 'Paused' for r in runs)} paused with exit code 75")


def main() -> None:
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    kube, engines = binaries(), engine_binaries()
    built = time.monotonic()
    with Cluster(kube, chart_images()) as cluster:
        print("starting a control plane, a node, JobSet, Trainer and Kueue, and the chart ...", flush=True)
        cluster.node("north")
        RunningEngines(cluster, engines)
        install(cluster)
        print(f"ready after {time.monotonic() - built:.0f} s; three workloads with one label each:", flush=True)
        submit(cluster)
        follow(cluster)
        receipts(cluster)
    print(f"\n{time.monotonic() - built:.0f} s, beside {built - began:.0f} s of building what was not built yet")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
    except Unavailable as why:
        sys.exit(f"demo-cluster: {why}")
