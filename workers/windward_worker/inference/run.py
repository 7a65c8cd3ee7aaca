"""`infer`: prompts to answers, over as many runs as it takes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from windward_api.workload import InferSpec, ModelSource
from windward_worker.checkpoint.claims import Claims
from windward_worker.control import PauseRequest, Refused, RunEnv, WorkerError, write_atomic
from windward_worker.execution.run import Run, carry_out
from windward_worker.inference.batch_policy import BatchPolicy
from windward_worker.inference.engine import Answer, Engine
from windward_worker.inference.jsonl import AnswerFile, Prompt, read_prompts
from windward_worker.inference.open import OpenedModel, block_bytes, blocks_for, open_runner
from windward_worker.inference.origin import OriginFile, model_digest, origin
from windward_worker.inference.scheduler import BatchLimits
from windward_worker.inference.sequence import Request
from windward_worker.inference.signals import read_signals
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
        own, beside = self._origin(), OriginFile(output)
        changed = beside.differs(own) if own is not None else []
        if changed:
            run.note(f"{output.name} was made otherwise ({', '.join(changed)}): all prompts are answered anew")
        self._answers = AnswerFile(output, self._prompts, anew=bool(changed))
        if own is not None:
            beside.write(own)
        # All prompts are here: nothing is gained by waiting, whatever the intensity. A cap holds by pauses.
        signals = read_signals(os.environ)
        self._batch_policy = BatchPolicy(cap_w=signals.cap_w, intensity_g_per_kwh=signals.intensity())
        self._unfinished = UnfinishedAnswers(folder / "sequences.json", own, spec.max_tokens)
        self._seconds = 0.0  # of steps in this run
        self._tokens = 0  # made in this run

    def _origin(self) -> dict[str, Any] | None:
        """What the answers are made with; None where the model is gone, which only matters if any is still to make."""
        try:
            return origin(self._spec, model_digest(model_path(self._spec.model, self._run.env)))
        except (Refused, OSError):
            return None

    def go(self) -> None:
        """Raises PauseRequested with all finished lines written, ClaimLost, Refused, OSError, and WorkerError with the
        number of prompts that failed, each of which has a line that says why."""
        self._report_progress()
        todo = [*sorted(self._answers.failed), *range(self._answers.count, len(self._prompts))]
        if todo:
            sound = [self._prompts[i] for i in todo if self._prompts[i].fault is None]
            self._serve(self._open(sound) if sound else None, todo)
        self._answers.close()
        log.info("answers in %s", self._answers.path)
        if failed := sorted(self._answers.failed):
            lines = ", ".join(str(i + 1) for i in failed[:8]) + (", ..." if len(failed) > 8 else "")
            raise WorkerError(
                f"{len(failed)} of {len(self._prompts)} prompts failed: lines {lines} of {self._answers.path.name} say "
                "why; correct the input and run again: only these are tried"
            )

    def _open(self, prompts: list[Prompt]) -> OpenedModel:
        spec, path = self._spec, model_path(self._spec.model, self._run.env)
        config = open_model(path).config
        longest = min(config.max_position_embeddings, max(len(p.text.encode()) for p in prompts) + 1 + spec.max_tokens)
        one = blocks_for(1, longest) * block_bytes(config, "stored", "float16")
        sequences = max(1, min(spec.batch_size, KV_BYTES // one))
        blocks = blocks_for(sequences, longest)
        opened = open_runner(path, blocks=blocks, threads=spec.threads or 1, context=longest)
        log.info(
            "%s parameters, prompt %d of %d", f"{config.num_parameters:,}", self._answers.count, len(self._prompts)
        )
        return opened

    def _serve(self, opened: OpenedModel | None, todo: list[int]) -> None:
        """Keep the engine fed with the next prompts; write each answer once all before it are written.

        `todo`: those that failed before, whose lines are replaced together, then the rest.
        """
        waiting, again = deque(todo), {i for i in todo if i < self._answers.count}
        lines: dict[int, dict[str, Any]] = {}
        feed = None if opened is None else _Feed(opened, self._engine(opened), self._spec, self._unfinished)
        batch = self._spec.batch_size
        while waiting or lines or (feed is not None and feed.index_of):
            while waiting and (feed is None or len(feed.index_of) < 2 * batch) and len(lines) < 8 * batch + len(again):
                index = waiting.popleft()
                error = self._prompts[index].fault
                if error is None and feed is not None:
                    error = feed.add(index, self._prompts[index].text)
                if error is not None:
                    lines[index] = {**self._blank(index), "error": error}
            if feed is not None:
                begun_s = time.monotonic()
                lines |= {index: self._line(feed.opened, index, answer) for index, answer in feed.step()}
                self._seconds += time.monotonic() - begun_s
            self._replace(lines, again)
            self._write(lines)
            if self._run.pause.requested and (waiting or lines or (feed is not None and feed.index_of)):
                if feed is not None:
                    feed.save()
                self._run.pause.check()

    def _engine(self, opened: OpenedModel) -> Engine:
        limits = BatchLimits(max(STEP_TOKENS, self._spec.batch_size), self._spec.batch_size)
        return Engine(opened.runner, limits=limits, recorder=self._run.energy, batch_policy=self._batch_policy)

    def _replace(self, lines: dict[int, dict[str, Any]], again: set[int]) -> None:
        """Once all that were tried again have a line, put these in their places."""
        if not again or not again <= set(lines):
            return
        self._claims.check(self._claim)
        ready = {index: lines.pop(index) for index in sorted(again)}
        again.clear()
        self._answers.replace(ready)
        self._count(list(ready.values()))

    def _write(self, lines: dict[int, dict[str, Any]]) -> None:
        """Append the answers that are next in line."""
        ready: list[dict[str, Any]] = []
        while self._answers.count + len(ready) in lines:
            ready.append(lines.pop(self._answers.count + len(ready)))
        if not ready:
            return
        self._claims.check(self._claim)
        self._answers.append(ready)
        self._count(ready)

    def _count(self, ready: list[dict[str, Any]]) -> None:
        self._tokens += sum(line["tokens"] for line in ready)
        self._run.run_units += sum("error" not in line for line in ready)
        self._report_progress()
        rate, done = self._run.joules_per_unit() or 0.0, self._answers.done
        log.info("prompt %d/%d  %.1f tok/s  %.2f J/prompt", done, len(self._prompts), self._speed(), rate)

    def _speed(self) -> float:
        return self._tokens / self._seconds if self._seconds else 0.0

    def _report_progress(self) -> None:
        total, done = len(self._prompts), self._answers.done
        self._run.checkpoint = f"line-{self._answers.count}"
        metrics = {}
        if self._tokens:
            metrics["tokens_per_s"] = self._speed()
            metrics["joules_per_token"] = self._run.energy.total_j / self._tokens
        self._run.report_progress(done / total if total else 1.0, float(done), metrics)

    def _blank(self, index: int) -> dict[str, Any]:
        method = self._run.energy.method.value
        prompt = self._prompts[index].text
        return {"index": index, "prompt": prompt, "text": "", "tokens": 0, "joules": 0.0, "method": method}

    def _line(self, opened: OpenedModel, index: int, answer: Answer) -> dict[str, Any]:
        line = {
            **self._blank(index),
            "text": opened.tokenizer.decode(list(answer.tokens)),
            "tokens": len(answer.tokens),
            "joules": round(answer.joules, 6),
            "method": answer.method.value,
        }
        return line if answer.grams is None else {**line, "grams": round(answer.grams, 9)}


class _Feed:
    """The prompts that an engine has, by their line."""

    def __init__(self, opened: OpenedModel, engine: Engine, spec: InferSpec, unfinished: UnfinishedAnswers) -> None:
        self.opened = opened
        self.index_of: dict[int, int] = {}  # of a request
        self._engine = engine
        self._spec = spec
        self._unfinished = unfinished

    def add(self, index: int, text: str) -> str | None:
        """Give the engine a prompt, or say why it cannot be answered."""
        ids, config, spec = self._encode(text), self.opened.runner.config, self._spec
        if not 0 < len(ids) < config.max_position_embeddings:
            limit = self.opened.file.config.max_position_embeddings
            return f"prompt of {len(ids)} tokens; this model takes 1 to {limit - 1}"
        request = Request(
            prompt=tuple(ids),
            max_tokens=spec.max_tokens,
            temperature=spec.temperature_milli / 1000,
            seed=line_seed(spec.seed, index),
            generated=self._unfinished.tokens_of(index, text),
        )
        try:
            self.index_of[self._engine.add(request)] = index
        except ValueError as error:  # its words: why this model can never answer it
            return str(error)
        return None

    def _encode(self, text: str) -> list[int]:
        """Token ids; an empty prompt begins with the model's begin token, if it has one."""
        ids: list[int] = self.opened.tokenizer.encode(text).ids
        bos = self.opened.runner.config.bos_token_id
        return ids if ids or bos is None else [bos]

    def step(self) -> list[tuple[int, Answer]]:
        """Lines and answers that one step of the engine brought."""
        answers = (event.answer for event in self._engine.step()) if self._engine.busy else ()
        return [(self.index_of.pop(answer.id), answer) for answer in answers if answer is not None]

    def save(self) -> None:
        """Keep the tokens of what is unfinished. Raises OSError."""
        self._unfinished.save({self.index_of[i]: tokens for i, tokens in self._engine.unfinished().items()})


class UnfinishedAnswers:
    """Tokens of answers that a pause cut short: the next run computes them again in one pass, not one by one.

    Only a help: where the file is missing, damaged or of another origin, answers begin anew. As a token depends on what
    stands before it and on the seed alone, they come out the same.
    """

    def __init__(self, path: Path, own: dict[str, Any] | None, max_tokens: int) -> None:
        self._path = path
        self._own = own
        self._max_tokens = max_tokens
        self._tokens_by_index: dict[str, Any] = {}
        try:
            document = json.loads(path.read_bytes())
            if own is not None and document["origin"] == own:
                self._tokens_by_index = dict(document["made"])
        except (OSError, ValueError, KeyError, TypeError):
            self._tokens_by_index = {}

    def tokens_of(self, index: int, prompt: str) -> tuple[int, ...]:
        """Tokens made for this prompt; none where nothing fits."""
        tokens = self._tokens_by_index.get(str(index), [])
        if not isinstance(tokens, list) or not all(isinstance(t, int) and t >= 0 for t in tokens):
            return ()
        return tuple(tokens) if len(tokens) < self._max_tokens else ()

    def save(self, tokens_by_index: dict[int, tuple[int, ...]]) -> None:
        """Keep what is unfinished. Raises OSError."""
        document = {"origin": self._own, "made": {str(i): list(t) for i, t in tokens_by_index.items() if t}}
        write_atomic(self._path, json.dumps(document).encode())
