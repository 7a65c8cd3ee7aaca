"""The cache between the providers, which fail, and the planner, which must not wait for them.

`refresh` does all the asking, on a thread of its own; `forecasts` reads memory and never blocks on a network. A zone's
trouble stays its own: its last good issue goes on serving until it is `stale_after` old, and it is asked again after
growing, jittered pauses.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from windward.domain.clock import utc
from windward.domain.forecast import Forecast, Freshness
from windward.domain.quantiles import Quantiles
from windward.domain.series import Series
from windward.forecasting import overlay
from windward.grid.ahead import Ahead, Seen, cut
from windward.grid.days import Actuals, Days
from windward.grid.freshness import freshness_of
from windward.grid.port import (
    Archive,
    ForecastInvalid,
    InvalidReason,
    NoForecast,
    NotEntitled,
    Provider,
    ProviderError,
    RateLimited,
    UnknownZone,
)
from windward.grid.skill import Skill
from windward.grid.validate import is_flat

log = logging.getLogger(__name__)

_FIRST_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(minutes=15)
_LONGEST_RETRY_AFTER = timedelta(hours=6)

COUNTERS = (
    "refreshed",  # issues taken
    "unreachable",
    "rate_limited",
    "not_entitled",
    "unknown_zone",
    "invalid",  # answers refused as garbage
    "unexpected",  # an exception that the port does not allow: a bug of ours
    "restored",  # issues taken from the archive because the provider failed
    "archive_failures",
)


@dataclass(frozen=True, slots=True)
class _Zone:
    """What is known of one zone; replaced, never changed."""

    series: Series | None = None  # the recent past and the newest good issue
    issue: Series | None = None  # that issue alone, as it is archived
    band: Quantiles | None = None
    own: str = ""  # what of it is our own forecast
    holes: str = ""  # what is missing, and what stands there
    vintage: str = ""
    flat: bool = False  # the issue has one value all the time
    taken_at: datetime | None = None  # last success
    error: ProviderError | None = None  # of the last attempt; None after a success
    failures: int = 0  # in a row
    not_before: datetime | None = None  # the breaker: no attempt earlier


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
        self._days = Days(provider, self._newest, self._newest_first, self._pause, background=background)
        self._ahead = ahead
        self._workers = workers
        self._archive = archive
        self._stale_after = stale_after
        self._every = every
        self._past = past
        self._dice = dice or random.Random()  # noqa: S311  (jitter, no secret)
        self._lock = threading.Lock()  # guards what is below; never held over IO
        self._zones: dict[str, _Zone] = {}
        self._skill: dict[str, Skill] = {}  # one thread a zone at a time
        self._asking: set[str] = set()
        self._soon: set[str] = set()  # to be refreshed by a thread of its own
        self._refreshing = False
        self._known_past: set[str] = set()
        self._counters = dict.fromkeys(COUNTERS, 0)

    @property
    def provider(self) -> Provider:
        return self._provider

    def refresh(self, zones: Iterable[str], now: datetime) -> None:
        """Ask for every zone that is due. Does IO, returns when all have answered or failed; never raises for a zone.

        A zone that another thread is just asking for is left to it.
        """
        now = utc(now)
        with self._lock:
            due = [zone for zone in dict.fromkeys(zones) if zone not in self._asking and self._due(zone, now)]
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
        with self._lock:
            self._soon.update(zones)
            if self._refreshing:
                return
            self._refreshing = True
        threading.Thread(target=self._refresh_soon, args=(now, then), name="forecasts", daemon=True).start()

    def _refresh_soon(self, now: datetime, then: Callable[[], None]) -> None:
        while True:
            with self._lock:
                zones = sorted(self._soon)
                self._soon.clear()
                if not zones:
                    self._refreshing = False
                    return
            try:
                self.refresh(zones, now)
            except Exception:  # a bug of ours must not end the asking for good
                log.exception("the forecasts of %s could not be refreshed", ", ".join(zones))
            then()

    def forecasts(self, zones: Iterable[str], now: datetime) -> dict[str, Forecast]:
        """The newest good forecast of each zone, from memory alone."""
        now = utc(now)
        with self._lock:
            states = {zone: self._zones.get(zone, _Zone()) for zone in zones}
        return {zone: self._forecast(zone, state, now) for zone, state in states.items()}

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
        """Totals since the start, named as in `COUNTERS`."""
        with self._lock:
            return dict(self._counters)

    # -- one zone ----------------------------------------------------------------------------------------------------

    def _due(self, zone: str, now: datetime) -> bool:
        state = self._zones.get(zone)
        if state is None:
            return True
        if state.not_before is not None:
            # A clock that was set back must not keep the breaker open for the length of the jump.
            return now >= state.not_before or state.not_before - now > _LONGEST_RETRY_AFTER * 1.5
        if state.taken_at is None or state.issue is None:
            return True
        return not timedelta(0) <= now - state.taken_at < self._every or state.issue.at(now) is None

    def _refresh_one(self, zone: str, now: datetime) -> None:
        try:
            seen = self._seen(zone, now)
            past = self._recent_past(zone, seen.series)
        except ProviderError as error:
            self._failed(zone, error, now)
        except Exception as error:
            # The port allows no other exception, so this is a bug of ours; it must still harm this zone only.
            log.exception("provider %s broke for zone %s", self._provider.name, zone)
            cause = f"{self._provider.name} raised {type(error).__name__}"
            self._failed(zone, ProviderError(zone, cause, "Please report this."), now)
        else:
            self._taken(zone, seen, past, now)

    def _seen(self, zone: str, now: datetime) -> Seen:
        """The provider's issue, prolonged; or our own where it publishes none."""
        try:
            issue = self._provider.issue(zone, now)
        except ProviderError as none:
            over = isinstance(none, ForecastInvalid) and none.reason is InvalidReason.PAST_ONLY
            if self._ahead is None or not (over or isinstance(none, NoForecast)):
                raise
            try:
                return self._ahead.own(zone, now)
            except ProviderError as error:
                raise none if over else error from None
        if self._ahead is None or issue.demo:
            return cut(issue)
        for stretch in issue.stretches:
            self._archive_one(stretch)  # as the provider said it, beside what the plan will rest on
        return self._ahead.beyond(issue, now)

    def _taken(self, zone: str, seen: Seen, past: Series | None, now: datetime) -> None:
        issue = seen.series
        vintage = self._archive_one(issue)
        measured = past if past is not None else seen.past
        with self._lock:
            old = self._zones.get(zone, _Zone())
            below = [layer for layer in (measured, old.series) if layer is not None and _joinable(layer, issue)]
            known = overlay([issue, *below], issue.start - self._past, issue.end)
            # The past may end before the issue begins, or hold a hole: what reaches up to the issue without one.
            series = next((s for s in known.stretches if s.covers(issue.start, issue.end)), issue) if known else issue
            self._zones[zone] = _Zone(
                series, issue, seen.band, seen.detail, seen.holes, vintage, is_flat(issue), taken_at=now
            )
            self._counters["refreshed"] += 1
        skill = self._skill.setdefault(zone, Skill())
        skill.note(issue, now)
        skill.judge(measured if measured is not None else series, now)

    def _failed(self, zone: str, error: ProviderError, now: datetime) -> None:
        log.warning("%s", error)
        self._count_error(error)
        with self._lock:
            first = self._zones.get(zone, _Zone()).series is None
        restored = self._restored(zone, now) if first else None
        vintage = self._archive_one(restored) if restored is not None else ""
        with self._lock:
            state = self._zones.get(zone, _Zone())
            if restored is not None and state.series is None:
                state = _Zone(restored, restored, vintage=vintage, flat=is_flat(restored))
                self._counters["restored"] += 1
            failures = state.failures + 1
            self._zones[zone] = replace(
                state, error=error, failures=failures, not_before=now + self._pause(error, failures)
            )

    def _pause(self, error: ProviderError, failures: int) -> timedelta:
        """Doubling from 30 s to 15 min, times 0.5 to 1.5; a provider's own wish is honoured, up to six hours."""
        pause = _LONGEST_PAUSE
        if not isinstance(error, NotEntitled | UnknownZone):
            pause = min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE)
        pause *= self._dice.uniform(0.5, 1.5)
        if isinstance(error, RateLimited) and error.retry_after is not None:
            wish = min(error.retry_after, _LONGEST_RETRY_AFTER)
            pause = max(pause, wish * self._dice.uniform(1.0, 1.1))
        return pause

    def _recent_past(self, zone: str, issue: Series) -> Series | None:
        """Once a zone: the day before the first issue, which a provider may or may not have."""
        with self._lock:
            if zone in self._known_past or self._past <= timedelta(0):
                return None
            self._known_past.add(zone)
        try:
            return self._provider.history(zone, issue.start - self._past, issue.start)
        except Exception as error:  # whatever it is, the issue itself is good and must be used
            log.info("no recent past for %s: %s", zone, error)
            return None

    def _restored(self, zone: str, now: datetime) -> Series | None:
        """The newest archived issue that still covers `now`: what a restart during an outage goes on with."""
        kept = self._archived(zone, now, now + timedelta(seconds=1))
        return kept[-1] if kept else None

    def _archived(self, zone: str, start: datetime, end: datetime) -> list[Series]:
        try:
            # One archive may serve several providers of one kind: recorded demonstration data never fills a live gap.
            kept = self._archive.issues(zone, self._provider.kind, start, end)
            return [issue for issue in kept if _says(issue.source, self._provider.name)]
        except Exception:
            log.exception("the archive could not be read")
            with self._lock:
                self._counters["archive_failures"] += 1
            return []

    def _newest(self, zone: str) -> Series | None:
        with self._lock:
            return self._zones.get(zone, _Zone()).issue

    def _newest_first(self, zone: str, start: datetime, end: datetime) -> Sequence[Series]:
        return self._archived(zone, start, end)[::-1]

    def _archive_one(self, issue: Series) -> str:
        try:
            return self._archive.archive(issue)
        except Exception:
            log.exception("an issue for %s could not be archived", issue.zone)
            with self._lock:
                self._counters["archive_failures"] += 1
            return ""

    def _archive_late(self) -> None:
        """Issues that the archive refused when they came: try again, without asking the provider again."""
        with self._lock:
            late = [(zone, state.issue) for zone, state in self._zones.items() if state.issue and not state.vintage]
        for zone, issue in late:
            vintage = self._archive_one(issue)
            with self._lock:
                if self._zones[zone].issue is issue:
                    self._zones[zone] = replace(self._zones[zone], vintage=vintage)

    def _count_error(self, error: ProviderError) -> None:
        names: dict[type[ProviderError], str] = {
            RateLimited: "rate_limited",
            NotEntitled: "not_entitled",
            UnknownZone: "unknown_zone",
            ForecastInvalid: "invalid",
            ProviderError: "unexpected",
        }
        with self._lock:
            self._counters[names.get(type(error), "unreachable")] += 1

    # -- reading -----------------------------------------------------------------------------------------------------

    def _forecast(self, zone: str, state: _Zone, now: datetime) -> Forecast:
        series = state.series
        if series is None or state.issue is None:
            detail = str(state.error) if state.error else f"{self._provider.name} was not asked yet for {zone}."
            return Forecast(zone, None, Freshness.PROVIDER_UNAVAILABLE, detail=detail)
        confirmed = state.error is None and state.taken_at is not None and now - state.taken_at <= self._every * 2
        freshness, detail = freshness_of(series, now, self._stale_after, confirmed=confirmed, error=state.error)
        if state.flat and freshness.usable:
            detail = f"{detail} The intensity is the same all the time: waiting gains nothing here.".strip()
        other = series.kind != self._provider.kind
        kind = f"Declared fallback: it counts {series.kind}, not {self._provider.kind}." if other else ""
        detail = " ".join(x for x in (detail, kind, state.own, state.holes) if x)
        error = self._skill[zone].error_g_per_kwh if zone in self._skill else None
        return Forecast(zone, series, freshness, state.vintage, detail, state.band, error, state.holes)


def _says(source: str, provider: str) -> bool:
    """Whether a series of this source rests on one of the provider's (`own:ridge+analog:neso` rests on `neso`)."""
    names = provider.split("+")
    return any(part == name or part.endswith(f":{name}") for part in source.split("+") for name in names)


def _joinable(past: Series, issue: Series) -> bool:
    """Whether `past` may stand before `issue`: demonstration data and real data are never joined."""
    return (past.zone, past.kind, past.demo) == (issue.zone, issue.kind, issue.demo)
