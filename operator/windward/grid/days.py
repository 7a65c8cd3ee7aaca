"""Measured intensities by zone and day, in memory: asked for by one thread, read by the one that decides.

Accounts of many jobs rest on the same hours, so whole days are asked for, each once, adjoining days in one request. A
day is asked for again while its values may still be revised, at most every `AGAIN`; after a failure, with growing
pauses.
What is read here is never waited for.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from windward.domain.clock import utc
from windward.domain.series import Series
from windward.forecasting import overlay
from windward.grid.port import ForecastInvalid, InvalidReason, Provider, ProviderError

log = logging.getLogger(__name__)

DAY = timedelta(days=1)
AGAIN = timedelta(minutes=50)
AHEAD = timedelta(minutes=1)  # a node's clock may be ahead of ours, and its last step ends a moment from now
MOST_DAYS = 1024  # kept; the least recently used go first
MOST_PENDING = 2048  # further ones are asked for when they are next read

Key = tuple[str, datetime]  # zone, and midnight UTC at which the day begins


@dataclass(frozen=True, slots=True)
class Actuals:
    """What is known of a range.

    Attributes:
        series: measured, else of an archived issue; holes where nothing is known; None where that is all of it.
        as_of: nothing in it was asked for before this; measured values of later than `as_of - revised_for` may change.
        pending: a part was asked for just now, and no answer or failure came yet.
    """

    series: Series | None
    as_of: datetime
    pending: bool


@dataclass(frozen=True, slots=True)
class _Day:
    series: Series | None
    requested_at: datetime
    failures: int = 0
    not_before: datetime | None = None


class Days:
    """See the module.

    Args:
        newest: the newest issue of a zone, from memory; whoever reads lays it below what is read here.
        archived: issues kept for a zone and range, newest first; read by the asking thread too.
        pause: how long a zone's provider is left alone after a failure, given the failures in a row.
        background: whether a thread of its own asks; else whoever reads does, at once (simulations, a laptop).
    """

    def __init__(
        self,
        provider: Provider,
        newest: Callable[[str], Series | None],
        archived: Callable[[str, datetime, datetime], Sequence[Series]],
        pause: Callable[[ProviderError, int], timedelta],
        *,
        background: bool,
    ) -> None:
        self._provider, self._newest, self._archived, self._pause = provider, newest, archived, pause
        self._background = background
        self._lock = threading.Lock()  # guards the four below; never held over IO
        self._days: OrderedDict[Key, _Day] = OrderedDict()
        self._pending: dict[Key, datetime] = {}  # and when it was asked for
        self._in_hand: set[Key] = set()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def read(self, zone: str, start: datetime, end: datetime, now: datetime) -> Actuals:
        """What is known of [start, end) by now; what is not, or no longer certain, is asked for.

        Raises:
            ValueError: `end` is not after `start`.
        """
        if utc(end) <= utc(start):
            raise ValueError(f"empty range {start} to {end}")
        keys = [(zone, day) for day in _days_of(start, min(utc(end), utc(now) + AHEAD))]
        self._ask([key for key in keys if self._due(key, utc(now), utc(end))], utc(now))
        if not self._background:
            self.fetch_pending()
        with self._lock:
            days = [self._days.get(key) for key in keys]
            for key in keys:
                if key in self._days:
                    self._days.move_to_end(key)
        layers = [day.series for day in days if day is not None and day.series is not None]
        as_of = min((day.requested_at for day in days if day is not None), default=utc(now))
        return Actuals(overlay(layers, start, end), as_of, any(day is None for day in days))

    def fetch_pending(self) -> None:
        """Ask for all that is pending, on the thread of the caller. Does IO; raises nothing of a provider."""
        while not self._closed.is_set() and (batch := self._take()):
            zone, days, now = batch
            try:
                for first, last in _adjoining(days):
                    self._fetch(zone, first, last, now)
            finally:
                with self._lock:
                    self._in_hand.difference_update((zone, day) for day in days)

    def close(self, patience_s: float = 5.0) -> None:
        """Ask for nothing more, and let go of the archive. A request that hangs is left to itself."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _due(self, key: Key, now: datetime, end: datetime) -> bool:
        with self._lock:
            day = self._days.get(key)
        if day is None:
            return True
        if day.not_before is not None:
            return now >= day.not_before or day.not_before - now > DAY  # a clock that was set back must not matter
        final = min(key[1] + DAY, end) + self._provider.revised_for  # from then on what is asked for changes no more
        if day.requested_at >= final:
            return False
        return now >= final or not timedelta(0) <= now - day.requested_at < AGAIN

    def _ask(self, keys: Iterable[Key], now: datetime) -> None:
        with self._lock:
            for key in keys:
                if key not in self._in_hand and len(self._pending) < MOST_PENDING:
                    self._pending[key] = now
            idle = self._thread is None or not self._thread.is_alive()
            if self._pending and self._background and idle:
                self._thread = threading.Thread(target=self._work, name="actuals", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Until nothing is pending; the next read starts a new thread."""
        try:
            self.fetch_pending()
        except Exception:  # a bug of ours must not end the asking for good
            log.exception("measured intensities could not be asked for")

    def _take(self) -> tuple[str, list[datetime], datetime] | None:
        """All pending days of one zone, and when they were asked for."""
        with self._lock:
            if not self._pending:
                return None
            zone = next(iter(self._pending))[0]
            keys = sorted(key for key in self._pending if key[0] == zone)
            now = max(self._pending.pop(key) for key in keys)
            self._in_hand.update(keys)
        return zone, [day for _, day in keys], now

    def _fetch(self, zone: str, first: datetime, last: datetime, now: datetime) -> None:
        """Days `first` to `last`, in one request."""
        start, end = first, min(last + DAY, now + AHEAD)
        known: Series | None = None
        error: ProviderError | None = None
        try:
            known = self._provider.history(zone, start, end)
        except ProviderError as refusal:
            error = refusal
        except Exception as bug:  # the port allows no other, so this is a bug of ours; it must harm this zone only
            log.exception("provider %s broke for zone %s", self._provider.name, zone)
            error = ProviderError(zone, f"{self._provider.name} raised {type(bug).__name__}", "Please report this.")
        if error is not None:
            log.warning("no measured intensities: %s", error)
        for day in _days_of(first, last + DAY):
            if not self._closed.is_set():  # the archive may be gone
                self._keep(zone, day, known, error, now)

    def _keep(self, zone: str, day: datetime, known: Series | None, error: ProviderError | None, now: datetime) -> None:
        end = min(day + DAY, now + AHEAD)
        layers = [known] if known is not None else []
        series = overlay(layers, day, end)
        # The newest issue is in memory and saves the archive in most cases: what is missing are the newest hours.
        issue = self._newest(zone)
        below = overlay([*layers, issue], day, end) if issue is not None else series
        if below is None or not below.covers(day, end):
            series = overlay([*layers, *self._archived(zone, day, end)], day, end)
        with self._lock:
            before = self._days.get((zone, day))
            kept = _Day(series, now)
            if error is not None and not _empty(error):
                failures = (before.failures if before is not None else 0) + 1
                if before is not None and before.series is not None:
                    kept = before  # what was known stays, and as old as it is
                kept = replace(kept, failures=failures, not_before=now + self._pause(error, failures))
            self._days[zone, day] = kept
            self._days.move_to_end((zone, day))
            while len(self._days) > MOST_DAYS:
                self._days.popitem(last=False)


def _empty(error: ProviderError) -> bool:
    """Whether the provider answered, and has nothing."""
    return isinstance(error, ForecastInvalid) and error.reason is InvalidReason.EMPTY


def _days_of(start: datetime, end: datetime) -> list[datetime]:
    """Midnights UTC of the days that overlap [start, end)."""
    day = utc(start).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    out = []
    while day < utc(end):
        out.append(day)
        day += DAY
    return out


def _adjoining(days: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """First and last of each run of days in order."""
    breaks = [i + 1 for i, (a, b) in enumerate(pairwise(days)) if b - a > DAY]
    bounds = [0, *breaks, len(days)]
    return [(days[i], days[j - 1]) for i, j in pairwise(bounds)]
