"""What the cache knows of one zone, and what that gives as a forecast. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from windward.domain.forecast import Forecast, Freshness
from windward.domain.quantiles import Quantiles
from windward.domain.series import Series
from windward.forecasting import overlay
from windward.grid.ahead import Seen
from windward.grid.backoff import LONGEST
from windward.grid.freshness import freshness_of
from windward.grid.port import Provider, ProviderError
from windward.grid.validate import is_flat


@dataclass(frozen=True, slots=True)
class ZoneState:
    """What is known of one zone; replaced, never changed.

    Attributes:
        series: the recent past and the newest good issue; `issue` is that issue alone, as it is archived.
        band: quantiles of the hours that are our own estimate.
        own: what of it is our own forecast, for people.
        holes: what is missing, and what stands there, for people.
        vintage: of the issue in the archive; '' while it is not kept there.
        flat: the issue has one value all the time.
        taken_at: last success.
        error: of the last attempt; None after a success.
        failures: in a row.
        not_before: no attempt is to be made earlier.
    """

    series: Series | None = None
    issue: Series | None = None
    band: Quantiles | None = None
    own: str = ""
    holes: str = ""
    vintage: str = ""
    flat: bool = False
    taken_at: datetime | None = None
    error: ProviderError | None = None
    failures: int = 0
    not_before: datetime | None = None

    def is_due(self, now: datetime, every: timedelta) -> bool:
        """Returns whether the zone is to be asked about: `every` so often, and once its issue is over."""
        if self.not_before is not None:
            # A clock that was set back must not keep the provider alone for the length of the jump.
            return now >= self.not_before or self.not_before - now > LONGEST
        if self.taken_at is None or self.issue is None:
            return True
        return not timedelta(0) <= now - self.taken_at < every or self.issue.at(now) is None

    def with_issue(
        self, seen: Seen, measured: Series | None, vintage: str, past: timedelta, now: datetime
    ) -> ZoneState:
        """Returns the state after a new issue, with up to `past` of what is known before it."""
        issue = seen.series
        below = [layer for layer in (measured, self.series) if layer is not None and _joinable(layer, issue)]
        known = overlay([issue, *below], issue.start - past, issue.end)
        # The past may end before the issue begins, or hold a hole: what reaches up to the issue without one.
        series = next((s for s in known.stretches if s.covers(issue.start, issue.end)), issue) if known else issue
        return ZoneState(series, issue, seen.band, seen.detail, seen.holes, vintage, is_flat(issue), taken_at=now)

    @staticmethod
    def restored(issue: Series, vintage: str) -> ZoneState:
        """Returns the state of a zone of which only an archived issue is known."""
        return ZoneState(issue, issue, vintage=vintage, flat=is_flat(issue))

    def with_failure(self, error: ProviderError, not_before: datetime) -> ZoneState:
        """Returns the state after an attempt that failed: what was known stays."""
        return replace(self, error=error, failures=self.failures + 1, not_before=not_before)


@dataclass(frozen=True, slots=True)
class ForecastReader:
    """Gives the forecast of a zone from its state.

    Attributes:
        provider: whose forecasts these are.
        every: how often zones are asked about.
        stale_after: an issue older than this carries no plan.
    """

    provider: Provider
    every: timedelta
    stale_after: timedelta

    def forecast(self, zone: str, state: ZoneState, error_g_per_kwh: float | None, now: datetime) -> Forecast:
        """Returns the newest good forecast, with how far it can be trusted and why.

        Args:
            error_g_per_kwh: how far the zone's forecasts were off, if that is known.
        """
        series = state.series
        if series is None or state.issue is None:
            detail = str(state.error) if state.error else f"{self.provider.name} was not asked yet for {zone}."
            return Forecast(zone, None, Freshness.PROVIDER_UNAVAILABLE, detail=detail)
        confirmed = state.error is None and state.taken_at is not None and now - state.taken_at <= self.every * 2
        freshness, detail = freshness_of(series, now, self.stale_after, confirmed=confirmed, error=state.error)
        if state.flat and freshness.usable:
            detail = f"{detail} The intensity is the same all the time: waiting gains nothing here.".strip()
        other = series.kind != self.provider.kind
        kind = f"Declared fallback: it counts {series.kind}, not {self.provider.kind}." if other else ""
        detail = " ".join(x for x in (detail, kind, state.own, state.holes) if x)
        return Forecast(zone, series, freshness, state.vintage, detail, state.band, error_g_per_kwh, state.holes)


def _joinable(past: Series, issue: Series) -> bool:
    """Whether `past` may stand before `issue`: demonstration data and real data are never joined."""
    return (past.zone, past.kind, past.demo) == (issue.zone, issue.kind, issue.demo)
