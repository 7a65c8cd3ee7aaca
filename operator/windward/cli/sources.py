"""Where carbon data comes from, as the command line chooses it; forecasts for commands that only look."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

from windward.cli.errors import CliError, Exit, usage_error
from windward.domain.clock import Clock
from windward.domain.forecast import Forecast
from windward.domain.series import Kind, Series
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import ZONE_PATTERN, Provider, ProviderError
from windward.grid.trace import TraceProvider
from windward.service.clock import SystemClock
from windward.service.providers import provider_of
from windward_api.scalars import parse_duration

LONGEST = timedelta(days=366)
# What people call a grid zone, where the letters are no help.
_ALSO_KNOWN = {"UK": "GB", "EN": "GB", "ENG": "GB", "UKRAINE": "UA", "EL": "GR", "USA": "US-CAL-CISO"}


@dataclass(frozen=True, slots=True)
class Source:
    """A source of carbon data by name.

    Attributes:
        demo: nobody chose it: the bundled demonstration year, for want of another.
    """

    name: str = "trace"
    trace: Path | None = None

    @classmethod
    def chosen(cls, provider: str, trace: Path | None) -> Source:
        """What `--provider` and `--trace` ask for; without both, what `WINDWARD_PROVIDER` does.

        Raises:
            CliError: the two contradict each other.
        """
        if trace is not None and provider and "trace" not in [p.strip() for p in provider.split(",")]:
            raise usage_error(f"--trace is not used by --provider {provider}", fix="leave out one of the two")
        name = provider or ("trace" if trace is not None else os.environ.get("WINDWARD_PROVIDER") or "trace")
        return cls(name, trace)

    @property
    def demo(self) -> bool:
        return self.name == "trace" and self.trace is None

    def open(self, clock: Clock) -> Provider:
        """The provider.

        Raises:
            CliError: there is none of this name, or it lacks something.
        """
        try:
            return provider_of(self.name, clock, self.trace)
        except (ProviderError, ValueError) as e:
            which = f"--trace {self.trace}" if self.trace is not None else f"--provider {self.name}"
            fix = "see docs: a recording has timestamp_utc and carbon_intensity_gco2_kwh"
            raise usage_error(f"{which}: {e}", fix=fix if self.trace is not None else "windward providers list") from e
        except OSError as e:
            cause = f"{e.filename or self.trace}: {e.strerror or e}"
            raise usage_error(f"--trace {cause}", fix="check the path and its rights") from e


class NoArchive:
    """An archive for a look that decides nothing: names the vintage, keeps nothing."""

    def archive(self, series: Series) -> str:
        from windward.ledger.codec import encode, sha256

        return sha256(encode(series))

    def issues(self, zone: str, kind: Kind, start: datetime, end: datetime) -> Sequence[Series]:
        return ()


def moment(text: str, option: str = "--at") -> datetime:
    """A time given on the command line; empty: now.

    Raises:
        CliError: it is none, or not one to work at.
    """
    if not text:
        return SystemClock().now().replace(microsecond=0)
    try:
        given = datetime.fromisoformat(text)
    except ValueError as e:
        raise usage_error(f"{option} {text}: not a time", fix="write it as 2022-05-11T15:00:00Z") from e
    if given.tzinfo is None:
        whole = text if "T" in text or " " in text else f"{text}T00:00:00"
        raise usage_error(f"{option} {text}: no time zone", fix=f"write {whole}Z, or an offset")
    if not 1970 < given.year < 9000:
        fix = "give a year from 1971 to 8999, as in 2022-05-11T15:00:00Z"
        raise usage_error(f"{option} {text}: no time to work at", fix=fix)
    return given.astimezone(UTC).replace(microsecond=0)


def span(text: str, option: str) -> timedelta:
    """A duration given on the command line.

    Raises:
        CliError: it is none, or longer than a year.
    """
    try:
        duration = parse_duration(text)
    except ValueError as e:
        raise usage_error(f"{option}: {e}", fix=f"write it as {option} 4h30m") from e
    if duration > LONGEST:
        raise usage_error(f"{option} {text}: longer than a year", fix="give 366d or less")
    return duration


def only_local(given: Mapping[str, object]) -> None:
    """Refuse options that a cluster does not know.

    Raises:
        CliError: one was given.
    """
    for option, value in given.items():
        if value:
            fix = "the operator has its own source and clock: leave it out, or use --local"
            raise usage_error(f"{option} is for runs on this machine", fix=fix)


def check_zone_name(zone: str) -> None:
    """Refuses what no grid zone is called.

    Raises:
        CliError: the name has another form.
    """
    if not ZONE_PATTERN.fullmatch(zone):
        fix = "2 to 64 letters, digits, - or _, as in DE or US-CAL-CISO; windward zones search finds one"
        raise usage_error(f"zone {zone[:80]!r}: no name of a grid zone", fix=fix)


def check_zones(zones: Iterable[str], provider: Provider) -> list[str]:
    """The zones that the provider does not hold.

    Raises:
        CliError: it holds none of them, or one is no zone of any source that we know.
    """
    held, wanted = provider.zones(), list(dict.fromkeys(zones))
    readable(provider, wanted)
    for zone in wanted:
        check_zone_name(zone)
    if held is None:
        return []
    lacking = [z for z in wanted if z not in held]
    strange = [z for z in lacking if z not in _elsewhere()]
    if strange or (lacking and len(lacking) == len(wanted)):
        raise unknown_zone((strange or lacking)[0], provider.name, held)
    return lacking


def unknown_zone(zone: str, source: str, held: Sequence[str], code: Exit = Exit.USAGE) -> CliError:
    """The error for a zone that a source does not hold, with what is near, or who holds it."""
    holders = _elsewhere().get(zone, ())
    if holders:
        fix = " or ".join(f"--provider {p}" for p in holders)
        fix = f"choose a source that holds {zone}: {fix}"
    else:
        near = nearest(zone, [*held, *_elsewhere()])
        fix = f"did you mean {', '.join(near)}? " if near else ""
        fix += "windward zones search PLACE finds the zone of a place"
        if re.fullmatch(r"[A-Z]{2}(-[A-Z0-9]{1,8}){0,2}", zone):  # as Electricity Maps names them
            fix += "; of some 350 zones: --provider electricitymaps"
    shown = ", ".join(held[:12]) + (", ..." if len(held) > 12 else "")
    return CliError(f"zone {zone}: not held by {source}", cause=f"it holds {shown}", fix=fix, code=code)


def nearest(zone: str, known: Iterable[str]) -> list[str]:
    """Zones whose names are near, best first."""
    names = list(dict.fromkeys(known))
    upper = {n.upper(): n for n in names}
    word = zone.upper().replace("_", "-")
    also = [_ALSO_KNOWN[word]] if word in _ALSO_KNOWN else []
    close = [upper[n] for n in get_close_matches(word, upper, n=3, cutoff=0.7)]
    country = word.partition("-")[0]
    parts = [n for n in names if n.upper().partition("-")[0] == country][:3]
    return list(dict.fromkeys([*also, *close, *parts]))[:3]


def _elsewhere() -> dict[str, tuple[str, ...]]:
    """Zones and the sources that hold them, as far as they can list them without asking."""
    from windward.grid.cloud_regions import cloud_regions
    from windward.grid.registry import all_specs

    clock = SystemClock()
    out: dict[str, tuple[str, ...]] = {}
    for spec in all_specs():
        if spec.live and not spec.required:
            for zone in spec.open(clock, None, {}).zones() or ():
                out[zone] = (*out.get(zone, ()), spec.name)
    for region in cloud_regions():
        if region.zone and region.zone not in out:
            out[region.zone] = ("eia-930", "electricitymaps") if region.zone.startswith("US-") else ("electricitymaps",)
    return out


def live_for(zone: str) -> str:
    """A source that is live for a zone, without a key where there is one."""
    return next(iter(_elsewhere().get(zone, ())), "electricitymaps")


def forecasts_for(zones: Iterable[str], now: datetime, source: Source) -> tuple[dict[str, Forecast], Grid]:
    """What the source says of the zones now."""
    provider = source.open(SystemClock())
    grid = Grid(provider, NoArchive(), ahead=Ahead(provider))
    wanted = list(zones) or list(grid.provider.zones() or ())
    if not wanted:
        fix = "name the zones, as in windward forecast US-CAL-CISO"
        raise usage_error(f"{provider.name} cannot list its zones", fix=fix)
    for zone in wanted:
        check_zone_name(zone)
    readable(provider, wanted)
    grid.refresh(wanted, now)
    return grid.forecasts(wanted, now), grid


def readable(provider: Provider, zones: Iterable[str]) -> None:
    """Read a user's recording of these zones once, so that its faults are told in its own words.

    Raises:
        CliError: it cannot be read.
    """
    if not isinstance(provider, TraceProvider):
        return
    for zone in zones:
        if zone in provider.zones():
            try:
                provider.span(zone)
            except (ValueError, OSError, EOFError, ProviderError, zlib.error) as e:
                raise unreadable(e) from e


def unreadable(e: Exception) -> CliError:
    """The error for a recording of the user's, in the words of whoever read it."""
    cause, fix = (e.cause, e.fix) if isinstance(e, ProviderError) else (str(e), "")
    fix = fix or "correct the file: columns timestamp_utc and carbon_intensity_gco2_kwh, equal steps, UTF-8"
    return usage_error("--trace cannot be read", cause=cause, fix=fix)
