"""Figures of the fleet planner: `make bench-planner DATA=folder ONLY=p3,p8`, or this file with --help.

Cases p1 to p13 are those of docs/planning.md. Each prints its figures, with bounds from planner.yaml beside them; the
last line is one line of JSON. A case whose data or peer is not there says so and is left out. Sizes, seeds and runs are
flags. Times are seconds of one thread, medians of the runs, with the inner loops compiled before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import yaml  # noqa: E402
from bench.planner.cases import CASES  # noqa: E402
from bench.planner.tools import Missing, Settings  # noqa: E402


def numbers(text: str) -> list[int]:
    """`0-4` or `0,2,5`."""
    out: list[int] = []
    for part in text.split(","):
        a, _, b = part.partition("-")
        out += range(int(a), int(b or a) + 1)
    return out


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with carbon/, jobs/ and, for p8, forecast/")
    parser.add_argument("--only", default="", help="cases, for example p3,p8; none: all")
    parser.add_argument("--seeds", type=numbers, default=numbers("0-4"))
    parser.add_argument("--runs", type=int, default=5, help="of each timing")
    parser.add_argument(
        "--jobs", type=int, default=0, help="jobs of a fleet of p3, p4, p5, p8, p9, p10; 0: the case's own"
    )
    parser.add_argument("--fortnights", type=int, default=0, help="of p8, p9, p10; 0: all five")
    parser.add_argument("--million", action="store_true", help="p4: also 1,000,000 jobs, some minutes")
    parser.add_argument("--mip-s", type=float, default=60.0, help="seconds for each MIP; 0: only those in the cache")
    parser.add_argument("--mip-fleets", type=int, default=0, help="seeds of each size of p6, p7; 0: the case's own")
    parser.add_argument("--mip-cache", type=Path, default=Path.home() / ".cache" / "windward" / "bench-mip",
                        help="what MIPs and GAIA answered")  # fmt: skip
    parser.add_argument("--gaia", type=Path, default=None, help="checkout of umassos/GAIA, for p1")
    parser.add_argument("--gaia-zones", default="", help="zones of p1, with commas; none: all")
    parser.add_argument("--gaia-python", default=sys.executable, help="an interpreter that has pandas, for GAIA")
    parser.add_argument("--curves", type=Path, default=HERE / "data", help="folder of measured power curves, for p11")
    parser.add_argument("--no-compiled", action="store_true", help="leave the compiled loops out")
    return parser.parse_args()


def show(case: str, figures: dict[str, Any], bounds: dict[str, Any]) -> None:
    for name, value in figures.items():
        bound = bounds.get(case, {}).get(name)
        said = ""
        if bound and isinstance(value, (int, float)):
            fine = value <= bound.get("at_most", value) and value >= bound.get("at_least", value)
            limits = ", ".join(f"{k} {v}" for k, v in bound.items() if k.startswith("at_"))
            said = f"  {'ok' if fine else 'OVER'} ({limits})"
        print(f"  {case} {name}: {value}{said}", flush=True)


def main() -> None:
    args = arguments()
    bounds = yaml.safe_load((HERE.parent / "planner.yaml").read_text())["bounds"]
    settings = Settings(**vars(args))
    wanted = args.only.split(",") if args.only else list(CASES)
    answer: dict[str, Any] = {"bench": "planner"}
    for name in wanted:
        case = CASES[name]
        print(f"{name}: {(case.__doc__ or '').splitlines()[0]}", flush=True)
        try:
            answer[name] = case(settings)
            show(name, answer[name], bounds)
        except Missing as e:
            answer[name] = {"skipped": str(e)}
            print(f"  skipped: {e}", flush=True)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
