"""A receipt for people, line by line. Its figures are the receipt's own; only sums of its rows are computed here."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from windward.reports import figures
from windward.reports.export import mark_of
from windward_api.scalars import format_duration

Body = Mapping[str, Any]
LEVERS = ("hoursGrams", "placeGrams", "powerGrams", "overheadGrams")


def card_lines(body: Body, sha256: str, *, kept: bool = True) -> list[str]:
    """Returns the receipt of one job as a few lines; words in it come from outside and are not made harmless yet.

    Args:
        kept: whether it is in a ledger that `windward report` reads: then the command that shows it all is named.
    """
    lines = [_head(body), _outcome(body), _energy(body), *_carbon(body), *_work(body), *_runs(body)]
    if body.get("note"):
        lines.append(f"clock     {body['note']}")
    lines += [f"data      {source}" for source in _sources(body)]
    again = shlex.join(["windward", "report", "--name", f"{body['job']['namespace']}/{body['job']['name']}"])
    whole = f"; all of them: {again}" if kept else ""
    lines.append(f"record    sha256:{sha256[:16]}  {len(body['intervals'])} intervals{whole}")
    if mark := body.get("demo") or body.get("rehearsal"):
        lines.append(f"          {mark}")
    return lines


def _head(body: Body) -> str:
    whole = datetime.fromisoformat(body["finishedAt"]) - datetime.fromisoformat(body["submittedAt"])
    ran = timedelta(seconds=body["runTimeSeconds"])
    waited = max(timedelta(0), whole - ran)  # before the first run and between runs: the two add up to the whole
    state = "settled" if body["settled"] else "provisional: its figures may still be revised"
    state += f"; {mark_of(body).upper()}" if mark_of(body) else ""
    return (
        f"RECEIPT   {body['job']['namespace']}/{body['job']['name']}  ran {_span(ran)} in {len(body['runs'])} run"
        f"{'s' if len(body['runs']) != 1 else ''}, waited {_span(waited)}  ({state})"
    )


def _outcome(body: Body) -> str:
    """How it ended, how late, and how many of its runs failed."""
    runs, failed = len(body["runs"]), body["failedRuns"]
    when = f"{late(body['lateSeconds'])} late" if body["lateSeconds"] else "in time"
    return f"outcome   {body['outcome']}, {when}, {failed or 'none'} of {runs} run{'' if runs == 1 else 's'} failed"


def late(seconds: float) -> str:
    """Returns by how much a job was late; empty where it was in time."""
    return _span(timedelta(seconds=seconds)) if seconds else ""


def _span(span: timedelta) -> str:
    coarse = timedelta(minutes=1) if span > timedelta(minutes=10) else timedelta(seconds=1)
    return format_duration(coarse * round(span / coarse))


def _energy(body: Body) -> str:
    parts: dict[tuple[str, str, str], float] = defaultdict(float)
    grid_j = 0.0
    for i in body["intervals"]:
        parts[i["component"], i["method"], i["source"]] += i["joules"]
        grid_j += i["joules"] * i["pue"]
    largest_first = sorted(parts.items(), key=lambda p: -p[1])
    components = " + ".join(f"{c} {j / 3.6e6:.3g} ({m}, {s})" for (c, m, s), j in largest_first)
    return f"energy    {body['energyJoules'] / 3.6e6:.4g} kWh: {components}; with PUE {grid_j / 3.6e6:.4g} kWh"


def _carbon(body: Body) -> list[str]:
    mark = "" if body["method"] == "measured" else "~"
    zones = ", ".join(sorted({i["zone"] for i in body["intervals"]}))
    out = f"carbon    {figures.grams(body['emissionsGrams'], mark)} (hourly, location-based, {zones})"
    if body["outcome"] == "Failed":
        return [f"{out}  nothing saved: the work failed for good"]
    base = body["baseline"]
    if body["savedGrams"] is None or base is None:
        return [f"{out}  run at once: unknown"]
    saved = figures.saved(body["savedGrams"], body["runNowGrams"], mark)
    useful = _span(timedelta(seconds=base["usefulSeconds"]))
    return [
        f"{out}  run at once at {base['region']} {figures.grams(body['runNowGrams'], mark)}  saved {saved}",
        f"baseline  {useful} of useful work at {base['meanPowerWatts']:.4g} W and {base['intensityGramsPerKwh']:.4g}"
        f" g/kWh ({base['quality']}) in {base['zone']}",
        *_levers(body, mark),
    ]


def _levers(body: Body, mark: str) -> list[str]:
    """What each lever saved; they add up to the saving."""
    levers = body["levers"]
    if levers is None:
        return ["levers    unknown: home's hours of a run are not known"]
    named = zip(("hours", "place", "power", "overhead"), LEVERS, strict=True)
    return ["levers    " + "  ".join(f"{name} {figures.grams(levers[key], mark)}" for name, key in named)]


def _work(body: Body) -> list[str]:
    work = body["work"]
    if not work["unitsDone"]:
        return []
    unit = work["unit"]
    scale = body.get("timeScale", 1.0)
    metrics = "".join(f"  {k} {v:.4g}" for k, v in sorted(work["metrics"].items()))
    per = f"{work['joulesPerUnit'] / scale:.4g} J/{unit}" + (" in real time" if scale != 1.0 else "")
    return [f"work      {work['unitsDone']:.0f} {unit}s  {per}{metrics}"]


def _runs(body: Body) -> list[str]:
    out: list[str] = []
    lost = {k["attempt"] for k in (body["baseline"] or {"kept": ()})["kept"] if k["start"] == k["end"]}
    for run in body["runs"]:
        rows = [i for i in body["intervals"] if i["attempt"] == run["attempt"]]
        if not rows:
            continue
        a = min(datetime.fromisoformat(i["start"]) for i in rows)
        b = max(datetime.fromisoformat(i["end"]) for i in rows)
        joules = sum(i["joules"] for i in rows)
        known = [i["emissionsGrams"] for i in rows]
        g = None if any(x is None for x in known) else sum(known)
        mean = 3.6e6 * g / sum(i["joules"] * i["pue"] for i in rows) if g is not None and joules else None
        at = f" at {mean:.0f} g/kWh" if mean is not None else ""
        where = f"{run['region']} at {run['powerLevel']}" if run.get("powerLevel") else run["region"]
        out.append(
            f"{'runs' if not out else '    '}      {run['attempt']}  {where}  {figures.day_time(a)} to {b:%H:%MZ}"
            f"  {run['phase']}  {joules / 3.6e6:.3g} kWh  {figures.grams(g)}{at}"
            + ("  nothing of it was kept" if run["attempt"] in lost else "")
        )
    return out


def _sources(body: Body) -> list[str]:
    own = [
        f"{o['region']}: {o['share']:.0%} of {o['from']:g} to {o['to']:g} h UTC generated on site at"
        f" {o['intensityGramsPerKwh']:g} g/kWh, as declared"
        for o in ({**site, **hours} for site in body.get("onSite", ()) for hours in site["hoursUtc"])
    ]
    return [f"{s['zone']}: {s['source']}, {s['kind']}  {s['attribution']}" for s in body["intensity"]] + own
