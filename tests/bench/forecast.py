"""How much of what a perfect forecast would save each forecaster keeps: `make bench-forecast DATA=folder`.

Rolling origins on every zone of the folder (layout: docs/forecasting.md), every `--step` hours over the last third of
a zone's hours, at most four months of them. At each origin t the hours before t - lag are known and nothing else, where
lag is how late their provider publishes them (forecast.yaml); ours is refitted every fortnight on what came before.
Prints tables and bounds, and closes with one line of JSON.

kept = mean grams saved by the window chosen on the forecast / by the window chosen on the actuals, both against running
at once; a window is k hours in a row among the next H. One figure a zone, then the mean over zones, in percent.
"""

from __future__ import annotations

import argparse
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from forecast_methods import KIND, METHODS, Issues, Paths, Zone, ours, week_shape, yesterday

from windward.domain.series import Quality, Series
from windward.forecasting import blend
from windward.forecasting.calibrate import LEVELS
from windward.forecasting.model import FIRST_FIT
from windward.forecasting.past import LEADS

HERE = Path(__file__).resolve().parent
WINDOWS = {"kept_4h_24h": (4, 24), "kept_12h_48h": (12, 48), "kept_4h_96h": (4, 96)}
JUDGED = 2920  # hours: a third of a year
BANDS = (6, 24, 72)  # leads at which the band is judged
MAPES = (0, 6, 24, 48, 72, 120)
LONGEST_LAG = 24  # hours; LEADS less these can be judged of every zone
LOW, HIGH = LEVELS.index(0.1), LEVELS.index(0.9)
# -- reading ---------------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[list[str]]:
    """The lines of a gzip CSV, with its header first."""
    with gzip.open(path, "rt") as lines:
        return [line.strip().split(",") for line in lines]


def hour(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() // 3600)


def zone(path: Path) -> Zone:
    """The newest stretch without a gap of more than six hours; smaller gaps are filled linearly."""
    table = [(hour(r[0]), float(r[1])) for r in rows(path)[1:] if len(r) > 1 and r[1]]
    hours, values = np.array([t for t, _ in table]), np.array([v for _, v in table])
    breaks = np.flatnonzero(np.diff(hours) > 6)
    begin = int(breaks[-1]) + 1 if len(breaks) else 0
    hours, values = hours[begin:], values[begin:]
    every = np.arange(hours[0], hours[-1] + 1)
    return Zone(path.name.removesuffix(".csv.gz"), int(hours[0]), np.interp(every, hours, values))


def published(folder: Path, path: Path) -> tuple[Zone, Issues] | str:
    """A zone with issues of whole hours, its actuals from carbon_direct/ where that folder has it; or why not."""
    table = rows(path)
    name = path.name.removesuffix(".csv.gz")
    if table[0][:4] != ["issued_utc", "target_utc", "forecast_gco2_kwh", "actual_gco2_kwh"]:
        return f"{name}: other columns than issue, target, forecast, actual"
    issued = np.array([hour(r[0]) for r in table[1:]])
    target = np.array([hour(r[1]) for r in table[1:]])
    if len(np.unique(issued)) < 60 or np.any(np.diff(target) != 1):
        return f"{name}: not one issue a day of consecutive whole hours"
    starts = np.unique(issued)
    if np.any(np.diff(starts) != 24) or len(target) != 24 * len(starts):
        return f"{name}: not 24 hours each day"
    history = folder / "carbon_direct" / path.name
    actual = Zone(name, int(target[0]), np.array([float(r[3]) for r in table[1:]]))
    if history.exists():
        actual = zone(history)
    forecast = np.array([float(r[2]) for r in table[1:]]).reshape(-1, 24)
    return actual, Issues(starts - actual.first, forecast)


def lag_of(folder: str, name: str) -> int:
    """Hours after its end at which an hour's actual is published; forecast.yaml says whence."""
    said = yaml.safe_load((HERE / "forecast.yaml").read_text())["publication_lag"]
    return int(said.get(f"{folder}/{name}", said.get(folder, {"hours": 0}))["hours"])


def late(forecast: np.ndarray, lag: int) -> np.ndarray:
    """Paths made at origins - lag, from their origins on, as if known `lag` hours late; the last axis is the lead."""
    return forecast[..., lag : lag + LEADS - LONGEST_LAG]


def issued(z: Zone, issues: Issues, origins: np.ndarray, own: Paths, lag: int) -> dict[str, Paths]:
    """The newest issue with the week's shape behind it, and the same issue blended with our own forecast."""
    plain, blended = late(week_shape(z, origins - lag), lag).copy(), np.empty(own.shape)
    for i, origin in enumerate(origins):
        k = int(np.searchsorted(issues.at, origin, side="right")) - 1
        left = issues.at[k] + 24 - origin
        if left > 0:
            plain[i, :left] = issues.values[k, 24 - left :]
        start = datetime.fromtimestamp(3600 * (z.first + int(issues.at[k])), UTC)
        hourly = timedelta(hours=1)
        said = {"quality": Quality.FORECAST, "source": "issue", "issued_at": start}
        issue = Series.regular(z.name, KIND, start, hourly, issues.values[k], **said)
        now = datetime.fromtimestamp(3600 * (z.first + int(origin)), UTC)
        tail = Series.regular(z.name, KIND, now, hourly, own[i], **{**said, "quality": Quality.ESTIMATED})
        known = now - lag * hourly
        whole = blend(issue, z.series(int(origin) - lag).clip(known - hourly, known), tail)
        blended[i] = whole.clip(now, now + own.shape[1] * hourly).intensity_g_per_kwh
    return {"published": plain, "blend": blended}


# -- measures --------------------------------------------------------------------------------------------------------


def kept(actual: Paths, forecast: Paths, k: int, horizon: int) -> float | None:
    """Percent of the perfect-foresight saving that the window chosen on `forecast` keeps; None where there is none."""

    def windows(paths: Paths) -> np.ndarray:  # (origins, starts): sums of k hours in a row
        sums = np.cumsum(np.pad(paths[:, :horizon], ((0, 0), (1, 0))), axis=1)
        return sums[:, k:] - sums[:, :-k]

    cost = windows(actual)
    chosen = np.take_along_axis(cost, windows(forecast).argmin(axis=1)[:, None], axis=1)
    possible = float(np.sum(cost[:, 0] - cost.min(axis=1)))
    return round(100.0 * float(np.sum(cost[:, 0] - chosen[:, 0])) / possible, 2) if possible > 1e-6 else None


def measured(actual: Paths, forecast: Paths) -> dict[str, Any]:
    """All measures of one forecaster in one zone; percentage errors have a floor of 1 g/kWh."""
    off = 100 * np.abs(forecast - actual) / np.maximum(actual, 1.0)
    out: dict[str, Any] = {name: kept(actual, forecast, *w) for name, w in WINDOWS.items()}
    out["mape_24"] = round(float(off[:, :24].mean()), 2)
    out["mape_by_lead"] = {str(lead): round(float(off[:, lead].mean()), 2) for lead in MAPES}
    return out


def banded(actual: Paths, bands: np.ndarray) -> dict[str, Any]:
    """Coverage of the 80 % band and pinball loss (mean over levels, in percent of the mean intensity)."""
    if np.isnan(bands).any():
        return {"note": "too little history for quantiles"}
    inside = (actual >= bands[LOW] - 1e-6) & (actual <= bands[HIGH] + 1e-6)  # a flat zone's band has no width
    miss = actual[None] - bands
    level = np.array(LEVELS)[:, None, None]
    pinball = np.maximum(level * miss, (level - 1) * miss).mean(axis=(0, 1)) / actual.mean() * 100
    return {
        "coverage_80": round(100 * float(inside[:, list(BANDS)].mean()), 2),
        "coverage_by_lead": {str(lead): round(100 * float(inside[:, lead].mean()), 2) for lead in BANDS},
        "pinball_by_lead": {str(lead): round(float(pinball[lead]), 3) for lead in BANDS},
    }


def judged(z: Zone, step: int, span: int | None = None) -> np.ndarray:
    """Origins: the last third of the zone's hours (of `span` of them), at most four months; each with a week ahead."""
    length = min(JUDGED, (span or len(z.values)) // 3)
    return np.arange(len(z.values) - length, len(z.values) - LEADS + 1, step)


# -- the run ---------------------------------------------------------------------------------------------------------


def short(z: Zone, origins: np.ndarray) -> str:
    if len(origins) < 8 or origins[0] - LONGEST_LAG < FIRST_FIT:
        return f"{z.name}: {len(z.values)} hours are too few (eight weeks to learn from, then a third to judge)"
    return ""


def run_zone(z: Zone, methods: list[str], step: int) -> dict[str, Any]:
    origins, lag = judged(z, step), lag_of("carbon", z.name)
    actual = z.ahead(origins, LEADS - LONGEST_LAG)
    paths, bands = (late(made, lag) for made in ours(z, origins - lag))
    out = {"ours": {**measured(actual, paths), **banded(actual, bands)}}
    return out | {name: measured(actual, late(METHODS[name](z, origins - lag), lag)) for name in methods}


def run_published(z: Zone, issues: Issues, step: int) -> dict[str, Any]:
    """Judged over the last two thirds of the issues (four months of six); the history may begin long before."""
    begin = max(int(issues.at[-1]) + 24 - JUDGED, int(issues.at[0]), FIRST_FIT + LONGEST_LAG)
    lag = lag_of("forecast", z.name)
    origins = np.arange(begin, min(int(issues.at[-1]) + 24, len(z.values) - LEADS + 1), step)
    actual = z.ahead(origins, LEADS - LONGEST_LAG)
    paths, bands = (late(made, lag) for made in ours(z, origins - lag))
    every = {name: late(method(z, origins - lag), lag) for name, method in
             (("yesterday", yesterday), ("week_shape", week_shape))}  # fmt: skip
    every |= {"ours": paths, **issued(z, issues, origins, paths, lag)}
    out = {name: measured(actual, p) for name, p in every.items()}
    out["ours"] |= banded(actual, bands)
    return out


def mean(zones: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Plain means over zones of the figures that are numbers; a flat zone, where nothing can be saved, has none."""
    out: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(m for zone_ in zones.values() for m in zone_):
        figures: dict[str, list[float]] = {}
        for zone_ in zones.values():
            flat = {k: v for k, v in zone_.get(method, {}).items() if isinstance(v, float)}
            by_lead = zone_.get(method, {}).get("coverage_by_lead", {})
            for name, value in (flat | {f"coverage_80_lead_{k}": v for k, v in by_lead.items()}).items():
                figures.setdefault(name, []).append(value)
        out[method] = {name: round(float(np.mean(v)), 2) for name, v in figures.items()}
    return out


def table(zones: dict[str, dict[str, Any]]) -> str:
    """One line for each zone and method."""
    lines = [
        f"{'zone':14}{'method':12}{'4h/24h':>8}{'12h/48h':>8}{'4h/96h':>8}{'mape24':>8}   80 % band at 6, 24, 72 h"
    ]
    for name, methods in [*zones.items(), ("MEAN", mean(zones))]:
        for method, m in methods.items():
            cover = m.get("coverage_by_lead") or {k: m.get(f"coverage_80_lead_{k}") for k in BANDS}
            band = "  ".join(f"{v:5.1f}" for v in cover.values() if v is not None)
            shares = "".join(f"{'-':>8}" if m.get(w) is None else f"{m[w]:8.1f}" for w in WINDOWS)
            lines.append(f"{name:14}{method:12}{shares}{m.get('mape_24', float('nan')):8.2f}   {band}".rstrip())
    return "\n".join(lines)


def told(figures: dict[str, float], bounds: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each bounded figure that was measured: value, bound, whether it holds, whence it comes."""
    out = []
    for name, bound in bounds.items():
        if name not in figures:
            continue
        held = bound.get("at_least", -np.inf) <= figures[name] <= bound.get("at_most", np.inf)
        limit = ", ".join(f"{k.replace('_', ' ')} {bound[k]:g}" for k in ("at_least", "at_most") if k in bound)
        out.append(f"{name:28} {figures[name]:8.2f}  {'ok  ' if held else 'OVER'}  {limit:24}  {bound['source']}")
    return out


def figures(zones: dict[str, Any], with_issue: dict[str, Any]) -> dict[str, float]:
    """What forecast.yaml bounds."""
    out: dict[str, float] = {}
    if zones:
        out |= {f"ours_{k}": v for k, v in mean(zones).get("ours", {}).items()}
        cover = [v for z in zones.values() for v in z["ours"].get("coverage_by_lead", {}).values()]
        if cover:
            out |= {"coverage_lowest": min(cover), "coverage_highest": max(cover)}
        if all("yesterday" in z for z in zones.values()):
            pairs = [[(z["ours"][w], z["yesterday"][w]) for w in WINDOWS] for z in zones.values()]
            beaten = [all(a > b for a, b in pair) for pair in pairs if None not in sum(pair, ())]
            out |= {"beats_yesterday_percent": 100.0 * float(np.mean(beaten))} if beaten else {}
    if with_issue:
        m = mean(with_issue)
        out["blend_gain_12h_48h"] = round(m["blend"]["kept_12h_48h"] - m["published"]["kept_12h_48h"], 2)
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with carbon/, and optionally forecast/ and carbon_direct/")
    parser.add_argument("--zones", default="", help="only these, with commas between")
    parser.add_argument("--methods", default="yesterday,week_shape", help=f"of {', '.join(METHODS)}; or all")
    parser.add_argument("--step", type=int, default=6, help="hours from origin to origin")
    arguments = parser.parse_args()
    wanted = set(filter(None, arguments.zones.split(",")))
    methods = list(METHODS) if arguments.methods == "all" else list(filter(None, arguments.methods.split(",")))
    if unknown := [m for m in methods if m not in METHODS]:
        parser.error(f"unknown methods {unknown}; there are {', '.join(METHODS)}")
    if arguments.step < 1:
        parser.error("--step must be at least 1")

    def files(folder: str) -> list[Path]:
        there = sorted((arguments.data / folder).glob("*.csv.gz"))
        return [p for p in there if not wanted or p.name.removesuffix(".csv.gz") in wanted]

    zones: dict[str, Any] = {}
    for path in files("carbon"):
        z = zone(path)
        if why := short(z, judged(z, arguments.step)):
            print(f"left out: {why}")
        else:
            zones[z.name] = run_zone(z, methods, arguments.step)
    with_issue: dict[str, Any] = {}
    for path in files("forecast"):
        found = published(arguments.data, path)
        if isinstance(found, str):
            print(f"left out: {found}")
        else:
            with_issue[found[0].name] = run_published(*found, arguments.step)
    if not zones and not with_issue:
        parser.exit(
            2, f"nothing to judge in {arguments.data}: no carbon/*.csv.gz or forecast/*.csv.gz that is long enough\n"
        )
    report(zones, with_issue, arguments.data)


def report(zones: dict[str, Any], with_issue: dict[str, Any], data: Path) -> None:
    if zones:
        print("From history alone:", table(zones), sep="\n")
    if with_issue:
        print("Where a forecast is published:", table(with_issue), sep="\n")
    else:
        print(f"no published forecasts to judge in {data}/forecast")
    bounds = yaml.safe_load((HERE / "forecast.yaml").read_text())["bounds"]
    print("\n".join(told(figures(zones, with_issue), bounds)))
    overall = mean(zones)
    overall |= {k: v for k, v in mean(with_issue).items() if k in ("published", "blend")}
    print(json.dumps({"bench": "forecast", "mean": overall, "zones": zones, "published_zones": with_issue}))


if __name__ == "__main__":
    main()
