"""`windward providers`: which sources of carbon data there are, and whether one answers here and now."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from windward.cli import text
from windward.cli.errors import CliError, Exit
from windward.cli.sources import Source
from windward.domain.series import Series
from windward.grid.ahead import lacking
from windward.grid.port import Provider, ProviderError
from windward.service.clock import SystemClock
from windward.service.providers import NAMES, VARIABLES

_ABOUT = {
    "trace": "recorded values: the bundled demonstration year, or your own CSV or Parquet",
    "neso": "Great Britain, half-hourly forecast of 48 h, no key",
    "electricitymaps": "some 350 zones, hourly forecast of 72 h",
    "watttime": "marginal, five-minute forecast of 72 h",
    "energy-charts": "European countries, quarter-hourly, no key",
    "energinet": "Denmark, five-minute prognosis, no key",
    "eia-930": "United States, hourly history; the forecast is our own",
    "carbon-aware-sdk": "your own installation of the Green Software Foundation's web API",
    "static": "one declared number for each zone",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried."""

    what: str
    ok: bool
    said: str
    seconds: float


def providers_list(output: str) -> None:
    """All sources, and what each needs."""
    items = [
        {
            "name": n,
            "about": _ABOUT[n],
            "needs": list(VARIABLES[n]),
            "ready": all(os.environ.get(v) for v in VARIABLES[n]),
        }
        for n in NAMES
    ]
    if output == "json":
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ProviderList", "items": items}, indent=2))
        return
    rows = [["NAME", "READY", "WHAT", "NEEDS"]]
    rows += [
        [n, "yes" if i["ready"] else "no", _ABOUT[n], ", ".join(VARIABLES[n])]
        for n, i in zip(NAMES, items, strict=True)
    ]
    print(text.table(rows))


def providers_test(name: str, zone: str, trace: Path | None, output: str) -> None:
    """Ask for a forecast and for the last day, as the operator would; exit 5 if it cannot be used."""
    clock = SystemClock()
    provider = Source.chosen(name, trace).open(clock)
    zone = zone or next(iter(provider.zones() or ()), "")
    if not zone:
        fix = "give --zone, such as --zone US-CAL-CISO"
        raise CliError(f"provider {name} cannot list its zones", fix=fix, code=Exit.USAGE)
    now = clock.now()
    checks = [_forecast(provider, zone, now), _history(provider, zone, now)]
    if output == "json":
        body = {
            "provider": provider.name,
            "kind": str(provider.kind),
            "zone": zone,
            "checks": [asdict(c) for c in checks],
        }
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ProviderTest", **body}, indent=2))
    else:
        rows = [["ok" if c.ok else "FAULT", c.what, f"{c.seconds:.2f} s", c.said] for c in checks]
        print(text.lines([f"{provider.name}: {provider.kind}, zone {zone}"]))
        print(text.table([["STATE", "CHECK", "TIME", "FOUND"], *rows], right=(2,)))
    if bad := [c for c in checks if not c.ok]:
        fix = "correct what is said above, or choose another of: windward providers list"
        said = f"provider {provider.name} cannot be used for {zone}"
        raise CliError(said, cause=bad[0].said, fix=fix, code=Exit.UNREACHABLE)


def _forecast(provider: Provider, zone: str, now: datetime) -> Check:
    def ask() -> str:
        issue = provider.issue(zone, now)
        ahead = (issue.end - now) / timedelta(hours=1)
        issued = f"issued {issue.issued_at:%m-%d %H:%MZ}"
        holes = f"; {lacking(issue, 'issue')}" if issue.gaps else ""
        return f"{_step(issue)} to {issue.end:%Y-%m-%d %H:%MZ} ({ahead:.0f} h), {_range(issue)}, {issued}{holes}"

    return _tried("forecast", ask)


def _history(provider: Provider, zone: str, now: datetime) -> Check:
    def ask() -> str:
        past = provider.history(zone, now - timedelta(days=1), now)
        known = [q for stretch in past.stretches for q in stretch.quality]
        kinds = ", ".join(f"{known.count(k)} {k}" for k in dict.fromkeys(known))
        end = past.stretches[-1].end
        said = f"{past.start:%m-%d %H:%MZ} to {end:%m-%d %H:%MZ}, {_range(past)}, {kinds}"
        return f"{said}; {lacking(past, 'history')}" if past.gaps else said

    return _tried("last day", ask)


def _tried(what: str, ask: object) -> Check:
    assert callable(ask)
    began = time.monotonic()
    try:
        said, ok = ask(), True
    except ProviderError as e:
        said, ok = str(e), False
    return Check(what, ok, said, time.monotonic() - began)


def _step(series: Series) -> str:
    return f"{(series.edges[1] - series.edges[0]) / 60:.0f} min steps"


def _range(series: Series) -> str:
    values = series.intensity_g_per_kwh
    return f"{values.min():.0f}-{values.max():.0f} g/kWh"
