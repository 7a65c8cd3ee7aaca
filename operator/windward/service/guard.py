"""One guard per object: an exception of any kind stays with the object that raised it, and the cycle goes on.

What failed is told by name and tried again after 1 s, doubling up to 5 minutes; at once when its object changed.
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
    """What a step for one object raised last.

    Attributes:
        version: of the object that it was raised for.
        message: what was raised, for people.
        expected: a cluster or database that failed or refused, not a fault of the object or of ours.
        times: in a row.
    """

    version: object
    message: str
    expected: bool
    times: int
    retry_at: datetime

    def sentence(self) -> str:
        """Returns what happened, what Windward does about it and what a person can do."""
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
        """A new cycle begins: what no step asked for in the last one is forgotten."""
        self._faults = {k: f for k, f in self._faults.items() if k in self._seen}
        self._seen = set()
        self.conflict = False

    def waits(self, step: str, key: str, version: object, now: datetime) -> bool:
        """Whether a step failed for this version of an object and is not to be tried again yet."""
        self._seen.add((step, key))
        fault = self._faults.get((step, key))
        return fault is not None and fault.version == version and now < fault.retry_at

    def run(self, step: str, key: str, version: object, now: datetime, do: Callable[[], T]) -> T | None:
        """Returns what `do` returns; None where it raises, or failed a moment ago."""
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
        """Returns what a step raised last for an object; None after it passed."""
        return self._faults.get((step, key))

    def faults(self) -> dict[str, Fault]:
        """Returns the fault of each object that has one, the worst where it has several."""
        out: dict[str, Fault] = {}
        for (_, key), fault in self._faults.items():
            if key not in out or (out[key].expected and not fault.expected):
                out[key] = fault
        return out

    def due(self) -> datetime | None:
        """Returns when the next step is to be tried again."""
        return min((f.retry_at for f in self._faults.values()), default=None)
