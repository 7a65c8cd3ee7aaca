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
    NOT_STARTED = 125  # `run -- CMD`: the command was never started
    INTERRUPTED = 130


class CliError(Exception):
    """An error for people."""

    def __init__(self, what: str, *, cause: str = "", fix: str = "", code: Exit = Exit.FAILED) -> None:
        super().__init__(what)
        self.what, self.cause, self.fix, self.code = what, cause, fix, code

    def tell(self) -> None:
        """Write it to stderr: what was quoted from outside cannot command the terminal."""
        from windward.reports.shown import shown

        for label, text in (("error: ", self.what), ("cause: ", self.cause), ("fix:   ", self.fix)):
            if text:
                lines = [shown(line) for line in text.split("\n")]
                sys.stderr.write(label + "\n".join(lines) + "\n")


def on_path(what: str, error: OSError, *, fix: str = "", code: Exit = Exit.USAGE) -> CliError:
    """An error about a file or folder that the user named."""
    return CliError(what, cause=error.strerror or str(error), fix=fix or "check the path and its rights", code=code)


def usage_error(what: str, *, fix: str = "", cause: str = "") -> CliError:
    """Returns the error for options or files that the user has to correct."""
    return CliError(what, cause=cause, fix=fix, code=Exit.USAGE)
