"""`infer`: prompts to answers, over as many runs as it takes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from windward_api.workload import InferSpec, ModelSource
from windward_worker.checkpoint.claims import Claims
from windward_worker.control import PauseRequest, Refused, RunEnv, write_atomic
from windward_worker.control.run import Run, carry_out
from windward_worker.inference.engine import Answer, Engine
from windward_worker.inference.lines import Answers, read_prompts
from windward_worker.inference.open import Opened, block_bytes, blocks_for, open_runner
from windward_worker.inference.orders import read_orders
from windward_worker.inference.pace import Pace
from windward_worker.inference.scheduler import Limits
from windward_worker.inference.sequence import Request
from windward_worker.model.stored import open_model, package_file

log = logging.getLogger("windward.infer")
STEP_TOKENS = 512
KV_BYTES = 1 << 30  # most that the KV cache takes, unless one sequence needs more


def infer(spec: InferSpec, env: RunEnv, pause: PauseRequest) -> int:
    """Answer the prompts that have no answer yet; returns the exit code. Always leaves a report."""
    return carry_out(Run(env, pause, "prompt"), lambda run: _Inference(spec, run).go())


def model_path(source: ModelSource, env: RunEnv) -> Path:
    """Where the model lies. Raises Refused where it is not there, or outside the storage."""
    if source.package is not None:
        return package_file(source.package)
    if source.job is not None:
        path = env.inside_storage(f"models/{source.job}")
        if not path.is_dir():
            raise Refused(f"GreenJob {source.job!r} has left no model; let its training succeed first")
        return path
    assert source.path is not None, "ModelSource has exactly one of job, path, package"
    return env.inside_storage(source.path)


def line_seed(seed: int, index: int) -> int:
    """A seed of its own for each line. Mixed into 32 bits, as torch's CPU generator drops all above them."""
    return int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:4], "little")


class _Inference:
    """The run of an InferSpec: open, feed the engine, write lines in order."""

    def __init__(self, spec: InferSpec, run: Run) -> None:
        self._spec = spec
        self._run = run
        folder = run.env.need_checkpoint_dir()
        self._claims = Claims(folder / "claims")
        self._claim = self._claims.take(run.env.run)
        self._prompts = read_prompts(spec, run.env)
        output = run.env.inside_storage(spec.output or f"outputs/{run.env.job_name}.jsonl")
        self._answers = Answers(output, self._prompts)
        # All prompts are here: nothing is gained by waiting, whatever the intensity. A cap holds by pauses.
        orders = read_orders(os.environ)
        self._pace = Pace(cap_w=orders.cap_w, intensity_g_per_kwh=orders.intensity())
        self._unfinished = Unfinished(folder / "sequences.json", spec)
        self._seconds = 0.0  # of steps in this run
        self._tokens = 0  # made in this run

    def go(self) -> None:
        """Raises PauseAsked with all finished lines written, ClaimLost, Refused, OSError."""
        self._tell()
        if self._answers.count < len(self._prompts):
            opened = self._open()
            self._serve(opened)
        self._answers.close()
        log.info("answers in %s", self._answers.path)

    def _open(self) -> Opened:
        spec, path = self._spec, model_path(self._spec.model, self._run.env)
        config = open_model(path).config
        longest = min(config.context, max(len(p.encode()) for p in self._prompts) + 1 + spec.max_tokens)
        one = blocks_for(1, longest) * block_bytes(config, "stored", "float16")
        sequences = max(1, min(spec.batch_size, KV_BYTES // one))
        blocks = blocks_for(sequences, longest)
        opened = open_runner(path, blocks=blocks, threads=spec.threads or 1, context=longest)
        log.info("%s parameters, prompt %d of %d", f"{config.parameters:,}", self._answers.count, len(self._prompts))
        return opened

    def _serve(self, opened: Opened) -> None:
        """Keep the engine fed with the next prompts; write each answer once all before it are written."""
        spec, total = self._spec, len(self._prompts)
        limits = Limits(max(STEP_TOKENS, spec.batch_size), spec.batch_size)
        engine = Engine(opened.runner, limits=limits, recorder=self._run.energy, pace=self._pace)
        lines: dict[int, dict[str, Any]] = {}
        index_of: dict[int, int] = {}
        fed = self._answers.count
        while self._answers.count < total:
            while fed < total and len(index_of) < 2 * spec.batch_size and len(lines) < 8 * spec.batch_size:
                self._feed(engine, opened, fed, index_of, lines)
                fed += 1
            begun_s = time.monotonic()
            for event in engine.step() if engine.busy else ():
                if event.answer is not None:
                    index = index_of.pop(event.id)
                    lines[index] = self._line(opened, index, event.answer)
            self._seconds += time.monotonic() - begun_s
            self._write(lines)
            if self._run.pause.asked:
                self._unfinished.save({index_of[i]: made for i, made in engine.unfinished().items()})
                self._run.pause.check()

    def _feed(
        self, engine: Engine, opened: Opened, index: int, index_of: dict[int, int], lines: dict[int, dict[str, Any]]
    ) -> None:
        """Give the engine a prompt, or write down why it cannot be answered."""
        ids, config, spec = self._encode(opened, self._prompts[index]), opened.runner.config, self._spec
        if not 0 < len(ids) < config.context:
            error = f"prompt of {len(ids)} tokens; this model takes 1 to {opened.file.config.context - 1}"
            lines[index] = {**self._blank(index), "error": error}
            return
        request = Request(
            prompt=tuple(ids),
            max_tokens=spec.max_tokens,
            temperature=spec.temperature_milli / 1000,
            seed=line_seed(spec.seed, index),
            made=self._unfinished.made(index, self._prompts[index]),
        )
        index_of[engine.add(request)] = index

    def _write(self, lines: dict[int, dict[str, Any]]) -> None:
        """Append the answers that are next in line."""
        ready: list[dict[str, Any]] = []
        while self._answers.count + len(ready) in lines:
            ready.append(lines.pop(self._answers.count + len(ready)))
        if not ready:
            return
        self._claims.check(self._claim)
        self._answers.append(ready)
        self._tokens += sum(line["tokens"] for line in ready)
        self._run.run_units += len(ready)
        self._tell()
        rate, done = self._run.joules_per_unit() or 0.0, self._answers.count
        log.info("prompt %d/%d  %.1f tok/s  %.2f J/prompt", done, len(self._prompts), self._speed(), rate)

    def _speed(self) -> float:
        return self._tokens / self._seconds if self._seconds else 0.0

    def _tell(self) -> None:
        total, done = len(self._prompts), self._answers.count
        self._run.checkpoint = f"line-{done}"
        metrics = {}
        if self._tokens:
            metrics["tokens_per_s"] = self._speed()
            metrics["joules_per_token"] = self._run.energy.total_j / self._tokens
        self._run.tell(done / total if total else 1.0, float(done), metrics)

    def _encode(self, opened: Opened, text: str) -> list[int]:
        """Token ids; an empty prompt begins with the model's begin token, if it has one."""
        ids: list[int] = opened.tokenizer.encode(text).ids
        bos = opened.runner.config.bos
        return ids if ids or bos is None else [bos]

    def _blank(self, index: int) -> dict[str, Any]:
        method = self._run.energy.method.value
        prompt = self._prompts[index]
        return {"index": index, "prompt": prompt, "text": "", "tokens": 0, "joules": 0.0, "method": method}

    def _line(self, opened: Opened, index: int, answer: Answer) -> dict[str, Any]:
        line = {
            **self._blank(index),
            "text": opened.tokenizer.decode(list(answer.tokens)),
            "tokens": len(answer.tokens),
            "joules": round(answer.joules, 6),
            "method": answer.method.value,
        }
        return line if answer.grams is None else {**line, "grams": round(answer.grams, 9)}


class Unfinished:
    """Tokens of answers that a pause cut short: the next run computes them again in one pass, not one by one.

    Only a help: where the file is missing, damaged or of another spec, answers begin anew. As a token depends on what
    stands before it and on the seed alone, they come out the same.
    """

    def __init__(self, path: Path, spec: InferSpec) -> None:
        self._path = path
        self._spec = spec.model_dump_json(exclude={"batch_size", "threads"})
        self._made: dict[str, Any] = {}
        try:
            found = json.loads(path.read_bytes())
            if found["spec"] == self._spec:
                self._made = dict(found["made"])
        except (OSError, ValueError, KeyError, TypeError):
            self._made = {}

    def made(self, index: int, prompt: str) -> tuple[int, ...]:
        """Tokens made for this prompt; none where nothing fits."""
        found = self._made.get(str(index), [])
        if not isinstance(found, list) or not all(isinstance(t, int) and t >= 0 for t in found):
            return ()
        return tuple(found) if len(found) < json.loads(self._spec)["max_tokens"] else ()

    def save(self, made: dict[int, tuple[int, ...]]) -> None:
        """Keep what is unfinished. Raises OSError."""
        document = {"spec": self._spec, "made": {str(i): list(t) for i, t in made.items() if t}}
        write_atomic(self._path, json.dumps(document).encode())
