"""The worker's errors, by what the caller does next.

WorkerError
    Refused      the request is wrong: say what, cause and fix; exit 2
    PauseRequested   a pause was requested and the work stands at a safe point: report, exit 75
    Diverged     a loss, gradient or weight is not finite: keep what was sound, say at which step, exit 1
    ClaimLost    a newer process owns this job's storage: leave everything alone, exit 1
    MeterError   a sensor cannot be read (now, or at all): measure otherwise, and say so
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class WorkerError(Exception):
    """Base of all errors that the worker raises on purpose."""


class Refused(WorkerError):
    """The request cannot be carried out as given; the message names the fault, its cause and the fix."""


@contextlib.contextmanager
def refusing(what: str, fix: str) -> Iterator[None]:
    """Whatever a block raises becomes Refused, `what: ...; fix`, but for the worker's own errors.

    For reading what comes from outside: libraries raise on it whatever they like (tokenizers even a panic, which is no
    Exception).
    """
    try:
        yield
    except WorkerError:
        raise
    except MemoryError as error:
        raise Refused(
            f"{what}: it needs more memory than there is; use a smaller one, or a machine with more"
        ) from error
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        words = " ".join(str(error).split())[:300]
        raise Refused(f"{what}: {type(error).__name__}: {words}; {fix}") from error


class PauseRequested(WorkerError):
    """Unwinds to the nearest place that can report a pause."""


class ClaimLost(WorkerError):
    """Another process took a newer claim on the same storage."""


class Diverged(WorkerError):
    """A number of the work is no number any more; what was kept before is sound."""


class MeterError(WorkerError):
    """A meter cannot be read."""
