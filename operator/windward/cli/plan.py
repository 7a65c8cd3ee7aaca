"""`windward plan`: what would happen, and why; nothing is submitted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward import planning
from windward.cli import text
from windward.cli.errors import Exit, usage_error
from windward.cli.forecast import series_body
from windward.cli.manifest_files import Objects, read_objects
from windward.cli.schedules import next_of
from windward.cli.sources import Source, forecasts_for, moment
from windward.domain.fleet import Fleet, Work
from windward.domain.forecast import Forecast
from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Plan
from windward.lifecycle.cron import job_body
from windward.lifecycle.work import work_of
from windward.reports import figures
from windward.service.planned import lengthened, needed_until, plan_body
from windward.service.sync_regions import regions_of
from windward_api.greenjob import GreenJob
from windward_api.scalars import format_duration, format_time


def plan(files: Sequence[Path], *, check: bool, at: str, source: Source, output: str) -> None:
    """Plan the jobs of the files as if they were created now; of a GreenCronJob, the job of its next tick."""
    objects, now = read_objects(files), moment(at)
    ticks, objects = _with_next_windows(objects, now)
    if not objects.jobs:
        raise usage_error("no GreenJob or GreenCronJob in the files", fix="add one, or see examples/")
    fleet, known, fleet_plan = make(objects, now, source)
    if output == "json":
        print(json.dumps(_document(fleet, known, fleet_plan, ticks), indent=2))
    else:
        cards = [
            "\n".join([*_tick_line(w, ticks, now), card(w, fleet_plan.jobs[w.key], fleet, known, now)])
            for w in fleet.work
        ]
        print("\n\n".join([*cards, *_proof(fleet_plan)]))
    if check and not all(p.feasible for p in fleet_plan.jobs.values()):
        raise SystemExit(Exit.INFEASIBLE)


def _with_next_windows(objects: Objects, now: datetime) -> tuple[dict[str, tuple[str, datetime]], Objects]:
    """The objects with the job of each cron's next tick among the jobs; job key -> its cron and tick."""
    ticks: dict[str, tuple[str, datetime]] = {}
    jobs = list(objects.jobs)
    for cron in objects.crons:
        name, tick = cron.metadata.name, next_of(cron, now)
        body = job_body(cron, tick)
        body["metadata"]["creationTimestamp"] = format_time(tick)
        job = GreenJob.model_validate(body)
        ticks[f"{job.metadata.namespace}/{job.metadata.name}"] = (name, tick)
        jobs.append(job)
    return ticks, replace(objects, jobs=tuple(jobs))


def _tick_line(work: Work, ticks: Mapping[str, tuple[str, datetime]], now: datetime) -> list[str]:
    if work.key not in ticks:
        return []
    cron, tick = ticks[work.key]
    return text.lines([f"NEXT    GreenCronJob {cron}: its next window opens {_when(tick, now)}"], indent=8).split("\n")


def make(objects: Objects, now: datetime, source: Source) -> tuple[Fleet, dict[str, Forecast], Plan]:
    """The plan of objects that exist nowhere yet."""
    jobs = [
        j
        if j.metadata.creation_timestamp is not None and j.metadata.creation_timestamp > now
        else j.model_copy(update={"metadata": j.metadata.model_copy(update={"creation_timestamp": now})})
        for j in objects.jobs
    ]
    work = tuple(work_of(Observed(j), now) for j in jobs)
    fleet = Fleet(work, regions_of(objects.regions))
    zones = sorted({r.zone for r in fleet.regions.values()})
    known = forecasts_for(zones, now, source)[0] if zones else {}
    until = needed_until(((w.duration, w.finish_by) for w in work), now)
    known = {z: lengthened(f, until, now) for z, f in known.items()}
    return fleet, known, planning.plan(fleet, known, now)


def _document(
    fleet: Fleet, known: dict[str, Forecast], fleet_plan: Plan, ticks: Mapping[str, tuple[str, datetime]]
) -> dict[str, Any]:
    return {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "PlanList",
        "madeAt": format_time(fleet_plan.planned_at),
        "items": [
            {
                "job": w.key,
                "finishBy": format_time(w.finish_by),
                "durationSeconds": w.duration.total_seconds(),
                "powerWatts": w.power_w,
                "home": w.home,
                **({"cronJob": ticks[w.key][0], "tick": format_time(ticks[w.key][1])} if w.key in ticks else {}),
                **plan_body(fleet_plan.jobs[w.key]),
            }
            for w in fleet.work
        ],
        "certificate": _certificate(fleet_plan),
        "regions": [{"name": r.name, "zone": r.zone, "pue": r.pue} for r in fleet.regions.values()],
        "forecasts": [series_body(f) for f in known.values()],
    }


def _certificate(fleet_plan: Plan) -> dict[str, float] | None:
    c = fleet_plan.certificate
    return {"planGrams": c.plan_g, "boundGrams": c.bound_g, "gap": c.gap} if c is not None else None


def _proof(fleet_plan: Plan) -> list[str]:
    """How good the plan is at worst; where nothing competes each job has its own best, and it goes unsaid."""
    proof = fleet_plan.certificate
    if proof is None or fleet_plan.prices is None or len(fleet_plan.jobs) < 2:
        return []
    gap = 100 * max(0.0, proof.gap)
    least = f"no plan of these jobs has less than {figures.grams(proof.bound_g)} (gap {gap:.2f} %)"
    line = f"PROOF   {len(fleet_plan.jobs)} jobs share the room: {figures.grams(proof.plan_g)} planned, {least}"
    return [text.lines([line], indent=8)]


def card(work: Work, p: JobPlan, fleet: Fleet, known: dict[str, Forecast], now: datetime) -> str:
    """One job on a few lines."""
    head = [f"GreenJob {work.key}  {format_duration(work.duration)}  finish by {_when(work.finish_by, now)}"]
    head += _plan_lines(work, p, now)
    strips = _strip_lines(work, p, fleet, known, now)  # as wide as the terminal
    tail = [*_why_not(p, now), *_data(work, fleet, known)]
    return "\n".join([text.lines(head, indent=8), *strips, *([text.lines(tail, indent=8)] if tail else [])])


def _plan_lines(work: Work, p: JobPlan, now: datetime) -> list[str]:
    out = []
    for i, w in enumerate(p.windows):
        label = "PLAN  " if i == 0 else "      "
        span = f"{figures.day_time(w.start, now)} ({figures.until(w.start, now)}) to {w.end:%H:%MZ}"
        out.append(f"{label}  {span}  {w.region}  {format_duration(w.length)}  {figures.grams(w.emissions_g)}")
    if p.windows:
        slack = work.finish_by - p.windows[-1].end
        spare = f"slack {format_duration(slack)}" if slack >= timedelta(0) else f"LATE by {format_duration(-slack)}"
        power_w = work.power_w if p.level is None else work.levels[p.level].power_w
        kwh = sum(w.length.total_seconds() for w in p.windows) * power_w / 3.6e6
        at_level = f", level {p.level_name}" if p.level_name else ""
        saved = figures.saved(p.saved_g, p.run_now_g)
        out.append(f"        {spare}  latest start {figures.day_time(p.latest_start, now)}{'  edge' if p.edge else ''}")
        out.append(
            f"EXPECT  {kwh:.3g} kWh ({power_w:.0f} W declared{at_level})  {figures.grams(p.emissions_g)}"
            f"  run now at {work.home} {figures.grams(p.run_now_g)}  saves {saved}"
        )
    out.append(f"WHY     {p.reason}: {p.explanation}")
    return out


def _strip_lines(work: Work, p: JobPlan, fleet: Fleet, known: dict[str, Forecast], now: datetime) -> list[str]:
    """A strip for each region, and under it where the work runs."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    hours = min(72, max(1, round((work.finish_by - hour) / timedelta(hours=1) + 0.5)))
    named = [(n, known.get(fleet.regions[n].zone)) for n in work.regions if n in fleet.regions]
    room = text.width()
    label = min(24 if room is None else room // 4, max((text.cells(n) for n, _ in named), default=0))
    step = text.step_hours(hours, None if room is None else max(3, room - 10 - label))
    rows = {n: text.hourly(f.series, hour, hours, step) for n, f in named if f is not None and f.series is not None}
    everything = [v for vs in rows.values() for v in vs]
    if not everything:
        return []
    low, high = min(everything), max(everything)
    out = text.lines([f"HOURS   from {hour:%H:%MZ}, one cell = {step} h, {low:.0f}-{high:.0f} g/kWh"], indent=8).split(
        "\n"
    )
    for name, values in rows.items():
        out.append(f"        {name[:label]:{label}}  {text.strip(values, low, high)}")
        out.append(f"        {'':{label}}  {gantt(p, name, hour, hours, step)}".rstrip())
    return [line for line in out if line.strip()]


def gantt(p: JobPlan, region: str, hour: datetime, hours: int, step: int = 1) -> str:
    """Where the plan runs in `region`, one cell for each `step` hours."""
    mark = "━" if text.unicode_wanted() else "="
    cells = []
    for h in range(0, hours, step):
        a, b = hour + timedelta(hours=h), hour + timedelta(hours=h + step)
        runs = any(w.region == region and w.start < b and w.end > a for w in p.windows)
        cells.append(mark if runs else " ")
    return "".join(cells)


def _why_not(p: JobPlan, now: datetime) -> list[str]:
    """What else was weighed: the best of each place and day; minutes apart is no alternative."""
    out = []
    seen = {(w.region, p.level_name, f"{w.start:%Y-%m-%d}") for w in p.windows[:1]}
    for a in p.alternatives:
        if a.excluded_by:
            out.append(f"{a.region}: {a.excluded_by}")
        elif a.emissions_g is not None and p.emissions_g is not None and a.windows:
            day = (a.region, a.level_name, f"{a.windows[0].start:%Y-%m-%d}")
            if day in seen:
                continue
            seen.add(day)
            room = a.capacity_g - p.capacity_g
            worth = f", and {figures.signed_grams(room)} that its room is worth to others" if abs(room) >= 0.5 else ""
            more = figures.signed_grams(a.emissions_g - p.emissions_g)
            out.append(f"{a.place} {figures.day_time(a.windows[0].start, now)}: {more}{worth}")
    return [f"{'WHY NOT' if i == 0 else '       '} {line}" for i, line in enumerate(out[:6])]


def _data(work: Work, fleet: Fleet, known: dict[str, Forecast]) -> list[str]:
    out = []
    for zone in sorted({fleet.regions[r].zone for r in work.regions if r in fleet.regions}):
        f = known.get(zone)
        if f is None or f.series is None:
            out.append(f"{zone}: no forecast" + (f": {f.detail}" if f is not None and f.detail else ""))
            continue
        mark = "  DEMO TRACE, not for reporting" if f.series.demo else ""
        out.append(
            f"{f.series.source} {zone} {f.series.kind}, issued {f.series.issued_at:%m-%d %H:%MZ}, {f.freshness}{mark}"
        )
        out += [f.holes] if f.holes else []
    return [f"{'DATA' if i == 0 else '    '}    {line}" for i, line in enumerate(out)]


def _when(moment: datetime, now: datetime) -> str:
    return f"{figures.day_time(moment, now)} ({figures.until(moment, now)})"
