"""What asking providers came to, in totals since the start."""

from __future__ import annotations

import threading

from windward.grid.port import ForecastInvalid, NotEntitled, ProviderError, RateLimited, UnknownZone

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
_ERRORS: dict[type[ProviderError], str] = {
    RateLimited: "rate_limited",
    NotEntitled: "not_entitled",
    UnknownZone: "unknown_zone",
    ForecastInvalid: "invalid",
    ProviderError: "unexpected",
}


class Counters:
    """Totals, named as in `COUNTERS`, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = dict.fromkeys(COUNTERS, 0)

    def count(self, name: str) -> None:
        """Count one."""
        with self._lock:
            self._totals[name] += 1

    def count_error(self, error: ProviderError) -> None:
        """Count a provider's failure under its kind."""
        self.count(_ERRORS.get(type(error), "unreachable"))

    def totals(self) -> dict[str, int]:
        """Returns all totals."""
        with self._lock:
            return dict(self._totals)
