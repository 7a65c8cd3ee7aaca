"""Who may write: a starting process takes the next number, and only the newest number may commit.

Two pods of one run can overlap (a node that was cut off goes on while its successor starts); both carry the same
`WINDWARD_RUN`. The claim tells them apart.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from windward_worker.control import ClaimLost, sync_folder

_NAME = re.compile(r"[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one process to write into a store, until a newer claim is taken."""

    number: int
    run: str

    @property
    def token(self) -> str:
        """What fences: run and claim."""
        return f"{self.run}/{self.number}"


class Claims:
    """Numbers taken by exclusive create in a folder, so that no two processes can hold the same one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> int:
        """The highest number taken; 0 where there is none. Raises OSError."""
        try:
            return max((int(p.name) for p in self._folder.iterdir() if _NAME.fullmatch(p.name)), default=0)
        except FileNotFoundError:
            return 0

    def take(self, run: str) -> Claim:
        """Take the next number: from now on every older claim is lost. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            number = self.newest() + 1
            try:
                handle = os.open(self._folder / f"{number:08d}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                continue  # another process was quicker; its number is now the newest
            with os.fdopen(handle, "w") as file:
                file.write(run)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._folder)
            return Claim(number, run)

    def check(self, claim: Claim) -> None:
        """Raises ClaimLost where a newer claim was taken."""
        newest = self.newest()
        if newest != claim.number:
            raise ClaimLost(
                f"claim {claim.number} of run {claim.run} is no longer the newest ({newest} is): another process has "
                "taken over this work; this one writes nothing more"
            )
