"""Where a zone's newest issue comes from: its provider, with our own forecast beyond it or in its place."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

from windward.domain.series import Series
from windward.grid.ahead import Ahead, Seen, cut
from windward.grid.issue_archive import IssueArchive
from windward.grid.port import ForecastInvalid, InvalidReason, NoForecast, Provider, ProviderError

log = logging.getLogger(__name__)


class IssueSource:
    """Asks one provider; does IO on the thread of the caller.

    Args:
        ahead: our own forecasts; None: issues as they come.
        archive: keeps what the provider said, beside what the plan will rest on.
        past: how much recent past is asked for before a zone's first issue.
    """

    def __init__(self, provider: Provider, ahead: Ahead | None, archive: IssueArchive, past: timedelta) -> None:
        self._provider, self._ahead, self._archive, self._past = provider, ahead, archive, past
        self._lock = threading.Lock()
        self._known_past: set[str] = set()  # zones whose past was asked for

    def newest(self, zone: str, now: datetime) -> Seen:
        """Returns the provider's issue, prolonged; or our own where it publishes none.

        Raises:
            ProviderError: neither can be had.
        """
        try:
            issue = self._provider.issue(zone, now)
        except ProviderError as refusal:
            over = isinstance(refusal, ForecastInvalid) and refusal.reason is InvalidReason.PAST_ONLY
            if self._ahead is None or not (over or isinstance(refusal, NoForecast)):
                raise
            try:
                return self._ahead.own(zone, now)
            except ProviderError as error:
                raise refusal if over else error from None
        if self._ahead is None or issue.demo:
            return cut(issue)
        for stretch in issue.stretches:
            self._archive.add(stretch)
        return self._ahead.beyond(issue, now)

    def recent_past(self, zone: str, issue: Series) -> Series | None:
        """Returns, once for each zone, the day before its first issue, which a provider may or may not have."""
        with self._lock:
            if zone in self._known_past or self._past <= timedelta(0):
                return None
            self._known_past.add(zone)
        try:
            return self._provider.history(zone, issue.start - self._past, issue.start)
        except Exception as error:  # whatever it is, the issue itself is good and must be used
            log.info("no recent past for %s: %s", zone, error)
            return None
