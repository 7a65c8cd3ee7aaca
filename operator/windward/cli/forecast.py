"""`windward forecast`: strips of the coming hours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from windward.cli import text
from windward.cli.errors import CliError, Exit, usage_error
from windward.cli.sources import Source, forecasts_for, moment, span, unknown_zone
from windward.domain.forecast import Forecast, band_at
from windward.domain.series import Series
from windward.grid.port import UnknownZone
from windward.reports import figures
from windward_api.scalars import format_duration, format_time

_BESIDE = 58  # cells of a table's other columns, about


def forecast(
    zones: Sequence[str], horizon: str, duration: str, scale: str, at: str, source: Source, output: str
) -> None:
    """Print strips, or the series themselves."""
    now, ahead, length = moment(at), span(horizon, "--horizon"), span(duration, "--duration")
    if output == "json" and scale != "shared":
        raise usage_error("--scale is of the strips, and JSON has none", fix="leave --scale out")
    known, grid = forecasts_for(zones, now, source)
    errors = grid.errors()
    if errors and len(errors) == len(known):
        first = next(iter(errors.values()))
        held = grid.provider.zones()
        if isinstance(first, UnknownZone) and held:
            raise unknown_zone(first.zone, grid.provider.name, held, Exit.UNREACHABLE)
        fix = first.fix or "windward doctor"
        raise CliError("no forecast could be had", cause=str(first), fix=fix, code=Exit.UNREACHABLE)
    if output == "json":
        print(json.dumps(document(known, now, ahead, length), indent=2))
    else:
        print(strips(known, now, ahead, length, shared=scale == "shared"))


def document(
    known: dict[str, Forecast], now: datetime, ahead: timedelta | None = None, length: timedelta | None = None
) -> dict[str, Any]:
    """The forecasts as data, as far `ahead` as is asked for, each with its best window of `length`."""
    cut = known
    if ahead is not None:
        cut = {z: replace(f, series=_until(f.series, now + ahead)) for z, f in known.items()}
    return {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "ForecastList",
        "now": format_time(now),
        "items": [
            series_body(f) | quality_body(f, now) | (_best_body(f, now, ahead, length) if ahead and length else {})
            for f in cut.values()
        ],
    }


def _until(series: Series | None, end: datetime) -> Series | None:
    """The periods that begin before `end`; at least the first."""
    if series is None:
        return None
    return series.part(0, max(1, int(np.searchsorted(series.edges[:-1], end.timestamp()))))


def _best_body(f: Forecast, now: datetime, ahead: timedelta, length: timedelta) -> dict[str, Any]:
    best = text.best_start(f.series, now, now + ahead, length) if f.series is not None else None
    if best is None:
        return {"bestWindow": None}
    start, mean = best
    return {
        "bestWindow": {
            "start": format_time(start), "end": format_time(start + length), "intensityGramsPerKwh": mean
        }
    }  # fmt: skip


def series_body(f: Forecast) -> dict[str, Any]:
    """One forecast as data: enough to compute any window's grams again."""
    body: dict[str, Any] = {"zone": f.zone, "freshness": str(f.freshness), "detail": f.detail}
    s = f.series
    if s is not None:
        body |= {
            "source": s.source,
            "signal": str(s.kind.signal),
            "scope": str(s.kind.scope),
            "basis": str(s.kind.basis),
            "unit": "gCO2e/kWh",
            "issuedAt": format_time(s.issued_at),
            "vintage": f.vintage,
            "attribution": s.attribution,
            "demo": s.demo,
            "edgesEpochSeconds": s.edges.tolist(),
            "intensityGramsPerKwh": s.intensity_g_per_kwh.tolist(),
            "quality": [str(q) for q in s.quality],
        }
    return body


def quality_body(f: Forecast, now: datetime) -> dict[str, Any]:
    """How good it is: age, error of late, quantiles of the hours that are our own estimate."""
    age, band = f.age(now), f.band
    band_body = None
    if band is not None:
        quantiles = {
            f"{level:g}": values for level, values in zip(band.levels, band.intensity_g_per_kwh.tolist(), strict=True)
        }
        band_body = {"edgesEpochSeconds": band.edges.tolist(), "quantilesGramsPerKwh": quantiles}
    return {
        "ageSeconds": None if age is None else int(age.total_seconds()),
        "dayAheadErrorGramsPerKwh": f.error_g_per_kwh,
        "band": band_body,
    }


def strips(known: dict[str, Forecast], now: datetime, ahead: timedelta, length: timedelta, *, shared: bool) -> str:
    """The zones as a table, cleanest first: a cell for each hour, and how good the forecasts are where that is known.

    Args:
        ahead: what is shown, and where the best window of `length` is looked for.
        shared: one scale for all zones, so that they can be compared; else each has its own.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = max(1, int(ahead / timedelta(hours=1)))
    room = text.width()
    step = text.step_hours(hours, None if room is None else max(12, room - _BESIDE - max(len(z) for z in known)))
    values = {z: text.hourly(f.series, hour, hours, step) for z, f in known.items() if f.series is not None}
    everything = [v for vs in values.values() for v in vs]
    if not everything:
        return "no zone has a forecast"
    header = [
        "ZONE", "NOW", f"{hours} h, one cell = {step} h, {'shared scale' if shared else 'own scale'}", "MIN",
        f"BEST {format_duration(length)} (UTC)", "AVG", "VS NOW", "",
    ]  # fmt: skip
    quality = any(f.band is not None or f.error_g_per_kwh is not None for f in known.values())
    if quality:
        header += ["80 % IN 24 h", "ERROR"]
    rows = [header]
    for zone, f in sorted(known.items(), key=lambda item: min(values.get(item[0]) or [1e9])):
        if f.series is None or not values.get(zone):
            rows.append([zone, "", f.detail[:60], "", "", "", "", str(f.freshness)] + ["", ""] * quality)
            continue
        scale = everything if shared else values[zone]
        row = _row(zone, f.series, values[zone], min(scale), max(scale), now, now + ahead, length)
        rows.append(row + _quality(f, hour) * quality)
    series = next(f.series for f in known.values() if f.series is not None)
    note = "ERROR: mean absolute error of the forecasts made a day ahead, over the last week" * quality
    holes = [f.detail if f.series is None else f.holes for f in known.values()]
    credit = text.lines([line for line in (note, *holes, series.attribution) if line])
    table = text.table(rows, right=(1, 3, 5, 6))
    return f"{text.lines([_head(series, now)])}\n{table}\n{credit}".rstrip()


def _quality(f: Forecast, hour: datetime) -> list[str]:
    """The 80 % band a day ahead, and how far off such forecasts were of late."""
    span = band_at(f, hour + timedelta(hours=24))
    error = "" if f.error_g_per_kwh is None else f"{f.error_g_per_kwh:.0f}"
    return ["" if span is None else f"{span[0]:.0f}-{span[1]:.0f}", error]


def _row(
    zone: str,
    series: Series,
    values: list[float],
    low: float,
    high: float,
    now: datetime,
    end: datetime,
    length: timedelta,
) -> list[str]:
    at_once = series.at(now)
    best = text.best_start(series, now, end, length)
    row = [zone, f"{at_once:.0f}" if at_once is not None else "", text.strip(values, low, high), f"{min(values):.0f}"]
    if best is None:
        return [*row, "does not fit", "", "", ""]
    start, mean = best
    finish = start + length
    direct = series.mean(now, now + length) if series.covers(now, now + length) else None
    edge = "edge" if finish >= min(series.end, end) - timedelta(minutes=1) else ""
    window = f"{start:%a %H:%M}-{finish:%H:%M}"
    if finish - start >= timedelta(days=1):
        window = f"{start:%a %d %H:%M}-{finish:%a %d %H:%M}"
    return [*row, window, f"{mean:.0f}", figures.percent(mean / direct - 1 if direct else None), edge]


def _head(series: Series, now: datetime) -> str:
    mark = "DEMO " if series.demo else ""
    minutes = int((now - series.issued_at).total_seconds() // 60)
    age = "" if series.demo else f"  issued {minutes} min ago"
    return f"{mark}Forecast from {now:%Y-%m-%d %H:%MZ}  {series.kind}  gCO2e/kWh  {series.source}{age}"
