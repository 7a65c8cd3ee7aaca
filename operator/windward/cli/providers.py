"""`windward providers`: which sources of carbon data there are, and whether one answers here and now."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from windward.cli import text
from windward.cli.errors import CliError, Exit, usage_error
from windward.cli.sources import Source
from windward.domain.series import Series
from windward.grid.ahead import lacking
from windward.grid.port import Provider, ProviderError
from windward.grid.registry import all_specs
from windward.service.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Check:
    """One question to a provider, and its answer or its error."""

    what: str
    ok: bool
    answer: str
    seconds: float

    def document(self) -> dict[str, object]:
        """Returns it as JSON."""
        return {"what": self.what, "ok": self.ok, "said": self.answer, "seconds": self.seconds}


def providers_list(output: str) -> None:
    """Print every provider of the registry, what it needs, and whether that is there."""
    specs = all_specs()
    items = [
        {"name": s.name, "about": s.about, "needs": list(s.required), "ready": not s.missing(os.environ)} for s in specs
    ]
    if output == "json":
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ProviderList", "items": items}, indent=2))
        return
    rows = [["NAME", "READY", "WHAT", "NEEDS"]]
    rows += [[s.name, "no" if s.missing(os.environ) else "yes", s.about, ", ".join(s.required)] for s in specs]
    print(text.table(rows))


def providers_test(name: str, zone: str, trace: Path | None, output: str) -> None:
    """Ask for a forecast and for the last day, as the operator would; exit 5 if it cannot be used."""
    clock = SystemClock()
    provider = Source.chosen(name, trace).open(clock)
    zone = zone or next(iter(provider.zones() or ()), "")
    if not zone:
        raise usage_error(f"provider {name} cannot list its zones", fix="give --zone, such as --zone US-CAL-CISO")
    now = clock.now()
    checks = [_forecast(provider, zone, now), _history(provider, zone, now)]
    if output == "json":
        body = {
            "provider": provider.name,
            "kind": str(provider.kind),
            "zone": zone,
            "checks": [c.document() for c in checks],
        }
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ProviderTest", **body}, indent=2))
    else:
        rows = [["ok" if c.ok else "FAULT", c.what, f"{c.seconds:.2f} s", c.answer] for c in checks]
        print(text.lines([f"{provider.name}: {provider.kind}, zone {zone}"]))
        print(text.table([["STATE", "CHECK", "TIME", "FOUND"], *rows], right=(2,)))
    if failed := [c for c in checks if not c.ok]:
        fix = "correct what is said above, or choose another of: windward providers list"
        problem = f"provider {provider.name} cannot be used for {zone}"
        raise CliError(problem, cause=failed[0].answer, fix=fix, code=Exit.UNREACHABLE)


def _forecast(provider: Provider, zone: str, now: datetime) -> Check:
    def ask() -> str:
        issue = provider.issue(zone, now)
        ahead = (issue.end - now) / timedelta(hours=1)
        issued = f"issued {issue.issued_at:%m-%d %H:%MZ}"
        holes = f"; {lacking(issue, 'issue')}" if issue.gaps else ""
        return f"{_step(issue)} to {issue.end:%Y-%m-%d %H:%MZ} ({ahead:.0f} h), {_range(issue)}, {issued}{holes}"

    return _checked("forecast", ask)


def _history(provider: Provider, zone: str, now: datetime) -> Check:
    def ask() -> str:
        past = provider.history(zone, now - timedelta(days=1), now)
        known = [q for stretch in past.stretches for q in stretch.quality]
        kinds = ", ".join(f"{known.count(k)} {k}" for k in dict.fromkeys(known))
        end = past.stretches[-1].end
        known_hours = f"{past.start:%m-%d %H:%MZ} to {end:%m-%d %H:%MZ}, {_range(past)}, {kinds}"
        return f"{known_hours}; {lacking(past, 'history')}" if past.gaps else known_hours

    return _checked("last day", ask)


def _checked(what: str, ask: Callable[[], str]) -> Check:
    began = time.monotonic()
    try:
        answer, ok = ask(), True
    except ProviderError as e:
        answer, ok = str(e), False
    return Check(what, ok, answer, time.monotonic() - began)


def _step(series: Series) -> str:
    return f"{(series.edges[1] - series.edges[0]) / 60:.0f} min steps"


def _range(series: Series) -> str:
    values = series.intensity_g_per_kwh
    return f"{values.min():.0f}-{values.max():.0f} g/kWh"
