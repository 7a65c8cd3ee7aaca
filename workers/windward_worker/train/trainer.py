"""One optimiser step after another, and all that is needed to go on as if nothing had happened."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from windward_api.workload import TrainSpec
from windward_worker.checkpoint import Checkpoint
from windward_worker.control import Diverged, PauseRequest, Refused
from windward_worker.control.identity import differences, flat
from windward_worker.model import END_OF_TEXT, Decoder, decoder_config, token_bytes
from windward_worker.train.corpus import Corpus, Windows
from windward_worker.train.optimiser import AdamW

FLOOR = 0.1  # of the peak learning rate, at the end
EVAL_TOKENS = 16384


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over a tenth of the steps, at most 100; then a cosine down to FLOOR. A function of the step alone.

    Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts.
    """
    warm = min(100, max(1, steps // 10))
    if step < warm:
        return peak * (step + 1) / warm
    turn = (step - warm) / max(1, steps - warm)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * turn)))


def identity(spec: TrainSpec, text: str | None) -> dict[str, Any]:
    """What makes two runs the same work, by name: their steps would differ without. `text`: a digest, None: any.

    `steps` is none of it: a job may be given more. The rate of the steps to come follows the new number.
    """
    names = ("batch_size", "accumulation", "learning_rate_micro", "precision", "seed")
    values = {name: getattr(spec, name) for name in names}
    shape_names = flat({"model": spec.model.model_dump(mode="json")})
    return {**shape_names, **values, **({} if text is None else {"text": text})}


def stored_identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """The identity that a checkpoint was written under; also of those that kept their whole spec."""
    state = checkpoint.state
    if "identity" in state:
        return dict(state["identity"])
    old = state.get("fingerprint", {})
    return {**flat(old.get("spec", {})), "text": old.get("text")}


def check_same_work(checkpoint: Checkpoint, spec: TrainSpec, text: str | None) -> None:
    """Raises Refused, naming what differs, where a checkpoint is of other work, or of more steps than are asked."""
    defaults = identity(TrainSpec(steps=1), None)
    changes = differences(stored_identity(checkpoint), identity(spec, text), defaults)
    if checkpoint.step > spec.steps:
        changes.append(f"it stands at step {checkpoint.step} of {spec.steps}")
    if changes:
        raise Refused(
            f"checkpoint {checkpoint.id} is of other work: {', '.join(changes)}; undo the change, or give the job "
            "another name, so that it begins anew"
        )


class Trainer:
    """Model, optimiser and place in the data. Given one spec and text, step n is the same whatever happened before.

    (Bit for bit on the CPU with the same number of threads; on a GPU up to the order of its sums.)
    """

    def __init__(self, spec: TrainSpec, corpus: Corpus, device: torch.device) -> None:
        self.spec = spec
        self.step = 0
        self._corpus = corpus
        self._device = device
        sizes = spec.model
        end = corpus.tokenizer.token_to_id(END_OF_TEXT)
        assert end is not None, "learn_bpe makes it token 0"
        self.model = Decoder(decoder_config(sizes.layers, sizes.width, sizes.vocabulary, sizes.context, end))
        self.model.initialise(spec.seed)
        self.model.to(device)
        torch.manual_seed(spec.seed)
        self._windows = Windows(corpus.train, sizes.context, spec.seed)
        self._names = [name for name, _ in self.model.named_parameters()]
        self._optimiser = AdamW(list(self.model.parameters()))

    @property
    def tokens_per_step(self) -> int:
        return self.spec.batch_size * self.spec.accumulation * self.spec.model.context

    def _cast(self) -> contextlib.AbstractContextManager[Any]:
        if self.spec.precision == "bfloat16":
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean cross-entropy in nats for windows (B, T + 1)."""
        batch = batch.to(self._device)
        with self._cast():
            logits = self.model(batch[:, :-1])  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())

    def advance(self, pause: PauseRequest) -> float:
        """One optimiser step; returns its mean loss in nats per token.

        Raises PauseRequested between micro-batches, and Diverged where loss or gradient is not finite: then the step is
        as if never begun.
        """
        spec = self.spec
        first = self.step * spec.batch_size * spec.accumulation
        total = 0.0
        self._optimiser.clear()
        for micro in range(spec.accumulation):
            pause.check()
            batch = torch.from_numpy(self._windows.batch(first + micro * spec.batch_size, spec.batch_size))
            loss = self._loss(batch) / spec.accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise Diverged(f"step {self.step + 1}: the loss is {total}")
        rate = learning_rate(self.step, spec.steps, spec.learning_rate_micro * 1e-6)
        try:
            self._optimiser.step(self.step + 1, rate)
        except Diverged as error:
            raise Diverged(f"step {self.step + 1}: {error}") from None
        self.step += 1
        return total

    @torch.no_grad()
    def bits_per_byte(self, pause: PauseRequest) -> float:
        """Cross-entropy on the text that was held out, in bits per byte of it: comparable across vocabularies.

        Raises PauseRequested.
        """
        context = self.spec.model.context
        sizes = torch.tensor(token_bytes(self._corpus.tokenizer))
        held_out = torch.from_numpy(self._corpus.held_out[: EVAL_TOKENS + 1].astype("int64"))
        windows = held_out[: (len(held_out) - 1) // context * context + 1].unfold(0, context + 1, context)
        nats, length = 0.0, 0
        for batch in torch.split(windows, self.spec.batch_size):
            pause.check()
            nats += self._loss(batch).item() * batch[:, 1:].numel()
            length += int(sizes[batch[:, 1:]].sum())
        return nats / math.log(2) / max(1, length)

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """All tensors that training changes: kind, parameter name, tensor."""
        held = {"model": self._optimiser.weights, "mean": self._optimiser.mean, "square": self._optimiser.square}
        for kind, tensors in held.items():
            for name, tensor in zip(self._names, tensors, strict=True):
                yield kind, name, tensor

    def check_finite(self) -> None:
        """Raises Diverged where a weight, or a mean of its gradients, is not finite."""
        for kind, name, tensor in self._tensors():
            if not bool(torch.isfinite(tensor).all()):
                raise Diverged(f"step {self.step}: {kind} of {name} is not finite")

    def snapshot(self, metrics: dict[str, float]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and state of a checkpoint; `restore` takes them back. Raises Diverged where they are not finite."""
        self.check_finite()
        tensors = {f"{kind}.{name}": tensor.detach() for kind, name, tensor in self._tensors()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self._device)
        state = {
            "identity": identity(self.spec, self._corpus.digest),
            "steps": self.spec.steps,
            "sequences": self.step * self.spec.batch_size * self.spec.accumulation,
            "metrics": metrics,
        }
        return tensors, state

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint. Raises Refused where it belongs to other work."""
        check_same_work(checkpoint, self.spec, self._corpus.digest)
        with torch.no_grad():
            for kind, name, tensor in self._tensors():
                tensor.copy_(checkpoint.tensors[f"{kind}.{name}"])
        torch.set_rng_state(checkpoint.tensors["rng.cpu"].clone())
        if self._device.type == "cuda" and "rng.cuda" in checkpoint.tensors:
            torch.cuda.set_rng_state(checkpoint.tensors["rng.cuda"].clone(), self._device)
        self.step = checkpoint.step
