"""Memory of the operator: `python tests/bench/operator_memory.py [--jobs 1000]`, on what tests/cluster/README.md needs.

Starts a real API server, applies the CRDs, two GreenRegions and so many GreenJobs, then `windward-operator` itself as
the chart's pod runs it (kopf, watches, SQLite ledger, metrics), on a recording whose clean hours are some hours away.
When every GreenJob says that it waits, and two more sweeps have passed, prints its resident memory in MiB: then, and at
most. Closes with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from cluster.kube import Cluster, Kube, Unavailable, binaries  # noqa: E402
from ports import free_ports  # noqa: E402
from service.world import job_body, region_body  # noqa: E402

ZONES = {"north": "GB", "south": "DE"}
SWEEP_S = 30
NAMESPACE = "bench"


def recording(folder: Path, now: datetime) -> Path:
    """Hours of 150 days past and ten ahead, cleanest twelve hours from now, each day."""
    hours = [now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=h) for h in range(-24 * 150, 24 * 10)]
    folder.mkdir()
    for zone, level in (("GB", 200.0), ("DE", 400.0)):
        lines = ["timestamp_utc,carbon_intensity_gco2_kwh"]
        lines += [
            f"{h:%Y-%m-%dT%H:%M:%SZ},{level * (1 + 0.4 * math.cos(2 * math.pi * (h - now) / timedelta(days=1))):.1f}"
            for h in hours
        ]
        (folder / f"{zone}.csv").write_text("\n".join(lines))
    said = {"signal": "Average", "scope": "LifeCycle", "basis": "Consumption", "attribution": "bench"}
    (folder / "trace.json").write_text(json.dumps(said))
    return folder


def populate(kube: Kube, jobs: int) -> None:
    """CRDs, regions and waiting GreenJobs."""
    crds = sorted((ROOT / "charts" / "windward" / "crds-files").glob("*.yaml"))
    kube.apply(*crds)
    kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    kube.namespace(NAMESPACE)
    kube.apply(*(region_body(name, zone, pue="1.1") for name, zone in ZONES.items()))
    bodies = [job_body(f"night-{i:04}", completeWithin="18h", duration="4h") for i in range(jobs)]
    for i in range(0, jobs, 100):
        kube.create(*bodies[i : i + 100], namespace=NAMESPACE)


def states(kube: Kube) -> Counter[str]:
    return Counter(j.get("status", {}).get("summary", {}).get("state", "") for j in kube.list("greenjobs", NAMESPACE))


def resident_mib(pid: int) -> dict[str, float]:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: round(int(lines[key].split()[0]) / 1024, 1) for name, key in (("now", "VmRSS"), ("most", "VmHWM"))}


def measured(kube: Kube, jobs: int, folder: Path, patience_s: float) -> dict[str, Any]:
    """Runs the operator until all jobs wait."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(kube.kubeconfig),
        "WINDWARD_DATABASE_URL": f"sqlite:///{folder / 'book.db'}",
        "WINDWARD_MODE": "Act",
        "WINDWARD_TRACE_FILE": str(recording(folder / "trace", datetime.now(UTC))),
        "WINDWARD_RESYNC_SECONDS": str(SWEEP_S),
        "WINDWARD_HTTP_PORT": str(free_ports(1)[0]),
        "WINDWARD_LOG_LEVEL": "WARNING",
    }
    with (folder / "operator.log").open("w") as log:
        command = [sys.executable, "-P", "-m", "windward.service.main"]
        operator = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            began = time.monotonic()
            while (found := states(kube)) != {"Waiting": jobs}:
                if operator.poll() is not None or time.monotonic() - began > patience_s:
                    said = (folder / "operator.log").read_text()[-2000:]
                    raise RuntimeError(f"after {time.monotonic() - began:.0f} s: {dict(found)}; it said: {said}")
                time.sleep(3)
            told_s = time.monotonic() - began
            time.sleep(2 * SWEEP_S)
            return {"jobs": jobs, "told_s": round(told_s, 1), "operator_mib": resident_mib(operator.pid)}
        finally:
            operator.terminate()
            operator.wait(30)


def main() -> int:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--jobs", type=int, default=1000)
    words.add_argument("--patience", type=float, default=600.0, help="seconds until all jobs must have been told")
    asked = words.parse_args()
    try:
        with Cluster(binaries()) as cluster, tempfile.TemporaryDirectory(prefix="windward-bench-") as folder:
            populate(cluster.kube, asked.jobs)
            print(json.dumps(measured(cluster.kube, asked.jobs, Path(folder), asked.patience)))
    except Unavailable as why:
        sys.stderr.write(f"no test cluster: {why}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
