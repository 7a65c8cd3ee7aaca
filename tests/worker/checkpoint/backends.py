"""The stores that the conformance suite runs over, and processes that write into them until they are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from windward_worker.checkpoint import CheckpointStore, FolderStore, ObjectStore
from windward_worker.checkpoint.objects import Objects
from windward_worker.control import ClaimLost

# A process forked from one whose client has run threads would hang; this server has run none.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["worker.checkpoint.backends"])
FILES = ("tensors.safetensors", "state.json", "manifest.json")


@dataclass(frozen=True)
class Backend:
    """A kind of store, and where it keeps things.

    Attributes:
        uri: of an object store; None: `files` is a folder store.
        files: where its objects lie as files.
        environ: what its client needs.
    """

    files: Path
    uri: str | None = None
    environ: dict[str, str] = field(default_factory=dict)

    def open(self, **options: Any) -> CheckpointStore:
        """The store, as another process would open it."""
        os.environ.update(self.environ)
        if self.uri is None:
            return FolderStore(self.files, **options)
        return ObjectStore(Objects(self.uri), **options)

    def ids(self) -> list[str]:
        """Ids of the checkpoints that are there, sorted."""
        if self.uri is None:
            return sorted(p.name for p in self.files.glob("*.*") if p.name[0] != ".")
        return sorted({_id(m) for m in self.manifests().values()})

    def manifests(self) -> dict[Path, dict[str, Any]]:
        """The manifests of an object store, by the files that hold them, oldest first."""
        paths = (p for p in self._objects("log/*") if not p.name.endswith(".00000000"))
        return {p: json.loads(p.read_bytes()) for p in paths if p.read_bytes() != b"sealed\n"}

    def file(self, identity: str, name: str) -> Path:
        """Where a file of a checkpoint lies."""
        if self.uri is None:
            return self.files / identity / name
        if name != "manifest.json":
            return self.files / "parts" / identity / name
        return next(p for p, m in self.manifests().items() if _id(m) == identity)

    def _objects(self, pattern: str) -> list[Path]:
        """Objects as files; what a killed process left of a put over file:// is `NAME#1`, and no object."""
        return sorted(p for p in self.files.glob(pattern) if "#" not in p.name)

    def leftovers(self) -> list[Path]:
        """Files of commits that came to no end."""
        if self.uri is None:
            return list(self.files.glob(".*"))
        return [p for p in self._objects("parts/*/*") if p.parent.name not in self.ids()]


def _id(manifest: dict[str, Any]) -> str:
    return f"{manifest['step']:08d}.{manifest['claim']:08d}"


def content(step: int, size: int = 64) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors = {"w": torch.full((size, size), float(step)), "rng": torch.arange(step % 200 + 1, dtype=torch.uint8)}
    return tensors, {"step": step, "words": "wind"}


def commit(store: CheckpointStore, claim: Any, step: int) -> str:
    return store.commit(claim, step, *content(step))


def write_forever(backend: Backend, ready: Any) -> None:
    """Commit one step after the other, until killed."""
    torch.set_num_threads(1)
    store = backend.open()
    claim, loaded = store.claim("uid-1"), store.load().checkpoint
    step = loaded.step if loaded else 0
    while True:
        step += 1
        commit(store, claim, step)
        ready.set()


def overlap(backend: Backend, start: Any, results: Any) -> None:
    """Claim at the same time as others, and commit until done or until the claim is lost."""
    torch.set_num_threads(1)
    store = backend.open()
    start.wait()
    claim = store.claim("uid-1")
    try:
        for step in range(1, 40):
            commit(store, claim, step)
    except ClaimLost:
        results.put((claim.number, "lost"))
    else:
        results.put((claim.number, "done"))
