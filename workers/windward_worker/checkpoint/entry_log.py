"""Who may write into an object store, and in which order it was written: a log that only put-if-absent extends.

    log/00000003.00000000    claim 3
    log/00000003.00000001    its first entry
    log/00000003.00000002    its second; or a seal: claim 3 adds nothing more

A claim is the next number's entry 0. Its taker then seals every older claim, by an entry at the end of each. An older
claimant whose next place the seal has taken can add nothing, however long it was stopped between any two requests.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass

from windward_worker.checkpoint.claims import Claim
from windward_worker.checkpoint.objects import Objects, refuse_unconditional
from windward_worker.control import ClaimLost

_PATH = re.compile(r"log/([0-9]{8})\.([0-9]{8})")
_SEAL = b"sealed\n"  # shorter than any other entry: a listing tells them apart


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One place of the log that is taken."""

    claim: int
    number: int  # 0: the claim itself
    sealed: bool = False

    @property
    def name(self) -> str:
        return f"{self.claim:08d}.{self.number:08d}"

    @property
    def path(self) -> str:
        return f"log/{self.name}"


class EntryLog:
    """The log of one job. Methods raise OSError where the store fails.

    It rests on listings that show every earlier write, and on put-if-absent. Claims and seals stay for good.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def entries(self) -> list[Entry]:
        """All entries, oldest first, claims and seals included."""
        listed = ((_PATH.fullmatch(path), size) for path, size in self._objects.list("log").items())
        return sorted(Entry(int(m[1]), int(m[2]), size == len(_SEAL)) for m, size in listed if m)

    def take(self, run: str) -> Claim:
        """Take the next number; on return no older claim can add an entry.

        Raises Refused where the store cannot put an object only where there is none.
        """
        while True:
            entry = Entry(max((e.claim for e in self.entries()), default=0) + 1, 0)
            if self._objects.create(entry.path, _claim_body(run)):
                break  # else another process was quicker; its number is now the newest
        if self._objects.create(entry.path, _claim_body(run)):
            raise refuse_unconditional(self._objects.uri)
        while open_ends := [e for e in _ends(self.entries()) if e.claim < entry.claim and not e.sealed]:
            for end in open_ends:
                self._objects.create(Entry(end.claim, end.number + 1).path, _SEAL)
        return Claim(entry.claim, run)

    def check(self, claim: Claim) -> None:
        """Raises ClaimLost where a newer claim was taken."""
        _end_of(claim, self.entries())

    def append(self, claim: Claim, data: bytes) -> None:
        """Add an entry. Raises ClaimLost where a newer claim was taken: then nothing was added."""
        while True:
            end = _end_of(claim, self.entries())
            if self._objects.create(Entry(claim.number, end.number + 1).path, data):
                return

    def read(self, entry: Entry) -> bytes:
        """The content of an entry."""
        return self._objects.get(entry.path)

    def remove(self, entry: Entry) -> None:
        """Remove an entry that holds a manifest."""
        assert entry.number and not entry.sealed, "claims and seals stay: they fence"
        self._objects.delete([entry.path])


def _claim_body(run: str) -> bytes:
    return json.dumps({"run": run, "nonce": uuid.uuid4().hex}).encode()


def _ends(entries: list[Entry]) -> list[Entry]:
    """The last entry of each claim."""
    return list({e.claim: e for e in entries}.values())


def _end_of(claim: Claim, entries: list[Entry]) -> Entry:
    """The last entry of a claim. Raises ClaimLost where it may not be added to."""
    newest = max((e.claim for e in entries), default=0)
    end = next((e for e in _ends(entries) if e.claim == claim.number), None)
    if newest != claim.number or end is None or end.sealed:
        raise ClaimLost(
            f"claim {claim.number} of run {claim.run} is no longer the newest ({newest} is): another process has "
            "taken over this work; this one writes nothing more"
        )
    return end
