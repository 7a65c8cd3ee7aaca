"""The archive of issues as the cache uses it: one provider's part of it, and a failure costs no forecast."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from windward.domain.series import Series
from windward.grid.counters import Counters
from windward.grid.port import Archive, Provider

log = logging.getLogger(__name__)


class IssueArchive:
    """Issues of one provider in an archive that may hold those of others. Raises nothing of the archive: counts it."""

    def __init__(self, archive: Archive, provider: Provider, counters: Counters) -> None:
        self._archive, self._provider, self._counters = archive, provider, counters

    def add(self, issue: Series) -> str:
        """Keep an issue. Returns its vintage; '' where it could not be kept."""
        try:
            return self._archive.archive(issue)
        except Exception:
            log.exception("an issue for %s could not be archived", issue.zone)
            self._counters.count("archive_failures")
            return ""

    def newest_first(self, zone: str, start: datetime, end: datetime) -> Sequence[Series]:
        """Returns the issues that overlap [start, end), newest first; none where the archive cannot be read."""
        try:
            issues = self._archive.issues(zone, self._provider.kind, start, end)
            # One archive may serve several providers of one kind: recorded demonstration data never fills a live gap.
            return [issue for issue in issues if rests_on(issue.source, self._provider.name)][::-1]
        except Exception:
            log.exception("the archive could not be read")
            self._counters.count("archive_failures")
            return []

    def newest_at(self, zone: str, now: datetime) -> Series | None:
        """Returns the newest issue that covers `now`: with it a restart during an outage goes on."""
        return next(iter(self.newest_first(zone, now, now + timedelta(seconds=1))), None)


def rests_on(source: str, provider: str) -> bool:
    """Returns whether a series of this source rests on one of the provider's (`own:ridge+analog:neso` on `neso`)."""
    names = provider.split("+")
    return any(part == name or part.endswith(f":{name}") for part in source.split("+") for name in names)
