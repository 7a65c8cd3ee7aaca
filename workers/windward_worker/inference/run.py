"""`infer`: prompts to answers, over as many runs as it takes."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import torch

from windward_api.workload import InferSpec, ModelSource
from windward_worker.checkpoint import Claims
from windward_worker.control import PauseAsked, PauseRequest, Refused, RunEnv
from windward_worker.control.run import Run, carry_out
from windward_worker.energy import Energy
from windward_worker.inference.engine import Answer, Batch
from windward_worker.inference.lines import Answers, read_prompts
from windward_worker.model import LoadedModel, load_path, package_file

log = logging.getLogger("windward.infer")


def infer(spec: InferSpec, env: RunEnv, pause: PauseRequest) -> int:
    """Answer the prompts that have no answer yet; returns the exit code. Always leaves a report."""
    torch.set_num_threads(spec.threads or 1)
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
    """The run of an InferSpec: open, batches, lines."""

    def __init__(self, spec: InferSpec, run: Run) -> None:
        self._spec = spec
        self._run = run
        self._claims = Claims(run.env.need_checkpoint_dir() / "claims")
        self._claim = self._claims.take(run.env.run)
        self._prompts = read_prompts(spec, run.env)
        output = run.env.inside_storage(spec.output or f"outputs/{run.env.job_name}.jsonl")
        self._answers = Answers(output, self._prompts)
        self._seconds = 0.0  # in batches of this run
        self._tokens = 0  # made in this run

    def go(self) -> None:
        """Raises PauseAsked with all finished lines written, ClaimLost, Refused, OSError."""
        total, answers = len(self._prompts), self._answers
        self._tell()
        if answers.count < total:
            model = load_path(model_path(self._spec.model, self._run.env))
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            model.decoder.to(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
            log.info("%s parameters, prompt %d of %d", f"{model.decoder.config.parameters:,}", answers.count, total)
        while answers.count < total:
            self._run.pause.check()
            self._batch(model)
            self._tell()
            rate = self._run.joules_per_unit() or 0.0
            log.info("prompt %d/%d  %.1f tok/s  %.2f J/prompt", answers.count, total, self._speed(), rate)
        answers.close()
        log.info("answers in %s", answers.path)

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

    def _batch(self, model: LoadedModel) -> None:
        """Answer the next prompts and append them; on a pause, those at the front that are done."""
        spec, begin = self._spec, self._answers.count
        texts = self._prompts[begin : begin + spec.batch_size]
        coded = [self._encode(model, text) for text in texts]
        fits = [i for i, ids in enumerate(coded) if 0 < len(ids) < model.decoder.config.context]
        begun_s = time.monotonic()
        answers = {i: Answer(done=True) for i in range(len(texts))}
        with self._run.energy.window("batch") as window:
            if fits:
                batch = Batch(
                    model.decoder,
                    [coded[i] for i in fits],
                    max_tokens=spec.max_tokens,
                    temperature=spec.temperature_milli / 1000,
                    seeds=[line_seed(spec.seed, begin + i) for i in fits],
                )
                answers.update(zip(fits, batch.answers, strict=True))
                while not batch.done and not self._run.pause.asked:
                    batch.step()
        lines = self._lines(model, begin, coded, answers, window.energy)
        self._claims.check(self._claim)
        self._answers.append(lines)
        self._seconds += time.monotonic() - begun_s
        self._tokens += sum(line["tokens"] for line in lines)
        self._run.run_units += len(lines)
        if len(lines) < len(texts):
            self._tell()
            raise PauseAsked

    def _encode(self, model: LoadedModel, text: str) -> list[int]:
        """Token ids; an empty prompt begins with the model's begin token, if it has one."""
        ids: list[int] = model.tokenizer.encode(text).ids
        bos = model.decoder.config.bos
        return ids if ids or bos is None else [bos]

    def _lines(
        self, model: LoadedModel, begin: int, coded: list[list[int]], answers: dict[int, Answer], energy: Energy
    ) -> list[dict[str, Any]]:
        """Lines of the answers that are done, up to the first that is not; joules by tokens seen and made."""
        weights = [len(ids) + len(answers[i].tokens) for i, ids in enumerate(coded)]
        lines = []
        for i, ids in enumerate(coded):
            if not answers[i].done:
                break
            line: dict[str, Any] = {
                "index": begin + i,
                "prompt": self._prompts[begin + i],
                "text": model.tokenizer.decode(answers[i].tokens),
                "tokens": len(answers[i].tokens),
                "joules": round(energy.joules * weights[i] / max(1, sum(weights)), 6),
                "method": energy.method.value,
            }
            if not 0 < len(ids) < model.decoder.config.context:
                line["error"] = f"prompt of {len(ids)} tokens; this model takes 1 to {model.decoder.config.context - 1}"
            lines.append(line)
        return lines
