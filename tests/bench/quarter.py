"""A simulated quarter with faults, every receipt verified by a stranger; ends with one line of JSON.

`sha256` is that of all receipts in order: a change that keeps behaviour keeps it.

    make bench-quarter [JOBS=600] [SEED=0]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from windward.grid.trace import TraceProvider
from windward.ledger.memory import MemoryLedger
from windward.simulation import POLICIES, Faults, simulate
from windward.simulation import run as run_module
from windward.simulation.arrivals import drawn, regions_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from receipts import faults_of

START, QUARTER = datetime(2022, 3, 1, tzinfo=UTC), timedelta(days=90)
ZONES = ("DE", "FR", "GB")
FAULTS = {
    "wrong_durations": 0.2, "late_jobs": 0.05, "lost_nodes_per_day": 0.5, "reclaims_per_run_day": 2.0,
    "outage_share": 0.03,
}  # fmt: skip


class KeptLedger(MemoryLedger):
    """Remembers its receipts beyond the simulation that closes it."""

    receipts_kept: list = []

    def close(self) -> None:
        KeptLedger.receipts_kept.extend(self.receipts(include_demo=True))
        super().close()


def main() -> int:
    """Returns 0 where each receipt verifies and each job has one."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=600)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    run_module.MemoryLedger = KeptLedger
    dice = random.Random(chosen.seed)
    arrivals = drawn(regions_for(ZONES), START, QUARTER, chosen.jobs, dice, pausable=0.5)
    regions = regions_for(ZONES, arrivals, util=0.5)
    began_s = time.perf_counter()
    result = simulate(
        "a quarter", arrivals, regions, TraceProvider.bundled(), [POLICIES["windward"]],
        faults=Faults(seed=chosen.seed, **FAULTS),
    )  # fmt: skip
    simulated_s = time.perf_counter() - began_s
    kept = KeptLedger.receipts_kept
    wrong = [fault for receipt in kept for fault in faults_of([receipt])]
    for fault in wrong[:20]:
        sys.stderr.write(f"{fault}\n")
    (outcome,) = result.outcomes
    digest = hashlib.sha256("\n".join(r.sha256 for r in kept).encode()).hexdigest()
    runs = sum(len({i["attempt"] for i in r.body["intervals"]}) for r in kept)
    succeeded = sum(r.body["outcome"] == "Succeeded" for r in kept)
    print(
        json.dumps(
            {
                "bench": "quarter", "jobs": len(arrivals), "seed": chosen.seed, "faults": FAULTS,
                "receipts": len(kept), "settled": sum(r.settled for r in kept), "succeeded": succeeded,
                "runs": runs, "saved_percent": round(100 * outcome.saved_share, 2),
                "wrong": len(wrong), "sha256": digest, "simulated_s": round(simulated_s, 1),
            }
        )
    )  # fmt: skip
    return 0 if not wrong and len(kept) == len(arrivals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
