"""The cache between the providers, which fail, and the planner, which must not wait for them.

`refresh` does all the asking, on a thread of its own; `forecasts` reads memory and never blocks on a network. A zone's
trouble stays its own: its last good issue goes on serving until it is `stale_after` old, and it is asked again after
growing, jittered pauses.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

from windward.domain.clock import utc
from windward.domain.forecast import Forecast
from windward.domain.series import Series
from windward.forecasting import overlay
from windward.grid.ahead import Ahead, Seen
from windward.grid.background import BackgroundRefresh
from windward.grid.backoff import BackOff
from windward.grid.counters import Counters
from windward.grid.days import Actuals, Days
from windward.grid.issue_archive import IssueArchive
from windward.grid.issue_source import IssueSource
from windward.grid.port import Archive, Provider, ProviderError
from windward.grid.skill import Skill
from windward.grid.zone_state import ForecastReader, ZoneState

log = logging.getLogger(__name__)


class Grid:
    """Newest forecasts of one provider, for any number of threads.

    Args:
        archive: keeps every issue; its failure never costs a forecast, only its vintage, and is tried again.
        stale_after: an issue older than this carries no plan (`Freshness.STALE`).
        every: a zone is not asked again before this has passed since its last success.
        past: how much recent past a forecast's series carries before its issue.
        ahead: our own forecasts, for a provider without any and beyond the end of an issue; None: issues as they come.
        dice: jitter of the pauses.
        workers: zones that are asked about at once; one where nobody is far away.
        background: whether measured hours for accounts are asked for by a thread of its own (`measured`); else whoever
            reads them asks (simulations and a laptop, where nobody else waits).
    """

    def __init__(
        self,
        provider: Provider,
        archive: Archive,
        *,
        stale_after: timedelta = timedelta(hours=6),
        every: timedelta = timedelta(minutes=10),
        past: timedelta = timedelta(hours=24),
        dice: random.Random | None = None,
        ahead: Ahead | None = None,
        workers: int = 4,
        background: bool = True,
    ) -> None:
        self._provider = provider
        self._workers = workers
        self._every, self._past = every, past
        self._counters = Counters()
        self._archive = IssueArchive(archive, provider, self._counters)
        self._source = IssueSource(provider, ahead, self._archive, past)
        self._reader = ForecastReader(provider, every, stale_after)
        self._back_off = BackOff(dice or random.Random())  # noqa: S311  (jitter, no secret)
        self._days = Days(
            provider, self._newest, self._archive.newest_first, self._back_off.pause, background=background
        )
        self._background = BackgroundRefresh(self.refresh)
        self._lock = threading.Lock()  # guards what is below; never held over IO
        self._zones: dict[str, ZoneState] = {}
        self._skill: dict[str, Skill] = {}  # one thread a zone at a time
        self._asking: set[str] = set()

    @property
    def provider(self) -> Provider:
        return self._provider

    def refresh(self, zones: Iterable[str], now: datetime) -> None:
        """Ask for every zone that is due. Does IO, returns when all have answered or failed; never raises for a zone.

        A zone that another thread is just asking for is left to it.
        """
        now = utc(now)
        with self._lock:
            due = [z for z in dict.fromkeys(zones) if z not in self._asking and self._state(z).is_due(now, self._every)]
            self._asking.update(due)
        try:
            self._archive_late()
            if min(len(due), self._workers) < 2:
                for zone in due:
                    self._refresh_one(zone, now)
            else:
                with ThreadPoolExecutor(min(self._workers, len(due)), thread_name_prefix="grid") as pool:
                    list(pool.map(lambda zone: self._refresh_one(zone, now), due))
        finally:
            with self._lock:
                self._asking.difference_update(due)

    def refresh_soon(self, zones: Iterable[str], now: datetime, then: Callable[[], None] = lambda: None) -> None:
        """`refresh` on a thread of its own, and `then` after it: for a thread that must not wait.

        While one such refresh is going on its thread takes up what is asked for meanwhile; there are never two.
        """
        self._background.start(zones, now, then)

    def forecasts(self, zones: Iterable[str], now: datetime) -> dict[str, Forecast]:
        """The newest good forecast of each zone, from memory alone."""
        now = utc(now)
        with self._lock:
            states = {zone: self._state(zone) for zone in zones}
        return {zone: self._reader.forecast(zone, state, self._error_of(zone), now) for zone, state in states.items()}

    def measured(self, zone: str, start: datetime, end: datetime, now: datetime) -> Actuals:
        """What is known of [start, end) for accounting, at once, of what was asked for before.

        The provider's history first; what it does not hold comes from the newest issue and archived ones, and says so
        by its quality (`forecast`, `recorded`). Periods that nobody knows are holes: check `covers`. What is missing or
        may have changed is asked for by a thread of its own and known at a later call. Never waits for provider or
        archive, unless the grid is not to work in the background; raises nothing of a provider.

        Raises:
            ValueError: `end` is not after `start`.
        """
        known, newest = self._days.read(zone, start, end, now), self._newest(zone)
        layers = [layer for layer in (known.series, newest) if layer is not None]
        return replace(known, series=overlay(layers, start, end))

    def fetch_pending(self) -> None:
        """Ask for all measured hours that `measured` lacked; does IO, on the thread of the caller."""
        self._days.fetch_pending()

    def close(self) -> None:
        """Stop the thread that asks for measured hours; to be called before the archive is closed."""
        self._days.close()

    def errors(self) -> dict[str, ProviderError]:
        """The error of each zone whose last attempt failed."""
        with self._lock:
            return {zone: state.error for zone, state in self._zones.items() if state.error is not None}

    def counters(self) -> dict[str, int]:
        """Totals since the start, named as in `counters.COUNTERS`."""
        return self._counters.totals()

    # -- one zone ----------------------------------------------------------------------------------------------------

    def _refresh_one(self, zone: str, now: datetime) -> None:
        try:
            seen = self._source.newest(zone, now)
            past = self._source.recent_past(zone, seen.series)
        except ProviderError as error:
            self._keep_failure(zone, error, now)
        except Exception as error:
            # The port allows no other exception, so this is a bug of ours; it must still harm this zone only.
            log.exception("provider %s broke for zone %s", self._provider.name, zone)
            cause = f"{self._provider.name} raised {type(error).__name__}"
            self._keep_failure(zone, ProviderError(zone, cause, "Please report this."), now)
        else:
            self._keep_issue(zone, seen, past if past is not None else seen.past, now)

    def _keep_issue(self, zone: str, seen: Seen, measured: Series | None, now: datetime) -> None:
        vintage = self._archive.add(seen.series)
        with self._lock:
            state = self._state(zone).with_issue(seen, measured, vintage, self._past, now)
            self._zones[zone] = state
        self._counters.count("refreshed")
        skill = self._skill.setdefault(zone, Skill())
        skill.note(seen.series, now)
        known = measured if measured is not None else state.series
        if known is not None:
            skill.judge(known, now)

    def _keep_failure(self, zone: str, error: ProviderError, now: datetime) -> None:
        log.warning("%s", error)
        self._counters.count_error(error)
        with self._lock:
            first = self._state(zone).series is None
        restored = self._archive.newest_at(zone, now) if first else None
        vintage = self._archive.add(restored) if restored is not None else ""
        with self._lock:
            state = self._state(zone)
            if restored is not None and state.series is None:
                state = ZoneState.restored(restored, vintage)
                self._counters.count("restored")
            pause = self._back_off.pause(error, state.failures + 1)
            self._zones[zone] = state.with_failure(error, now + pause)

    def _archive_late(self) -> None:
        """Issues that the archive refused when they came: try again, without asking the provider again."""
        with self._lock:
            late = [(zone, state.issue) for zone, state in self._zones.items() if state.issue and not state.vintage]
        for zone, issue in late:
            vintage = self._archive.add(issue)
            with self._lock:
                if self._zones[zone].issue is issue:
                    self._zones[zone] = replace(self._zones[zone], vintage=vintage)

    def _state(self, zone: str) -> ZoneState:
        return self._zones.get(zone, ZoneState())

    def _newest(self, zone: str) -> Series | None:
        with self._lock:
            return self._state(zone).issue

    def _error_of(self, zone: str) -> float | None:
        skill = self._skill.get(zone)
        return skill.error_g_per_kwh if skill is not None else None
