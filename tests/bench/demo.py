"""Figures of the demo and of the commands around it: `make bench-demo`, or `python tests/bench/demo.py [--plain]`.

Prints one line for each figure, with its bound from demo.yaml, and closes with one line of JSON. Every gram is computed
again here from the receipts' intervals alone. The operator's memory is that of `windward-operator` on a real API server
(operator_memory.py); where none can be started the figure is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WINDWARD = str(Path(sys.executable).parent / "windward")
JOBS = 1000
TIMES = 5
NO_CLUSTER = 3  # exit code of operator_memory.py


def timed(*command: str, home: str) -> tuple[float, str]:
    """Seconds and stdout of a command that must succeed; what it says on stderr is passed on."""
    env = {**os.environ, "WINDWARD_HOME": home}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def median_s(*command: str, home: str) -> float:
    """Median of `TIMES` runs, after one that fills the caches."""
    timed(*command, home=home)
    return statistics.median(timed(*command, home=home)[0] for _ in range(TIMES))


def recomputed_g(receipt: dict[str, Any]) -> float:
    """The grams of a receipt by its own formula, from its intervals alone."""
    return sum(i["joules"] / 3.6e6 * i["intensityGramsPerKwh"] * i["pue"] for i in receipt["intervals"])


def operator_memory(home: str) -> float | None:
    """Resident memory in MiB of the operator with `JOBS` waiting GreenJobs on a real API server (operator_memory.py);
    None, said on stderr, where this machine cannot start one."""
    command = [sys.executable, "-P", str(HERE / "operator_memory.py"), "--jobs", str(JOBS)]
    done = subprocess.run(command, env={**os.environ, "WINDWARD_HOME": home}, stdout=subprocess.PIPE, text=True)
    if done.returncode == NO_CLUSTER:
        return None
    done.check_returncode()
    return float(json.loads(done.stdout.splitlines()[-1])["operator_mib"]["now"])


def told(figures: dict[str, float], bounds: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each figure: value, bound, whether it holds."""
    out = []
    for name, value in figures.items():
        line = f"{name:20} {value:12.6g}"
        bound = bounds.get(name)
        if bound is not None:
            held = value <= bound.get("at_most", value) and value >= bound.get("at_least", value)
            limit = f"at most {bound['at_most']:g}" if "at_most" in bound else f"at least {bound['at_least']:g}"
            line += f"  {'ok  ' if held else 'OVER'}  {limit:14}  {bound['source']}"
        out.append(line.rstrip())
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="the demo's plain commands even where torch is installed")
    arguments = parser.parse_args()
    plain = ["--plain"] if arguments.plain else []
    with tempfile.TemporaryDirectory(prefix="windward-bench-") as home:
        wall_s, document = timed(WINDWARD, "demo", "-o", "json", *plain, home=home)
        plan_s = median_s(WINDWARD, "plan", "-f", "examples/train.yaml", "-o", "json", home=home)
        help_s = median_s(WINDWARD, "--help", home=home)
        rss = operator_memory(home)
    demo = json.loads(document)
    receipts = demo["receipts"]
    figures = {
        "wall_s": round(wall_s, 2),
        "windows": demo["windows"],
        "pauses": demo["pauses"],
        "energy_wh": sum(r["energyJoules"] for r in receipts) / 3600,
        "emissions_g": sum(r["emissionsGrams"] for r in receipts),
        "run_now_g": sum(r["runNowGrams"] for r in receipts),
        "recomputed_g": sum(recomputed_g(r) for r in receipts),
        "plan_s": round(plan_s, 3),
        "help_ms": round(1000 * help_s, 1),
    }
    if rss is not None:
        figures["operator_rss_mib"] = rss
    grams = figures["emissions_g"]
    checked = {**figures, "recomputed_relative": abs(figures["recomputed_g"] - grams) / grams}
    print("\n".join(told(checked, yaml.safe_load((HERE / "demo.yaml").read_text())["bounds"])))
    print(f"saved {figures['run_now_g'] - grams:.1f} g of {figures['run_now_g']:.1f} g ({demo['demo']})")
    what = (
        f"VmRSS of windward-operator on a real API server with {JOBS} waiting GreenJobs, a minute after all were told"
    )
    print(f"operator_rss_mib: {what if rss is not None else 'left out, no test cluster here (see above)'}")
    print(json.dumps({"bench": "demo", **figures}))


if __name__ == "__main__":
    main()
