"""`windward demo`: the whole of it in two minutes, on real grid data of 2022, without a network.

It trains a small language model, pauses in the dirty hours, goes on in another region, then lets the trained model
write, and ends with the receipts. The clock runs fast and leaps while nothing runs; the work is real, and so is the
energy that is metered or modelled for it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from windward.cli.errors import CliError, on_path
from windward.cli.forecast import forecast
from windward.cli.manifest_files import Objects
from windward.cli.plan import card, make
from windward.cli.progress import Board
from windward.cli.receipt import card as receipt_card
from windward.cli.run import World, drive
from windward.cli.sources import Source
from windward.domain.run import Phase
from windward.reports import figures
from windward.reports.export import totals
from windward.reports.shown import shown
from windward.service.controller import Cycle
from windward.service.planned import plan_body
from windward.service.submissions import Submission
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion

# Two days of April: the plan trains under California's noon sun, pauses, and goes on in the winds of Texas.
START = "2022-04-07T18:00:00Z"
ZONES = ("US-CAL-CISO", "US-TEX-ERCO")
HOURS = 12  # planned hours of training
OVERHEAD = "45m"  # of planned time: at this speed, what loading the runtime again takes
TRAIN_S = 100.0  # real seconds that these are to take
PLAIN_S = 25.0
PROMPTS = ("def __init__(self", "import ", "    for i in range(", "class ", "    return ", "if __name__ ==")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """What the demo runs: two pod templates or runtime specs, and how fast the clock should go."""

    train: Body
    infer: Body
    speed: float
    summary: str


def demo(speed: float, keep: Path | None, *, plain: bool, output: str) -> None:
    """Run the demonstration."""
    torch = importlib.util.find_spec("torch") is not None and not plain
    with _home(keep) as home:
        work = _runtime(home) if torch else _plain()
        clock = speed or work.speed
        _tell(f"{work.summary}; clock {clock:.0f} x, leaping while nothing runs\n", output)
        jobs = {"demo-train": _job("demo-train", work.train), "demo-infer": _job("demo-infer", work.infer)}
        first = _first_plan(jobs["demo-train"], output)
        receipts, cycles, at = [], [], datetime.fromisoformat(START)
        for name, job in jobs.items():
            cycle, receipt = _run(job, World(speed=clock, start=at, home=home), name, output)
            receipts.append(receipt)
            cycles.append(cycle)
            at = cycle.at.replace(microsecond=0)
        if output == "json":
            print(json.dumps(_document(receipts, cycles, first), indent=2))
        else:
            _close(receipts, home, torch)


@contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise on_path(f"--keep {keep} cannot be made", e) from e
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="windward-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _tell(line: str, output: str) -> None:
    (sys.stderr if output == "json" else sys.stdout).write(line)
    sys.stdout.flush()


def _region(name: str, zone: str, pue: str) -> Body:
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {"name": name},
        "spec": {"gridZone": zone, "pue": pue},
    }


REGIONS = (_region("west", ZONES[0], "1.25"), _region("texas", ZONES[1], "1.10"))


def _job(name: str, work: Body) -> Body:
    if name == "demo-train":
        pausable = {"policy": "Checkpoint", "overhead": OVERHEAD}
        when: Body = {"completeWithin": "48h", "duration": f"{HOURS}h", "interruption": pausable}
    else:
        when = {"completeWithin": "6h", "duration": "2h", "policy": {"minSavingPercent": 10}}
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            **when,
            "placement": {"regions": ["west", "texas"], "home": "west"},
            "power": {"watts": 300},
            **work,
        },
    }


def _first_plan(job: Body, output: str) -> Body:
    """Show the coming hours and the plan, before anything runs; returns the plan as data."""
    now = datetime.fromisoformat(START)
    models = Objects((), (GreenJob.model_validate(job),), (), tuple(GreenRegion.model_validate(r) for r in REGIONS))
    fleet, known, plan = make(models, now, Source())
    if output != "json":
        forecast(ZONES, "48h", "4h", "shared", START, Source(), "table")
        print("\n" + card(fleet.work[0], plan.jobs[fleet.work[0].key], fleet, known, now) + "\n", flush=True)
    return plan_body(plan.jobs[fleet.work[0].key])


def _run(job: Body, how: World, name: str, output: str) -> tuple[Cycle, Body]:
    """Drive one job to its end; its receipt with the hash."""
    assert how.home is not None
    board = Board(how.home, streams=False)  # what it wrote is shown at the end
    cycle, world, uids = drive(Submission((job,), REGIONS), how, board, output)
    history = world.ledger.receipt_history(uids[0])
    world.close()
    last = cycle.snapshot.jobs[0].runs[-1] if cycle.snapshot.jobs[0].runs else None
    if last is None or last.phase is not Phase.SUCCEEDED or not history:
        log = f"{world.home / 'runs' / last.name / 'log'}" if last is not None else "no run"
        message = last.message if last is not None else ""
        raise CliError(
            f"{name} did not finish", cause=message or f"see {log}", fix="windward doctor; --keep DIR keeps the logs"
        )
    return cycle, {**history[-1].body, "sha256": history[-1].sha256}


def _runtime(home: Path) -> Work:
    """Training and inference by the shared runtime; a few steps are timed first, so that the work fits this machine."""
    model = {"layers": 4, "width": 128, "vocabulary": 1024, "context": 128}
    spec = {"model": model, "steps": 100, "checkpointEvery": 50}
    storage = home / "storage" / "default"
    storage.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "WINDWARD_STORAGE_DIR": str(storage), "WINDWARD_CHECKPOINT_DIR": str(home / "measure")}
    sys.stderr.write("timing a few training steps on this machine ...\n")
    command = [sys.executable, "-P", "-m", "windward_worker", "measure", "--spec", json.dumps(spec)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CliError(
            "the runtime does not work here", cause=done.stderr[-500:], fix="windward doctor, or windward demo --plain"
        )
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    steps = max(20, round(measured["steps_per_s"] * (TRAIN_S - measured["startup_s"])))
    return Work(
        train={"train": {**spec, "steps": steps}},
        infer={"infer": {"model": {"job": "demo-train"}, "prompts": list(PROMPTS), "maxTokens": 48}},
        speed=HOURS * 3600 / TRAIN_S,
        summary=f"{steps} steps at {measured['steps_per_s']:.2f} a second stand for {HOURS} planned hours",
    )


def _plain() -> Work:
    """Without torch: a character model counted in plain Python. Small, but real work under the same contract."""

    def template(*arguments: str) -> Body:
        command = [sys.executable, "-P", "-m", "windward_worker.plain", *arguments]
        return {"template": {"spec": {"containers": [{"name": "plain", "image": "none", "command": command}]}}}

    return Work(
        train=template("train", "--seconds", f"{PLAIN_S:g}"),
        infer=template("write", "--model", "demo-train", *(x for p in PROMPTS for x in ("--prompt", p))),
        speed=HOURS * 3600 / PLAIN_S,
        summary=f"{PLAIN_S:.0f} s of counting letters stand for {HOURS} planned hours",
    )


def _document(receipts: list[Body], cycles: list[Cycle], first: Body) -> Body:
    runs = [r for c in cycles for o in c.snapshot.jobs for r in o.runs]
    return {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "Demo",
        "demo": "DEMO TRACE 2022: recorded intensities; not for reporting",
        "windows": len(runs),
        "pauses": sum(r.phase is Phase.PAUSED for r in runs),
        "plan": first,
        "receipts": receipts,
        "totals": totals(receipts),
    }


def _totals(receipts: list[Body]) -> list[str]:
    """The sums of the receipts, of each group that counts the same thing."""
    out = []
    for t in totals(receipts):
        mark = "~" if any(r["method"] != "measured" for r in receipts) else ""
        line = f"TOTAL     {t['jobs']} jobs {t['outcome']}  {t['energyJoules'] / 3.6e6:.4g} kWh"
        if not t["jobsWithoutEmissions"] and not t["jobsWithoutBaseline"]:
            saved = figures.saved(t["savedGrams"], t["runNowGrams"], mark)
            line += f"  {figures.grams(t['emissionsGrams'], mark)}  run at once {figures.grams(t['runNowGrams'], mark)}"
            line += f"  saved {saved}"
        out.append(f"{line}  DEMO TRACE 2022, not for reporting")
    return out


def _close(receipts: list[Body], home: Path, torch: bool) -> None:
    """The receipts, what the model wrote, and what to do next."""
    print()
    for r in receipts:
        print(receipt_card(r, r["sha256"], kept=False) + "\n")  # its folder goes, or is not where report looks
    written = home / "storage" / "default" / "outputs" / "demo-infer.jsonl"
    if written.exists():
        print("WRITTEN   by the model just trained:")
        for line in written.read_text().splitlines()[:3]:
            answer = json.loads(line)
            written_line = (answer["prompt"] + answer["text"]).splitlines() or [""]
            print(f"          {shown(written_line[0][:100])!r}")
    for line in _totals(receipts):
        print(line)
    if not torch:
        print("NOTE      plain commands ran; pip install 'windward[worker]' adds training and inference by our runtime")
    print("NEXT      windward plan -f examples/train.yaml")
    print("          windward run --zone GB --provider neso --duration 2h --deadline 12h -- CMD")
