"""A storm of kills and pauses on real nodes: all work is done once, nothing overlaps, each joule is booked once.

Forty jobs append to one file when they start and stop; three hundred times in all they are paused, while their operator
is killed two hundred times right before or after a write. `WINDWARD_LONG=1` has all of it, otherwise there is a sample.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.kube import Cluster, Kube
from cluster.kube.client import wait_for
from cluster.kube.node import Node
from cluster.test_main_job import SYSTEM, kill_operator, state

from windward.ledger import open_ledger

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
LONG = bool(os.environ.get("WINDWARD_LONG"))
JOBS, PAUSES, KILLS, UNITS = (40, 300, 200, 700) if LONG else (8, 24, 24, 40)
WATTS = 100
IMAGE = "ghcr.io/windward-dev/windward-worker:0.1.0"
Body = dict[str, Any]

SCRIPT = f"""
mkdir -p "$WINDWARD_CHECKPOINT_DIR"; kept="$WINDWARD_CHECKPOINT_DIR/done"
n=$(cat "$kept" 2>/dev/null || echo 0)
say() {{ echo "$1 $WINDWARD_JOB $WINDWARD_RUN $(date +%s.%N) $n" >> "$WINDWARD_STORAGE_DIR/log"; }}
stop() {{ echo $n > "$kept.new"; mv "$kept.new" "$kept"; say stop; exit 75; }}
trap stop TERM
say start
while [ $n -lt {UNITS} ]; do sleep 1 & wait $!; n=$((n+1)); done
say done
"""


def job(n: int, namespace: str) -> Body:
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", SCRIPT]}
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": f"storm-{n:02}", "namespace": namespace, "annotations": {"windward.dev/run-now": "true"}},
        "spec": {
            "completeWithin": "4h",
            "duration": f"{UNITS}s",
            "placement": {"regions": [("north", "central")[n % 2]]},
            "interruption": {"policy": "Checkpoint", "overhead": "1s"},
            "power": {"watts": WATTS},
            "storage": {"claimName": "windward-storage"},
            "template": {"spec": {"terminationGracePeriodSeconds": 30, "containers": [container]}},
        },
    }


def regions() -> list[Body]:
    kind = {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenRegion"}
    return [
        {**kind, "metadata": {"name": n}, "spec": {"gridZone": z, "nodeSelector": {"topology.kubernetes.io/region": n}}}
        for n, z in (("north", "GB"), ("central", "DE"))
    ]


class Log:
    """What the containers wrote, by job: (word, run, time, units)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"

    def by_job(self) -> dict[str, list[tuple[str, str, float, int]]]:
        out: dict[str, list[tuple[str, str, float, int]]] = defaultdict(list)
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            word, name, run, at, n = line.split()
            out[name].append((word, run, float(at), int(n)))
        return out

    def now(self, *words: str) -> int:
        """How many jobs said one of these words last."""
        return sum(events[-1][0] in words for events in self.by_job().values())

    def pauses(self) -> int:
        return sum(word == "stop" for events in self.by_job().values() for word, *_ in events)


@pytest.fixture
def alone(kube: Kube, release: str) -> Iterator[None]:
    """The chart's objects without its operator."""
    kube.kubectl("scale", "deployment/windward", "--replicas=0", "-n", SYSTEM)
    kill_operator(kube)
    wait_for("operator gone", lambda: not kube.list("pods", SYSTEM, "app.kubernetes.io/name=windward"), 60)
    yield
    kube.kubectl("scale", "deployment/windward", "--replicas=1", "-n", SYSTEM)


@pytest.fixture
def mortal(kube: Kube, alone: None, tmp_path: Path) -> Iterator[Path]:
    """The operator that dies; yields the file with the number of its deaths. Its ledger is `book.db` beside that."""
    count = tmp_path / "deaths"
    argv = [str(kube.kubeconfig), f"sqlite:///{tmp_path / 'book.db'}", str(KILLS), "5", str(count)]
    path = os.pathsep.join(str(ROOT / p) for p in ("crds", "operator", "workers", "kernels", "tests"))
    with (tmp_path / "operator.log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("mortal_operator.py")), *argv],
            stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        yield count
        os.killpg(running.pid, 9)
        running.wait()


def suspend(kube: Kube, namespace: str, to: bool) -> None:
    for n in range(JOBS):
        kube.patch("greenjob", f"storm-{n:02}", {"spec": {"suspend": to}}, namespace)


def test_a_storm_of_kills_and_pauses(
    kube: Kube, cluster: Cluster, nodes: dict[str, Node], namespace: str, mortal: Path
) -> None:
    folder = cluster.storage(namespace)
    log = Log(folder)
    kube.apply(*regions(), *[job(n, namespace) for n in range(JOBS)])
    while log.pauses() < PAUSES and log.now("done") < JOBS:
        wait_for("all run", lambda: log.now("start", "done") == JOBS, 600)
        time.sleep(1)
        suspend(kube, namespace, True)
        wait_for("all paused", lambda: log.now("start") == 0, 600)
        suspend(kube, namespace, False)

    def ended() -> bool:
        jobs = kube.list("greenjobs", namespace)
        return len(jobs) == JOBS and all(state(j) in ("Complete", "Failed") for j in jobs)

    wait_for("all end", ended, 1500)
    deaths, events = int(mortal.read_text()), log.by_job()
    pauses = log.pauses()
    assert pauses >= PAUSES and deaths >= KILLS, (pauses, deaths)
    ledger = open_ledger(f"sqlite:///{mortal.with_name('book.db')}")
    for body in kube.list("greenjobs", namespace):
        _judge(body, events[f"{namespace}/{body['metadata']['name']}"], ledger)
    ledger.close()
    sys.stderr.write(f"\nstorm: {JOBS} jobs, {pauses} pauses, {deaths} deaths of the operator\n")


def _judge(body: Body, events: list[tuple[str, str, float, int]], ledger: Any) -> None:
    name = body["metadata"]["name"]
    assert state(body) == "Complete", (name, body["status"]["conditions"])
    assert events == sorted(events, key=lambda e: e[2])
    words = [e[0] for e in events]
    assert words[0::2] == ["start"] * len(words[0::2]), f"{name}: two runs at once, or one without an end: {events}"
    assert words[1::2] == [*["stop"] * (len(words) // 2 - 1), "done"], f"{name}: {events}"
    runs = [e[1] for e in events]
    assert runs[0::2] == runs[1::2] and len(set(runs[0::2])) == len(runs) // 2, f"{name}: a run began twice: {runs}"
    for (_, _, _, stopped), (_, _, _, began) in itertools.pairwise(events[1:]):
        assert began >= stopped, f"{name}: work was done again"
    assert [e[3] for e in events[1:-1:2]] == [e[3] for e in events[2::2]], f"{name}: work was lost or done again"

    rows = ledger.energy(body["metadata"]["uid"])
    spent: dict[int, float] = defaultdict(float)
    for row in rows:
        spent[row.attempt] += row.joules
    ran = {
        int(run.rsplit("-", 1)[1]): b[2] - a[2]
        for (a, b) in zip(events[0::2], events[1::2], strict=True)
        for run in (a[1],)
    }
    assert set(spent) == set(ran), f"{name}: booked {sorted(spent)}, ran {sorted(ran)}"
    for attempt, seconds in ran.items():
        seen_s = spent[attempt] / WATTS
        # The kubelet tells whole seconds; a container runs a moment before its first word and after its last.
        assert seconds - 1.5 <= seen_s <= seconds + 8, f"{name} run {attempt}: booked {seen_s:.1f} s, ran {seconds:.1f}"
