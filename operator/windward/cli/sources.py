"""Forecasts for commands that only look: one refresh, no archive, nothing written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from windward.cli.errors import CliError, Exit
from windward.domain.forecast import Forecast
from windward.domain.series import Kind, Series
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import ProviderError
from windward.service.clock import SystemClock
from windward.service.providers import provider_of
from windward_api.scalars import parse_duration


class NoArchive:
    """An archive for a look that decides nothing: names the vintage, keeps nothing."""

    def archive(self, series: Series) -> str:
        from windward.ledger.codec import encode, sha256

        return sha256(encode(series))

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        return ()


def moment(text: str, option: str = "--at") -> datetime:
    """A time given on the command line; empty: now."""
    if not text:
        return SystemClock().now().replace(microsecond=0)
    try:
        given = datetime.fromisoformat(text)
    except ValueError as e:
        raise CliError(f"{option} {text}: not a time", fix="write it as 2022-05-11T15:00:00Z", code=Exit.USAGE) from e
    if given.tzinfo is None:
        raise CliError(f"{option} {text}: no time zone", fix=f"write {text}Z, or an offset", code=Exit.USAGE)
    from datetime import UTC

    return given.astimezone(UTC)


def span(text: str, option: str) -> timedelta:
    """A duration given on the command line."""
    try:
        return parse_duration(text)
    except ValueError as e:
        raise CliError(f"{option}: {e}", code=Exit.USAGE) from e


def forecasts_for(
    zones: Iterable[str], now: datetime, provider: str, trace: Path | None
) -> tuple[dict[str, Forecast], Grid]:
    """What the provider says of the zones now."""
    try:
        source = provider_of(provider, SystemClock(), trace)
        grid = Grid(source, NoArchive(), ahead=Ahead(source))
    except (ProviderError, ValueError) as e:
        raise CliError(f"--provider {provider}: {e}", code=Exit.USAGE) from e
    wanted = list(zones) or list(grid.provider.zones() or ())
    grid.refresh(wanted, now)
    return grid.forecasts(wanted, now), grid
