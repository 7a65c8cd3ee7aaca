"""What a checkpoint consists of: two files and a manifest with their sums; and the way back, every byte verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from windward_worker.checkpoint.claims import Claim

TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a resume needs. `id` is stable and names it in reports."""

    id: str
    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    complete: bool = False  # nothing is left to do after it, its results included


@dataclass(frozen=True, slots=True)
class Loaded:
    """The newest sound checkpoint, or None, and one sentence for each newer one that had to be passed over."""

    checkpoint: Checkpoint | None
    passed_over: tuple[str, ...] = field(default=())


def checkpoint_id(step: int, claim: int) -> str:
    """Returns the name of a step that was written under a claim."""
    return f"{step:08d}.{claim:08d}"


def pack(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the files of a checkpoint: name -> content."""
    return {
        TENSORS: save({k: v.detach().contiguous().cpu() for k, v in tensors.items()}),
        STATE: json.dumps(state, separators=(",", ":")).encode(),
    }


def manifest_of(claim: Claim, step: int, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Returns what makes the files complete: step, token, and the size and sum of each."""
    sums = {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()}
    return {"version": 1, "step": step, "run": claim.run, "claim": claim.number, "files": sums}


def dump_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Returns a manifest as it is stored."""
    return json.dumps(manifest, indent=1).encode()


def unpack(manifest: Mapping[str, Any], read: Callable[[str], bytes]) -> Checkpoint:
    """Returns the checkpoint of a manifest; `read` returns the content of a file by its name.

    Raises ValueError, KeyError or TypeError for whatever is wrong with it, and what `read` raises.
    """
    step = int(manifest["step"])
    data = {}
    for file in (TENSORS, STATE):
        data[file] = read(file)
        if hashlib.sha256(data[file]).hexdigest() != manifest["files"][file]["sha256"]:
            raise ValueError(f"{file} differs from its sum")
    tensors = load(data[TENSORS])
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{key} is not finite")
    identity = checkpoint_id(step, int(manifest["claim"]))
    return Checkpoint(identity, step, tensors, json.loads(data[STATE]), manifest.get("complete") is True)
