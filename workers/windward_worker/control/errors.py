"""The worker's errors, by what the caller does next.

WorkerError
    Refused      the request is wrong: say what, cause and fix; exit 2
    PauseAsked   a pause was asked and the work stands at a safe point: report, exit 75
    ClaimLost    a newer process owns this job's storage: leave everything alone, exit 1
    MeterError   a sensor cannot be read (now, or at all): measure otherwise, and say so
"""

from __future__ import annotations


class WorkerError(Exception):
    """Base of all errors that the worker raises on purpose."""


class Refused(WorkerError):
    """The request cannot be carried out as given; the message names the fault, its cause and the fix."""


class PauseAsked(WorkerError):
    """Unwinds to the nearest place that can report a pause."""


class ClaimLost(WorkerError):
    """Another process took a newer claim on the same storage."""


class MeterError(WorkerError):
    """A meter cannot be read."""
