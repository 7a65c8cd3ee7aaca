"""`train`: from a TrainSpec to an exported model, over as many runs as it takes."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

from windward_api.workload import TrainSpec
from windward_worker.checkpoint import Checkpoint, Claim, SharedStorage, open_store
from windward_worker.control import Diverged, PauseRequest, PauseRequested, RunEnv, process_age_s
from windward_worker.execution.run import Run, carry_out
from windward_worker.model import Decoder, save_folder
from windward_worker.train.corpus import Corpus, open_corpus
from windward_worker.train.hooks import BaseHook, CheckpointHook, PauseHook
from windward_worker.train.identity import check_same_work, checkpoint_state, stored_identity
from windward_worker.train.pretrain import bits_per_byte, pretraining, tokens_per_step
from windward_worker.train.trainer import Trainer

log = logging.getLogger("windward.train")

LINES = 20  # of log, over a whole job
MEASURED_STEPS = 10


def train(spec: TrainSpec, env: RunEnv, pause: PauseRequest) -> int:
    """Train to the end, or until a pause is asked for; returns the exit code. Always leaves a report."""
    torch.set_num_threads(spec.threads or 1)
    run = Run(env, pause, "token")
    return carry_out(run, lambda run: _Training(spec, run).go())


def _device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512_BF16 or AMX); others take some ten times as long."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return True  # another system or architecture: no reason to warn
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


class _Training:
    """The run of a TrainSpec: resume, steps, checkpoints, export."""

    def __init__(self, spec: TrainSpec, run: Run) -> None:
        self._spec = spec
        self._run = run
        self._store = open_store(run.env)
        self._storage = SharedStorage(run.env)
        self._model = f"models/{run.env.job_name}"  # relative to the storage
        self._claim: Claim = self._store.claim(run.env.run)
        self._metrics: dict[str, float] = {}
        self._seconds = 0.0  # in steps of this run
        self._saved = -1  # step of the newest checkpoint
        self._text = ""  # digest of what is read

    def go(self) -> None:
        """Raises PauseRequested with a checkpoint written, Diverged, ClaimLost, Refused, OSError."""
        loaded = self._store.load()
        for sentence in loaded.passed_over:
            self._run.note(sentence)
        checkpoint = loaded.checkpoint
        if checkpoint is not None:
            check_same_work(checkpoint, self._spec, None)
            self._run.checkpoint, self._saved = checkpoint.id, checkpoint.step
            self._metrics = dict(checkpoint.state.get("metrics", {}))
            steps = self._spec.steps
            self._run.report_progress(
                checkpoint.step / steps, checkpoint.step * tokens_per_step(self._spec), self._metrics
            )
            if checkpoint.complete and checkpoint.step == steps and self._storage.holds(self._model):
                log.info("complete since %s; nothing is left to do", checkpoint.id)
                return
            self._extended(checkpoint)
        elif loaded.passed_over:
            self._run.note("no sound checkpoint is left; beginning anew")
        spec = self._spec
        begun = stored_identity(checkpoint).get("text") if checkpoint is not None else None
        text = (spec.data, spec.model.vocabulary, spec.model.context)
        if spec.data.path is not None:
            self._storage.fetch(spec.data.path)
        corpus = open_corpus(*text, self._storage.env, self._run.pause.check, begun)
        self._text = corpus.digest
        trainer = pretraining(spec, corpus, _device())
        if checkpoint is not None:
            check_same_work(checkpoint, spec, corpus.digest)
            trainer.restore(checkpoint)
        if spec.precision == "bfloat16" and trainer.model.norm.weight.device.type == "cpu" and not fast_bfloat16():
            log.warning("this processor emulates bfloat16, which is some ten times slower: set precision float32")
        log.info("%s parameters, step %s of %s", f"{trainer.model.config.num_parameters:,}", trainer.step, spec.steps)
        try:
            self._steps(trainer, corpus)
        except Diverged as error:
            kept = (
                f"checkpoint {self._run.checkpoint} is sound" if self._run.checkpoint else "no checkpoint was written"
            )
            raise Diverged(f"{error}; {kept}; lower learningRateMicro, or look at the text, and run again") from error
        self._export(trainer, corpus.tokenizer)

    def _extended(self, checkpoint: Checkpoint) -> None:
        """A job that was given other steps: its judgement is of the past, and its rate follows the new number."""
        old = checkpoint.state
        before = old.get("steps", old.get("fingerprint", {}).get("spec", {}).get("steps", self._spec.steps))
        if before != self._spec.steps:
            self._metrics.pop("bits_per_byte", None)
            self._run.note(
                f"steps were {before} and are {self._spec.steps}: from here on the rate follows the new number"
            )

    def _steps(self, trainer: Trainer[Decoder], corpus: Corpus) -> None:
        """Train, judge, and keep the last step; a pause keeps the step that it came in."""
        spec = self._spec
        trainer.hooks += [
            PauseHook(self._run.pause),
            _ProgressHook(self),
            CheckpointHook(spec.checkpoint_every, spec.steps, lambda: self._save(trainer)),
        ]
        try:
            trainer.run()
            if "bits_per_byte" not in self._metrics:
                self._metrics["bits_per_byte"] = bits_per_byte(trainer.model, corpus, self._spec, self._run.pause.check)
                self._saved = -1  # a pause may have kept this step without it
        except PauseRequested:
            self._save(trainer)
            raise
        self._save(trainer)
        self._report_progress(trainer.step)

    def stepped(self, step: int, loss: float, seconds: float) -> None:
        """Count a step that was done; report and now and then log it."""
        self._metrics["loss"] = loss
        self._seconds += seconds
        self._run.run_units += tokens_per_step(self._spec)
        self._report_progress(step)
        if step % max(1, self._spec.steps // LINES) == 0 or step == self._spec.steps:
            self._log(step)

    def _report_progress(self, step: int) -> None:
        run = self._run
        if self._seconds:
            self._metrics["tokens_per_s"] = run.run_units / self._seconds
        if (joules := run.joules_per_unit()) is not None:
            self._metrics["joules_per_token"] = joules
        run.report_progress(step / self._spec.steps, float(step * tokens_per_step(self._spec)), self._metrics)

    def _log(self, step: int) -> None:
        m = self._metrics
        log.info(
            "step %d/%d  loss %.4f  %.0f tok/s  %.5f J/token",
            step,
            self._spec.steps,
            m["loss"],
            m["tokens_per_s"],
            m.get("joules_per_token", 0.0),
        )

    def _save(self, trainer: Trainer[Decoder]) -> None:
        """Commit the present step, unless it already is."""
        if trainer.step == self._saved:
            return
        tensors = trainer.snapshot()
        state = checkpoint_state(self._spec, self._text, trainer.step, self._metrics)
        self._run.checkpoint = self._store.commit(self._claim, trainer.step, tensors, state)
        self._saved = trainer.step

    def _export(self, trainer: Trainer[Decoder], tokenizer: Tokenizer) -> None:
        """Write the model, then the witness: whoever comes later finds that all is done."""
        self._store.check(self._claim)
        save_folder(trainer.model, tokenizer, self._storage.env.inside_storage(self._model))
        self._storage.publish(self._model)
        assert self._run.checkpoint is not None, "the last step was committed"
        self._store.complete(self._claim, self._run.checkpoint)
        log.info("model in %s", self._model)


class _ProgressHook(BaseHook):
    """Tells a run of each step."""

    def __init__(self, training: _Training) -> None:
        self._training = training

    def after_step(self, step: int, loss: float, seconds: float) -> None:
        self._training.stepped(step, loss, seconds)


def measure(spec: TrainSpec, env: RunEnv) -> str:
    """One JSON line: steps per second, and the seconds from process start to the first step done, caches warm.

    Prepares the text's cache first, as a side effect that later runs profit from; writes nothing else. Raises Refused.
    """
    torch.set_num_threads(spec.threads or 1)
    begun_s = time.monotonic()
    sizes = spec.model
    open_corpus(spec.data, sizes.vocabulary, sizes.context, env)
    preparing_s = time.monotonic() - begun_s
    corpus = open_corpus(spec.data, sizes.vocabulary, sizes.context, env)
    trainer = pretraining(spec, corpus, _device())
    trainer.advance()
    startup_s = process_age_s() - preparing_s
    begun_s = time.monotonic()
    for _ in range(MEASURED_STEPS):
        trainer.advance()
    steps_per_s = MEASURED_STEPS / (time.monotonic() - begun_s)
    return json.dumps({"steps_per_s": round(steps_per_s, 4), "startup_s": round(startup_s, 3)})
