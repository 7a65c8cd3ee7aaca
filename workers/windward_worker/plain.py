"""Real work that needs no torch: a character model of Python's own source, counted and sampled in plain Python.

For machines without `windward[worker]`, and as an example of a program that honours the contract in a few lines: on
SIGTERM it writes its state and exits with 75; started again it goes on from there. Its supervisor meters it.

The model is an order-4 Markov chain over characters (Shannon 1948); its quality is the mean code length, in bits per
character, of text that it has not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sysconfig
import time
from pathlib import Path
from typing import Any

from windward_api.contract import EXIT_DONE, EXIT_PAUSED, Outcome, Progress, Report
from windward_worker.control import PauseRequest, ProgressFile, RunEnv, read_env, write_atomic, write_report

ORDER = 4
ALPHABET = 128  # characters of ASCII, for the smoothing
CHUNK = 8192
HELD_OUT = 20  # one file in so many is kept for judging

Counts = dict[str, dict[str, int]]


def corpus() -> tuple[list[Path], list[Path]]:
    """Files of the standard library's top folder in a fixed order: those to count, those to judge by."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return [f for i, f in enumerate(files) if i % HELD_OUT], files[::HELD_OUT]


def count(counts: Counts, text: str) -> None:
    """Add every character of `text` to what follows its `ORDER` predecessors."""
    for i in range(ORDER, len(text)):
        after = counts.setdefault(text[i - ORDER : i], {})
        after[text[i]] = after.get(text[i], 0) + 1


def bits_per_character(counts: Counts, text: str) -> float:
    """Mean code length of `text`, with add-one smoothing over `ALPHABET` characters."""
    total = 0.0
    for i in range(ORDER, len(text)):
        after = counts.get(text[i - ORDER : i], {})
        total -= math.log2((after.get(text[i], 0) + 1) / (sum(after.values()) + ALPHABET))
    return total / max(1, len(text) - ORDER)


def train(seconds: float, env: RunEnv, pause: PauseRequest) -> int:
    """Count for `seconds` of working time, over all runs; exit code of the contract."""
    state_file = env.need_checkpoint_dir() / "state.json"
    model_file = env.need_storage_dir() / "models" / env.job_name / "characters.json"
    state: dict[str, Any] = {"worked_s": 0.0, "done": 0, "place": 0, "counts": {}}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    began_with, files, live = state["done"], corpus()[0], ProgressFile(env.progress_file)
    while state["worked_s"] < seconds and not pause.requested:
        began_s = time.monotonic()
        text = files[state["place"] % len(files)].read_text(errors="replace")[:CHUNK]
        count(state["counts"], text)
        state["place"] += 1
        state["done"] += len(text)
        state["worked_s"] += time.monotonic() - began_s
        fraction = min(1.0, state["worked_s"] / seconds)
        progress = Progress(fraction=fraction, units_done=state["done"], unit="character")
        live.write(progress)
    write_atomic(state_file, json.dumps(state).encode())
    finished = state["worked_s"] >= seconds
    metrics = {}
    if finished:
        held_out = "".join(f.read_text(errors="replace")[:CHUNK] for f in corpus()[1])
        metrics["bits_per_character"] = bits_per_character(state["counts"], held_out)
        write_atomic(model_file, json.dumps(state["counts"]).encode())
    fraction = 1.0 if finished else state["worked_s"] / seconds
    progress = Progress(fraction=fraction, units_done=state["done"], unit="character", metrics=metrics)
    outcome = Outcome.SUCCEEDED if finished else Outcome.PAUSED
    units = state["done"] - began_with
    write_report(
        env.report_file, Report(outcome=outcome, progress=progress, run_units=units, checkpoint=str(state["place"]))
    )
    return EXIT_DONE if finished else EXIT_PAUSED


def write(model: str, prompts: list[str], length: int, env: RunEnv) -> int:
    """Continue each prompt by `length` characters from the chain of the job `model`; JSON lines to `outputs/`."""
    counts: Counts = json.loads((env.need_storage_dir() / "models" / model / "characters.json").read_text())
    dice, lines = random.Random(0), []  # noqa: S311 - no secret
    for index, prompt in enumerate(prompts):
        text = prompt
        for _ in range(length):
            after = counts.get(text[-ORDER:]) or counts[dice.choice(sorted(counts))]
            text += dice.choices(list(after), list(after.values()))[0]
        lines.append(json.dumps({"index": index, "prompt": prompt, "text": text[len(prompt) :]}))
    output = env.need_storage_dir() / "outputs" / f"{env.job_name}.jsonl"
    write_atomic(output, ("\n".join(lines) + "\n").encode())
    done = len(prompts) * length
    progress = Progress(fraction=1.0, units_done=done, unit="character")
    write_report(env.report_file, Report(outcome=Outcome.SUCCEEDED, progress=progress, run_units=done))
    return EXIT_DONE


def main() -> int:
    """`python -m windward_worker.plain train --seconds S | write --model JOB --prompt TEXT ...`."""
    pause = PauseRequest().install()
    parser = argparse.ArgumentParser(prog="windward_worker.plain", description="A character model in plain Python.")
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("train", help="count characters")
    learn.add_argument("--seconds", type=float, required=True)
    speak = commands.add_parser("write", help="continue prompts")
    speak.add_argument("--model", required=True)
    speak.add_argument("--prompt", action="append", required=True)
    speak.add_argument("--length", type=int, default=80)
    arguments = parser.parse_args()
    env = read_env(os.environ)
    if arguments.command == "train":
        return train(arguments.seconds, env, pause)
    return write(arguments.model, arguments.prompt, arguments.length, env)


if __name__ == "__main__":
    raise SystemExit(main())
