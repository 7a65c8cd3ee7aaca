"""Remembers ended jobs that were deleted before their receipts were final, so that these are still settled.

Kept in memory only: after a restart of the operator such a receipt stays provisional.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from windward.domain.observed import Observed
from windward.lifecycle.reconcile import SETTLE_SOON, settle_again_at

LONGEST = timedelta(days=14)  # no provider revises for longer
MOST = 4096


@dataclass
class DeletedJobs:
    """See the module."""

    _open: dict[str, Observed] = field(default_factory=dict)
    _deleted: dict[str, tuple[Observed, datetime, datetime]] = field(default_factory=dict)  # since when, due when

    def __len__(self) -> int:
        return len(self._deleted)

    def keep(self, jobs: Iterable[Observed], now: datetime) -> None:
        """Notes which ended jobs of the previous call are missing from `jobs`."""
        jobs = list(jobs)
        uids = {o.uid for o in jobs}
        for uid, observed in self._open.items():
            if uid not in uids and len(self._deleted) < MOST:
                self._deleted[uid] = (observed, now, now + SETTLE_SOON)
        self._open = {o.uid: o for o in jobs if o.ended and o.runs and not o.job.status.accounting.settled}

    def due(self, now: datetime) -> list[Observed]:
        """Returns the deleted jobs whose receipts are due for settling; forgets those deleted more than 14 days ago."""
        self._deleted = {uid: entry for uid, entry in self._deleted.items() if now - entry[1] <= LONGEST}
        return [observed for observed, _, due in self._deleted.values() if now >= due]

    def settled(self, uid: str, final: bool, pending: bool, now: datetime) -> None:
        """Notes that a receipt was made again.

        Args:
            final: its intensities are not revised any more, so that the job is forgotten.
            pending: measured hours were asked for and are not there yet.
        """
        if final:
            del self._deleted[uid]
        else:
            observed, since, _ = self._deleted[uid]
            self._deleted[uid] = (observed, since, settle_again_at(pending, now))
