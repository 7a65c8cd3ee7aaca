"""Runs each step of a cycle for one object: whatever it raises is kept as that object's fault, and the cycle goes on.

A step that failed is retried after 1 s, doubling up to 5 minutes, and at once when its object changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from windward.cluster import AttemptConflict, ClusterError
from windward.ledger.port import LedgerError
from windward.lifecycle.backoff import backoff

log = logging.getLogger(__name__)
RETRY_FIRST = timedelta(seconds=1)
RETRY_MOST = timedelta(minutes=5)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """The last exception that a step raised for one object.

    Attributes:
        version: of the object that it was raised for.
        message: the exception as text.
        expected: whether the cluster or the ledger failed or refused, rather than our code.
        times: failures in a row.
    """

    version: object
    message: str
    expected: bool
    times: int
    retry_at: datetime

    def sentence(self) -> str:
        """Returns what failed, when it is retried and what a person can do."""
        return (
            f"{self.message}; a fault of Windward that holds up this job alone: tried {self.times} times, again "
            f"{self.retry_at:%m-%d %H:%M:%SZ}, and at once when the job changes. Please report it with the log"
        )


class Guard:
    """Runs steps for objects, and remembers which of them failed."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, str], Fault] = {}
        self._seen: set[tuple[str, str]] = set()
        self.conflict = False

    def begin(self) -> None:
        """Begins a cycle: forgets the faults of steps that did not come up in the previous one."""
        self._faults = {k: f for k, f in self._faults.items() if k in self._seen}
        self._seen = set()
        self.conflict = False

    def waits(self, step: str, key: str, version: object, now: datetime) -> bool:
        """Returns whether a step failed for this version of an object and its back-off has not passed."""
        self._seen.add((step, key))
        fault = self._faults.get((step, key))
        return fault is not None and fault.version == version and now < fault.retry_at

    def run(self, step: str, key: str, version: object, now: datetime, do: Callable[[], T]) -> T | None:
        """Returns what `do` returns; None if it raises or is in back-off."""
        if self.waits(step, key, version, now):
            return None
        try:
            out = do()
        except AttemptConflict as e:
            self.conflict = True
            log.info("%s: %s; looking again", key, e)
            return None
        except Exception as e:
            self._failed(step, key, version, now, e)
            return None
        self._faults.pop((step, key), None)
        return out

    def _failed(self, step: str, key: str, version: object, now: datetime, e: Exception) -> None:
        before = self._faults.get((step, key))
        times = before.times + 1 if before is not None and before.version == version else 1
        expected = isinstance(e, ClusterError | LedgerError)
        message = str(e) if expected else f"{type(e).__name__}: {e}"
        pause = backoff(times, RETRY_FIRST, RETRY_MOST)
        self._faults[step, key] = Fault(version, message[:800], expected, times, now + pause)
        if expected:
            log.warning("%s: %s failed, next try in %s: %s", key, step, pause, e)
        else:
            log.error("%s: %s failed, next try in %s", key, step, pause, exc_info=e)

    def fault(self, step: str, key: str) -> Fault | None:
        """Returns the fault of a step for an object; None after the step succeeded."""
        return self._faults.get((step, key))

    def faults(self) -> dict[str, Fault]:
        """Returns the faults by object; of several, one that was not expected."""
        out: dict[str, Fault] = {}
        for (_, key), fault in self._faults.items():
            if key not in out or (out[key].expected and not fault.expected):
                out[key] = fault
        return out

    def due(self) -> datetime | None:
        """Returns when the next retry is due; None if there is none."""
        return min((f.retry_at for f in self._faults.values()), default=None)
