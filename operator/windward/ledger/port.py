"""The ledger port: an append-only store, in which nothing is changed or removed.

    LedgerError(cause, fix)
    |-- LedgerUnavailable     the database cannot be reached, opened or written now; try again later
    `-- LedgerTooNew          a newer Windward has written this ledger; an older one does not touch it

What is not in this tree (`ValueError` for a naive time or a body that is no JSON) is a mistake of the caller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from windward.domain.clock import utc
from windward.domain.energy import EnergyInterval
from windward.domain.series import Kind, Series

Body = Mapping[str, Any]  # JSON: text keys; text, numbers (finite), booleans, null, lists, objects


class LedgerError(Exception):
    """The ledger could not do it.

    Attributes:
        cause: what went wrong, without a trailing full stop; never holds a password.
        fix: what a person can do, one sentence.
    """

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause, fix)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}." + (f" {self.fix}" if self.fix else "")


class LedgerUnavailable(LedgerError):
    """The database cannot be reached, opened or written."""


class LedgerTooNew(LedgerError):
    """The ledger's schema is newer than this program."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one job, when, and on what grounds.

    Attributes:
        kind: a closed word of the caller's, for example `Planned`.
        body: the grounds: windows, reason, vintages of the forecasts used.
    """

    uid: str
    namespace: str
    name: str
    at: datetime
    kind: str
    body: Body


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one job used and saved, as far as it was known at this revision.

    Attributes:
        at: the moment that the receipt counts for in a report: the job's end.
        revision: 1, 2, ...; a later one replaces an earlier one in reports, never in the ledger.
        settled: no later revision is expected; intensities have been revised for the last time.
        demo: rests on demonstration data: watermarked, in no report.
        sha256: of the canonical body (JSON, sorted keys, no spaces, ASCII), hex.
    """

    uid: str
    namespace: str
    name: str
    at: datetime
    revision: int
    settled: bool
    demo: bool
    body: Body
    sha256: str


class Ledger(Protocol):
    """Promise of every implementation (one conformance suite runs over all of them):

    - Rows are only ever added; the database itself refuses to change or remove one.
    - Every method may be called from any thread, and has committed when it returns.
    - Writing the same thing twice is the same as writing it once.
    - Times come back aware, in UTC, to the microsecond; floats come back bit for bit.
    - `LedgerUnavailable` is the only error of a database that fails; nothing was written then.
    """

    def archive(self, series: Series) -> str:
        """Keep an issue; returns its vintage, the sha256 (hex) of its canonical form.

        The vintage covers all that the provider said and none of when we fetched it: an issue fetched twice is kept
        once, with the first fetch time.
        """
        ...

    def issue(self, vintage: str) -> Series:
        """The kept issue, exactly as it was archived.

        Raises:
            KeyError: no such vintage.
        """
        ...

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        """Kept issues of a zone and kind that overlap [start, end), oldest issue first."""
        ...

    def record_energy(self, rows: Sequence[EnergyInterval]) -> int:
        """Add intervals, all or none; returns how many were new.

        A second row with the same key (`EnergyInterval`) is left out, whatever it holds.

        Raises:
            ValueError: joules are negative or not finite, or an interval does not end after it starts.
        """
        ...

    def energy(self, uid: str) -> Sequence[EnergyInterval]:
        """All intervals of a job, by start, then attempt, pod and component."""
        ...

    def record_decision(self, uid: str, namespace: str, name: str, at: datetime, kind: str, body: Body) -> None:
        """Note a decision. One that says exactly what was noted for the same job and moment is not noted again."""
        ...

    def decisions(self, uid: str, newest: int | None = None) -> Sequence[Decision]:
        """All decisions on a job, in the order in which they were noted.

        Args:
            newest: how many, of the latest times; a fast query however many there are. None: all.
        """
        ...

    def record_receipt(
        self,
        uid: str,
        namespace: str,
        name: str,
        at: datetime,
        body: Body,
        *,
        settled: bool = False,
        demo: bool = False,
    ) -> int:
        """Write a receipt; returns its revision.

        Equal to the job's newest revision in every part: nothing is written and that revision is returned. Otherwise
        it becomes the next revision.
        """
        ...

    def receipts(
        self,
        namespace: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        include_demo: bool = False,
    ) -> Sequence[Receipt]:
        """The newest revision of each job with `since <= at < until`, by time; without demonstrations unless asked."""
        ...

    def receipt_history(self, uid: str) -> Sequence[Receipt]:
        """Every revision of one job's receipt, first to last, demonstrations too."""
        ...

    def close(self) -> None:
        """Let go of the database. Closing twice does no harm."""
        ...


def check_interval(row: EnergyInterval) -> None:
    """The ledger never holds what would make a sum meaningless.

    Raises:
        ValueError: joules are negative or not finite, or the interval does not end after it starts.
    """
    if not math.isfinite(row.joules) or row.joules < 0:
        raise ValueError(f"{row.uid} {row.component} at {row.start}: {row.joules} J; unknown energy is no row, not 0")
    if utc(row.end) <= utc(row.start):
        raise ValueError(f"{row.uid} {row.component}: {row.start} to {row.end} is no interval")
