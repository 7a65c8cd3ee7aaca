"""What past successful jobs of each profile took: recorded in the ledger at a job's end, and read once per profile.

The deciding thread waits for one indexed query of 50 rows for each profile that it meets, and for one more when a job
of that profile ends. While the ledger does not answer it is asked once in half a minute, by one job for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from windward.domain.durations import stated
from windward.domain.observed import Observed
from windward.domain.run import Phase
from windward.ledger.port import Ledger, LedgerError
from windward.lifecycle.durations import NEWEST, resolved, running_time

RUNNING_TIME = "RunningTime"
ASK_AGAIN = timedelta(seconds=30)

Profile = tuple[str, str]  # namespace, name
Past = tuple[timedelta, ...]


@dataclass
class PastDurations:
    """See the module. It keeps nothing that the ledger does not hold."""

    ledger: Ledger
    _past: dict[Profile, Past] = field(default_factory=dict)
    _resolved: dict[str, tuple[Observed, Past, Observed]] = field(default_factory=dict)
    _unrecorded: set[str] = field(default_factory=set)
    _failed: tuple[datetime, LedgerError] | None = None

    def keep(self, jobs: Iterable[Observed]) -> None:
        """Drops what is known for all other jobs."""
        present = [o for o in jobs if o.job.profile]
        profiles, uids = {_profile(o) for o in present}, {o.uid for o in present}
        self._past = {p: past for p, past in self._past.items() if p in profiles}
        self._resolved = {uid: kept for uid, kept in self._resolved.items() if uid in uids}
        self._unrecorded &= uids

    def resolve(self, observed: Observed, now: datetime) -> Observed:
        """Returns the job with its durations, as past runs of its profile say them by now; of a job that ended they
        stay as they were.

        Raises:
            LedgerError: the ledger cannot be read, and nothing else says how long the job takes.
        """
        if observed.ended or not observed.job.profile:
            return observed
        try:
            past = self._of(_profile(observed), now)
        except LedgerError:
            if observed.durations.is_known or observed.live:
                return observed
            raise
        kept = self._resolved.get(observed.uid)
        if kept is None or kept[0] is not observed or kept[1] is not past:
            durations = resolved(observed.job, past)
            same = durations == stated(observed.job)
            kept = (observed, past, observed if same else replace(observed, resolved=durations))
            self._resolved[observed.uid] = kept
        return kept[2]

    def record(self, observed: Observed) -> None:
        """Records what a job took that has succeeded and whose status does not show it yet.

        Raises:
            LedgerError: it is tried again in the next cycle.
        """
        if not observed.job.profile or (observed.ended and observed.uid not in self._unrecorded):
            return
        done = next((r for r in observed.runs if r.phase is Phase.SUCCEEDED), None)
        ran = running_time(observed)
        if done is None or done.finished_at is None or not ran:
            return
        self._unrecorded.add(observed.uid)
        profile = _profile(observed)
        body = {"job": observed.uid, "name": observed.job.metadata.name, "seconds": ran.total_seconds()}
        self.ledger.record_decision(_key(profile), *profile, done.finished_at, RUNNING_TIME, body)
        self._unrecorded.discard(observed.uid)
        self._past.pop(profile, None)

    def _of(self, profile: Profile, now: datetime) -> Past:
        if profile not in self._past:
            if self._failed is not None and now < self._failed[0]:
                raise self._failed[1]
            try:
                rows = self.ledger.decisions(_key(profile), newest=NEWEST)
            except LedgerError as e:
                self._failed = (now + ASK_AGAIN, e)
                raise
            self._failed = None
            by_job = {str(d.body["job"]): float(d.body["seconds"]) for d in rows if d.kind == RUNNING_TIME}
            self._past[profile] = tuple(timedelta(seconds=s) for s in by_job.values())
        return self._past[profile]


def _profile(observed: Observed) -> Profile:
    return observed.job.metadata.namespace, observed.job.profile


def _key(profile: Profile) -> str:
    """The key of a profile's running times in the ledger, at most 64 characters."""
    return f"profile/{hashlib.sha256('/'.join(profile).encode()).hexdigest()[:32]}"
