"""Which work a checkpoint belongs to: a resume goes on with the same work or is refused, naming what differs."""

from __future__ import annotations

from typing import Any

from windward_api.workload import TrainSpec
from windward_worker.checkpoint import Checkpoint
from windward_worker.control import Refused
from windward_worker.control.identity import differences, flat


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


def checkpoint_state(spec: TrainSpec, text: str, step: int, metrics: dict[str, float]) -> dict[str, Any]:
    """What a checkpoint says of itself beside its tensors. `text`: the digest of what is read."""
    return {
        "identity": identity(spec, text),
        "steps": spec.steps,
        "sequences": step * spec.batch_size * spec.accumulation,
        "metrics": metrics,
    }
