"""Exit codes and the shape of an error: what, cause, fix."""

from __future__ import annotations

import sys
from enum import IntEnum


class Exit(IntEnum):
    """What a script can rely on."""

    OK = 0
    FAILED = 1  # the job failed, or something unexpected
    USAGE = 2  # usage or an invalid manifest
    INFEASIBLE = 3
    NOT_FOUND = 4
    UNREACHABLE = 5  # provider or cluster
    INTERRUPTED = 130


class CliError(Exception):
    """An error for people."""

    def __init__(self, what: str, *, cause: str = "", fix: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(what)
        self.what, self.cause, self.fix, self.code = what, cause, fix, code

    def tell(self) -> None:
        """Write it to stderr."""
        sys.stderr.write(f"error: {self.what}\n")
        if self.cause:
            sys.stderr.write(f"cause: {self.cause}\n")
        if self.fix:
            sys.stderr.write(f"fix:   {self.fix}\n")
