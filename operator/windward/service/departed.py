"""Ended jobs whose objects were deleted before their receipts were final: they are weighed on until they are.

Remembered in memory alone: after a restart of the operator such a receipt stays as it is, and says that it is not final.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from windward.domain.fleet import Region
from windward.domain.observed import Observed
from windward.service.book import Book
from windward.service.guard import Guard

SETTLE_EVERY = timedelta(hours=1)
LOOK_AGAIN = timedelta(seconds=15)  # where measured hours were asked for just now
LONGEST = timedelta(days=14)  # no provider revises for longer
MOST = 4096


@dataclass
class Departed:
    """See the module."""

    _open: dict[str, Observed] = field(default_factory=dict)
    _gone: dict[str, tuple[Observed, datetime, datetime]] = field(default_factory=dict)  # since when, due when

    def keep(self, jobs: Iterable[Observed], now: datetime) -> None:
        """Notes which of the ended jobs of the last call are not among `jobs` any more."""
        jobs = list(jobs)
        uids = {o.uid for o in jobs}
        for uid, observed in self._open.items():
            if uid not in uids and len(self._gone) < MOST:
                self._gone[uid] = (observed, now, now + LOOK_AGAIN)
        self._open = {o.uid: o for o in jobs if o.ended and o.runs and not o.job.status.accounting.settled}

    def settle(self, book: Book, regions: Mapping[str, Region], guard: Guard, now: datetime) -> None:
        """Weighs those that are due; forgets those that are final, and those of long ago."""
        for uid, (observed, since, due) in list(self._gone.items()):
            if now < due:
                continue
            at = observed.job.status.finished_at or since
            made = guard.run("book", observed.key, None, now, partial(book.settle, observed, regions, at))
            if made is not None and made.account is not None and made.account.settled or now - since > LONGEST:
                del self._gone[uid]
            else:
                again = LOOK_AGAIN if made is not None and made.pending else SETTLE_EVERY
                self._gone[uid] = (observed, since, now + again)
