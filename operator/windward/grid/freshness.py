"""How far an issue can be trusted now, and why, in a sentence. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from windward.domain.forecast import Freshness
from windward.domain.series import Series
from windward.grid.port import ProviderError


def freshness_of(
    series: Series, now: datetime, stale_after: timedelta, *, confirmed: bool, error: ProviderError | None
) -> tuple[Freshness, str]:
    """The freshness of `series`, and what keeps it from being live.

    Args:
        confirmed: the last refresh succeeded and the next is not overdue.
        error: of the last refresh.
    """
    why = f" {error}" if error else ""
    age = now - series.issued_at
    if series.end <= now:
        return Freshness.STALE, f"The last issue ended at {series.end:%Y-%m-%d %H:%M} UTC.{why}"
    if series.start > now:
        return Freshness.STALE, f"The last issue begins only at {series.start:%Y-%m-%d %H:%M} UTC.{why}"
    if series.demo:
        return Freshness.BUNDLED_TRACE, "Demonstration: recorded values of another year stand in for a forecast."
    if age > stale_after:
        return Freshness.STALE, f"The last issue is {_spoken(age)} old (limit {_spoken(stale_after)}).{why}"
    if confirmed:
        return Freshness.LIVE, ""
    return Freshness.CACHED, f"The last issue is {_spoken(age)} old.{why}"


def _spoken(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
