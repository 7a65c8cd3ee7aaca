"""Checkpoints that are complete or absent.

Layout of a `FolderStore`:

    claims/00000001                      one file per claim, created exclusively
    00000100.00000001/tensors.safetensors   step 100, written under claim 1
                      state.json
                      manifest.json      last of all: sha256 and size of the others, step, token; `complete`

Steps of a commit: write and fsync the files in a hidden folder, the manifest last; check the claim; rename; fsync the
folder above. A reader trusts nothing without a manifest whose sums are right.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from windward_worker.checkpoint.claims import Claim, Claims
from windward_worker.checkpoint.content import (
    Checkpoint,
    Loaded,
    checkpoint_id,
    dump_manifest,
    manifest_of,
    pack,
    unpack,
)
from windward_worker.control import ClaimLost, sync_folder, write_atomic

MANIFEST = "manifest.json"
_NAME = re.compile(r"([0-9]{8})\.([0-9]{8})")


class CheckpointStore(Protocol):
    """Where a job's checkpoints live.

    Promise: a commit is complete or absent, whatever dies when; a commit under a claim that is not the newest changes
    nothing and raises `ClaimLost`; at least two sound checkpoints are kept once there were two; `load` verifies every
    byte and never yields an older one without saying so. All methods raise OSError where the storage fails.
    """

    def claim(self, run: str) -> Claim:
        """Take the right to write; every older claim is lost at once."""

    def check(self, claim: Claim) -> None:
        """Raises ClaimLost where a newer claim was taken."""

    def commit(self, claim: Claim, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        """Keep a checkpoint; returns its id. Doing one step twice under one claim keeps the first. Raises ClaimLost."""

    def complete(self, claim: Claim, identity: str) -> None:
        """Mark a checkpoint: the work is done and its results are kept. Done twice, it is as once. Raises ClaimLost."""

    def load(self) -> Loaded:
        """The newest sound checkpoint: newest claim first, then highest step. One with a NaN is not sound."""


class FolderStore:
    """A `CheckpointStore` in a folder of a file system with exclusive create and atomic rename (POSIX, NFSv4)."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        if keep < 2:
            raise ValueError("keep at least 2 checkpoints: one damaged file must not cost all work")
        self._folder = folder
        self._keep = keep
        self._claims = Claims(folder / "claims")

    def claim(self, run: str) -> Claim:
        claim = self._claims.take(run)
        for leftover in self._folder.glob(".*.tmp"):
            match = _NAME.fullmatch(leftover.name[1:-4])
            if match and int(match[2]) < claim.number:  # cannot be committed any more; a newer one's still can
                shutil.rmtree(leftover, ignore_errors=True)
        return claim

    def check(self, claim: Claim) -> None:
        self._claims.check(claim)

    def commit(self, claim: Claim, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        self._claims.check(claim)
        name = checkpoint_id(step, claim.number)
        final, temporary = self._folder / name, self._folder / f".{name}.tmp"
        if (final / MANIFEST).exists():
            return name
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            files = pack(tensors, state)
            manifest = manifest_of(claim, step, files)
            for file, data in (*files.items(), (MANIFEST, dump_manifest(manifest))):
                _write_synced(temporary / file, data)
            sync_folder(temporary)
            self._claims.check(claim)
            temporary.rename(final)
        except FileNotFoundError as error:  # a newer claimant has swept our unfinished folder
            self._claims.check(claim)
            raise ClaimLost(f"checkpoint {name} was removed while it was written") from error
        sync_folder(self._folder)
        self._prune()
        return name

    def complete(self, claim: Claim, identity: str) -> None:
        self._claims.check(claim)
        path = self._folder / identity / MANIFEST
        manifest = {**json.loads(path.read_bytes()), "complete": True}
        write_atomic(path, dump_manifest(manifest))

    def _prune(self) -> None:
        """Remove all but the newest `keep`; the manifest first, so that what a crash leaves is no checkpoint."""
        for name in self._names()[self._keep :]:
            (self._folder / name / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _names(self) -> list[str]:
        """Folders that may be checkpoints, best first."""
        ranked = []
        for path in self._folder.iterdir() if self._folder.is_dir() else []:
            if match := _NAME.fullmatch(path.name):
                ranked.append((int(match[2]), int(match[1]), path.name))
        return [name for _, _, name in sorted(ranked, reverse=True)]

    def load(self) -> Loaded:
        passed_over: list[str] = []
        for name in self._names():
            try:
                return Loaded(self._read(name), tuple(passed_over))
            except (OSError, ValueError, KeyError, TypeError) as error:
                passed_over.append(f"checkpoint {name} is damaged ({error}); going back to the one before")
        return Loaded(None, tuple(passed_over))

    def _read(self, name: str) -> Checkpoint:
        """Raises OSError, ValueError, KeyError or TypeError for whatever is wrong with it."""
        folder = self._folder / name
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if name != checkpoint_id(int(manifest["step"]), int(manifest["claim"])):
            raise ValueError("its manifest is another's")
        return unpack(manifest, lambda file: (folder / file).read_bytes())


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
