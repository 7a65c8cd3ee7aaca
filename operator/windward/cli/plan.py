"""`windward plan`: what would happen, and why; nothing is submitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward import planning
from windward.cli import text
from windward.cli.errors import CliError, Exit
from windward.cli.forecast import series_body
from windward.cli.manifest_files import Objects, read_objects
from windward.cli.sources import forecasts_for, moment
from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Plan
from windward.lifecycle.work import work_of
from windward.service.planned import lengthened, needed_until, plan_body
from windward.service.regions import regions_of
from windward_api.scalars import format_duration, format_time


def plan(files: Sequence[Path], *, check: bool, at: str, provider: str, trace: Path | None, output: str) -> None:
    """Plan the jobs of the files as if they were created now."""
    objects, now = read_objects(files), moment(at)
    if not objects.jobs:
        raise CliError("no GreenJob in the files", fix="add one, or see examples/", code=Exit.USAGE)
    fleet, known, made = make(objects, now, provider, trace)
    if output == "json":
        print(json.dumps(_document(fleet, known, made), indent=2))
    else:
        print("\n\n".join([*(card(w, made.jobs[w.key], fleet, known, now) for w in fleet.work), *_proof(made)]))
    if check and not all(p.feasible for p in made.jobs.values()):
        raise SystemExit(Exit.INFEASIBLE)


def make(objects: Objects, now: datetime, provider: str, trace: Path | None) -> tuple[Fleet, dict[str, Forecast], Plan]:
    """The plan of objects that exist nowhere yet."""
    jobs = [
        j.model_copy(update={"metadata": j.metadata.model_copy(update={"creation_timestamp": now})})
        for j in objects.jobs
    ]
    work = tuple(work_of(Observed(j), now) for j in jobs)
    fleet = Fleet(work, regions_of(objects.regions))
    known, _ = forecasts_for(sorted({r.zone for r in fleet.regions.values()}), now, provider, trace)
    until = needed_until(((w.duration, w.finish_by) for w in work), now)
    known = {z: lengthened(f, until, now) for z, f in known.items()}
    return fleet, known, planning.plan(fleet, known, now)


def _document(fleet: Fleet, known: dict[str, Forecast], made: Plan) -> dict[str, Any]:
    return {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "PlanList",
        "madeAt": format_time(made.made_at),
        "items": [
            {
                "job": w.key,
                "finishBy": format_time(w.finish_by),
                "durationSeconds": w.duration.total_seconds(),
                "powerWatts": w.power_w,
                "home": w.home,
                **plan_body(made.jobs[w.key]),
            }
            for w in fleet.work
        ],
        "certificate": None
        if made.certificate is None
        else {
            "planGrams": made.certificate.plan_g,
            "boundGrams": made.certificate.bound_g,
            "gap": made.certificate.gap,
        },
        "regions": [{"name": r.name, "zone": r.zone, "pue": r.pue} for r in fleet.regions.values()],
        "forecasts": [series_body(f) for f in known.values()],
    }


def _certificate(made: Plan) -> dict[str, float] | None:
    c = made.certificate
    return {"planGrams": c.plan_g, "boundGrams": c.bound_g, "gap": c.gap} if c is not None else None


def _proof(made: Plan) -> list[str]:
    """How good the plan is at worst; where nothing competes each job has its own best, and it goes unsaid."""
    proof = made.certificate
    if proof is None or made.prices is None or len(made.jobs) < 2:
        return []
    least = f"no plan of these jobs has less than {text.grams(proof.bound_g)} (gap {100 * max(0.0, proof.gap):.2f} %)"
    return [f"PROOF   {len(made.jobs)} jobs share the room: {text.grams(proof.plan_g)} planned, {least}"]


def card(work: Work, p: JobPlan, fleet: Fleet, known: dict[str, Forecast], now: datetime) -> str:
    """One job on a few lines."""
    lines = [f"GreenJob {work.key}  {format_duration(work.duration)}  finish by {_when(work.finish_by, now)}"]
    lines += _plan_lines(work, p, now)
    lines += _strip_lines(work, p, fleet, known, now)
    lines += _why_not(p, now)
    lines += _data(work, fleet, known)
    return "\n".join(lines)


def _plan_lines(work: Work, p: JobPlan, now: datetime) -> list[str]:
    out = []
    for i, w in enumerate(p.windows):
        label = "PLAN  " if i == 0 else "      "
        span = f"{text.day_time(w.start)} ({text.until(w.start, now)}) to {w.end:%H:%MZ}"
        out.append(f"{label}  {span}  {w.region}  {format_duration(w.length)}  {text.grams(w.emissions_g)}")
    if p.windows:
        slack = work.finish_by - p.windows[-1].end
        spare = f"slack {format_duration(slack)}" if slack >= timedelta(0) else f"LATE by {format_duration(-slack)}"
        power_w = work.power_w if p.level is None else work.levels[p.level].power_w
        kwh = sum(w.length.total_seconds() for w in p.windows) * power_w / 3.6e6
        at_level = f", level {p.level_name}" if p.level_name else ""
        saved = text.percent(-p.saved_share) if p.saved_share is not None else "unknown"
        out.append(f"        {spare}  latest start {text.day_time(p.latest_start)}{'  edge' if p.edge else ''}")
        out.append(
            f"EXPECT  {kwh:.3g} kWh ({power_w:.0f} W declared{at_level})  {text.grams(p.emissions_g)}"
            f"  run now at {work.home} {text.grams(p.run_now_g)}  saves {text.grams(p.saved_g)} ({saved})"
        )
    out.append(f"WHY     {p.reason}: {p.explanation}")
    return out


def _strip_lines(work: Work, p: JobPlan, fleet: Fleet, known: dict[str, Forecast], now: datetime) -> list[str]:
    """A strip for each region, and under it where the work runs."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = min(72, max(1, round((work.finish_by - hour) / timedelta(hours=1) + 0.5)))
    rows = {}
    for name in work.regions:
        region = fleet.regions.get(name)
        f = known.get(region.zone) if region is not None else None
        if f is not None and f.series is not None:
            rows[name] = text.hourly(f.series, hour, hours)
    everything = [v for vs in rows.values() for v in vs]
    if not everything:
        return []
    width = max(len(n) for n in rows)
    out = [
        f"HOURS   {'':{width}}  from {hour:%H:%MZ}, one cell = 1 h, {min(everything):.0f}-{max(everything):.0f} g/kWh"
    ]
    for name, values in rows.items():
        out.append(f"        {name:{width}}  {text.strip(values, min(everything), max(everything))}")
        out.append(f"        {'':{width}}  {gantt(p, name, hour, hours)}".rstrip())
    return [line for line in out if line.strip()]


def gantt(p: JobPlan, region: str, hour: datetime, hours: int) -> str:
    """Where the plan runs in `region`, one cell an hour."""
    mark = "━" if text.unicode_wanted() else "="
    cells = []
    for h in range(hours):
        a, b = hour + timedelta(hours=h), hour + timedelta(hours=h + 1)
        runs = any(w.region == region and w.start < b and w.end > a for w in p.windows)
        cells.append(mark if runs else " ")
    return "".join(cells)


def _why_not(p: JobPlan, now: datetime) -> list[str]:
    out = []
    for a in p.alternatives:
        if a.excluded_by:
            out.append(f"{a.region}: {a.excluded_by}")
        elif a.emissions_g is not None and p.emissions_g is not None and a.windows:
            room = a.capacity_g - p.capacity_g
            said = f", and {room:+.0f} g that its room is worth to others" if abs(room) >= 0.5 else ""
            more = a.emissions_g - p.emissions_g
            out.append(f"{a.place} {text.day_time(a.windows[0].start)}: {more:+.0f} g{said}")
    return [f"{'WHY NOT' if i == 0 else '       '} {line}" for i, line in enumerate(out[:6])]


def _data(work: Work, fleet: Fleet, known: dict[str, Forecast]) -> list[str]:
    out = []
    for zone in sorted({fleet.regions[r].zone for r in work.regions if r in fleet.regions}):
        f = known.get(zone)
        if f is None or f.series is None:
            out.append(f"{zone}: no forecast" + (f": {f.detail}" if f is not None else ""))
            continue
        mark = "  DEMO TRACE, not for reporting" if f.series.demo else ""
        out.append(
            f"{f.series.source} {zone} {f.series.kind}, issued {f.series.issued_at:%m-%d %H:%MZ}, {f.freshness}{mark}"
        )
        out += [f.holes] if f.holes else []
    return [f"{'DATA' if i == 0 else '    '}    {line}" for i, line in enumerate(out)]


def _when(moment: datetime, now: datetime) -> str:
    return f"{text.day_time(moment)} ({text.until(moment, now)})"
