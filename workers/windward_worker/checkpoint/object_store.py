"""Checkpoints in an object store, fenced by conditional writes alone: no rename, no lock, no clock.

Below the URI of a job:

    log/00000001.00000002                        a manifest: the second commit of claim 1 (see `entry_log`)
    parts/00000100.00000001/tensors.safetensors  step 100, written under claim 1
                            state.json

What each step rests on:

- claim: put-if-absent (`If-None-Match: *`; a generation of 0 on GCS) of the claim, and of the seals of older ones.
- commit: plain puts of the parts, under a name that no other claim writes; then put-if-absent of the manifest at the
  end of the claim's entries. Where a seal took that place nothing was committed: between a check and a commit there is
  no moment at which a newer claim could be overlooked, as there is in a folder.
- complete: put-if-absent of the manifest once more, marked.
- load: a listing that shows every earlier write, as those of S3, GCS and Azure do; sums of all bytes.

A store that ignores the condition, or does not know it, is refused at the claim: the claim's own entry is put twice,
and the second time has to fail. A `file://` URI, for tests and laptops, rests on exclusive hard links: it
is not synced to the disk, and a killed process leaves the file that it was writing, which nobody reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from windward_worker.checkpoint.claims import Claim
from windward_worker.checkpoint.content import (
    Checkpoint,
    Loaded,
    checkpoint_id,
    dump_manifest,
    manifest_of,
    pack,
    unpack,
)
from windward_worker.checkpoint.entry_log import Entry, EntryLog
from windward_worker.checkpoint.objects import Objects
from windward_worker.control import ClaimLost

Manifest = Mapping[str, Any]


class ObjectStore:
    """A `CheckpointStore` in an object store with put-if-absent and listings that show every earlier write."""

    def __init__(self, objects: Objects, *, keep: int = 2) -> None:
        if keep < 2:
            raise ValueError("keep at least 2 checkpoints: one damaged object must not cost all work")
        self._objects = objects
        self._log = EntryLog(objects)
        self._keep = keep
        self._manifests: dict[Entry, Manifest] = {}  # an entry never changes

    def claim(self, run: str) -> Claim:
        """See `CheckpointStore`. Raises Refused where the store cannot put an object only where there is none."""
        claim = self._log.take(run)
        self._prune(claim)
        return claim

    def check(self, claim: Claim) -> None:
        self._log.check(claim)

    def commit(self, claim: Claim, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
        self._log.check(claim)
        name = checkpoint_id(step, claim.number)
        if any(one.name == name for one in self._ranked()):
            return name
        files = pack(tensors, state)
        for file, data in files.items():
            self._objects.put(_part(name, file), data)
        try:
            self._log.append(claim, dump_manifest(manifest_of(claim, step, files)))
        except ClaimLost:
            self._objects.delete([_part(name, file) for file in files])
            raise
        self._prune(claim)
        return name

    def complete(self, claim: Claim, identity: str) -> None:
        self._log.check(claim)
        manifest = next((one.manifest for one in self._ranked() if one.name == identity), None)
        if manifest is None:
            raise FileNotFoundError(f"checkpoint {identity} is not in {self._objects.uri}")
        if manifest.get("complete") is not True:
            self._log.append(claim, dump_manifest({**manifest, "complete": True}))

    def load(self) -> Loaded:
        self._manifests.clear()  # every byte is read anew
        passed_over: list[str] = []
        for ranked in self._ranked():
            try:
                return Loaded(self._read(ranked), tuple(passed_over))
            except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
                passed_over.append(f"checkpoint {ranked.name} is damaged ({error}); going back to the one before")
        return Loaded(None, tuple(passed_over))

    def _read(self, ranked: _Ranked) -> Checkpoint:
        """Raises FileNotFoundError, ValueError, KeyError or TypeError for whatever is wrong with it, else OSError."""
        if ranked.manifest is None:
            raise ValueError("its manifest cannot be read")
        return unpack(ranked.manifest, lambda file: self._objects.get(_part(ranked.name, file)))

    def _ranked(self) -> list[_Ranked]:
        """Committed manifests, best first: newest claim, highest step, latest entry. One that cannot be read stands
        where the one before it in its claim would."""
        ranked: list[tuple[tuple[int, int, int], _Ranked]] = []
        claim, highest = 0, 0
        for entry in self._log.entries():
            if not entry.number or entry.sealed:
                continue
            claim, highest = entry.claim, highest if entry.claim == claim else 0
            manifest = self._manifest(entry)
            step = highest if manifest is None else int(manifest["step"])
            highest = max(highest, step)
            ranked.append(((claim, step, entry.number), _Ranked(entry, manifest)))
        return [one for _, one in sorted(ranked, key=lambda r: r[0], reverse=True)]

    def _manifest(self, entry: Entry) -> Manifest | None:
        """The manifest of an entry; None where it is damaged."""
        if entry not in self._manifests:
            try:
                manifest = json.loads(self._log.read(entry))
                _id(manifest)
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return None
            self._manifests[entry] = manifest
        return self._manifests[entry]

    def _prune(self, claim: Claim) -> None:
        """Remove all but the newest `keep` checkpoints, and what processes that died have left.

        A manifest goes before its parts. A part without a manifest is nobody's: older claims are sealed, and this one
        is between commits.
        """
        kept: set[str] = set()
        for ranked in self._ranked():
            if ranked.manifest is not None and len(kept) < self._keep:
                kept.add(ranked.name)
            elif ranked.name not in kept and len(kept) == self._keep:
                self._log.remove(ranked.entry)
                self._manifests.pop(ranked.entry, None)
        parts = ((path, path.split("/")[1]) for path in self._objects.list("parts"))
        self._objects.delete([path for path, name in parts if name not in kept and _until(claim, name)])


@dataclass(frozen=True, slots=True)
class _Ranked:
    """An entry of the log that is no claim and no seal."""

    entry: Entry
    manifest: Manifest | None  # None: damaged

    @property
    def name(self) -> str:
        """Id of the checkpoint, or where its damaged manifest lies."""
        return self.entry.path if self.manifest is None else _id(self.manifest)


def _part(name: str, file: str) -> str:
    return f"parts/{name}/{file}"


def _id(manifest: Manifest) -> str:
    """Raises KeyError, TypeError or ValueError where it is no manifest."""
    return checkpoint_id(int(manifest["step"]), int(manifest["claim"]))


def _until(claim: Claim, name: str) -> bool:
    """Whether a checkpoint's name is of this claim or an older one."""
    number = name.rpartition(".")[2]
    return number.isdigit() and int(number) <= claim.number
