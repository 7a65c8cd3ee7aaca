"""What arrives: GreenJobs with their submission times, from a trace of a real cluster or a user's own manifests."""

from __future__ import annotations

import csv
import gzip
import io
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.domain.durations import stated
from windward.lifecycle.cron import job_body
from windward_api.greencronjob import GreenCronJob
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.scalars import format_time

UNIT = "nvidia.com/gpu"
LONGEST = timedelta(hours=72)
WATTS_PER_UNIT = 300.0
SHORT, SHORT_SLACK, SLACK = timedelta(hours=2), timedelta(hours=6), timedelta(hours=24)
MOVABLE = 0.7  # share of jobs that may leave home; of 3 drawn regions at most (planning study, see docs/planning.md)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One job that will be submitted at `at`; `at` is its creation time already."""

    at: datetime
    job: GreenJob


@dataclass(frozen=True, slots=True)
class TraceJob:
    """A row of a jobs trace."""

    submit_s: float
    duration_s: float
    units: int


def read_trace(path: Path, longest: timedelta = LONGEST) -> list[TraceJob]:
    """Rows of a CSV or CSV.gz with `submit_s`, `duration_s` and `gpus` (or `cpus` where no row has a GPU).

    Raises:
        ValueError: a column is missing, or no row can be used.
    """
    data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    missing = {"submit_s", "duration_s"} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}; a jobs trace needs submit_s and duration_s")
    units = "gpus" if any(float(r.get("gpus") or 0) > 0 for r in rows) else "cpus"
    jobs = [
        TraceJob(float(r["submit_s"]), float(r["duration_s"]), max(1, math.ceil(float(r.get(units) or 1))))
        for r in rows
        if 60 <= float(r["duration_s"]) <= longest.total_seconds()
    ]
    if not jobs:
        raise ValueError(f"{path}: no job between a minute and {longest} long")
    return jobs


def from_trace(
    path: Path,
    regions: Sequence[GreenRegion],
    start: datetime,
    span: timedelta,
    count: int,
    dice: random.Random,
    *,
    pausable: float = 0.0,
) -> list[Arrival]:
    """`count` jobs drawn from a trace, their submissions stretched over `span`.

    Duration and units are the trace's; home, permissions and slack are drawn, since no trace has them: home uniform,
    70 % may run in up to three drawn regions, slack 6 h for jobs under 2 h and 24 h for longer ones.

    Args:
        pausable: share of jobs that may be paused (overhead 3 min).
    """
    rows = sorted(dice.choices(read_trace(path), k=count), key=lambda j: j.submit_s)
    return _arrivals(rows, regions, start, span, dice, pausable)


def drawn(
    regions: Sequence[GreenRegion],
    start: datetime,
    span: timedelta,
    count: int,
    dice: random.Random,
    *,
    pausable: float = 0.0,
) -> list[Arrival]:
    """A fleet that is nobody's: submissions uniform, durations log-normal (median 2 h, 10 min to 24 h), 1 to 8 units.

    For a first look where no jobs trace is at hand; a real trace says more.
    """
    rows = []
    for _ in range(count):
        duration_s = min(86_400.0, max(600.0, 7200.0 * math.exp(dice.gauss(0.0, 1.0))))
        rows.append(TraceJob(dice.random(), duration_s, dice.choices((1, 2, 4, 8), (55, 20, 15, 10))[0]))
    rows.sort(key=lambda j: j.submit_s)
    return _arrivals(rows, regions, start, span, dice, pausable)


def _arrivals(
    rows: Sequence[TraceJob],
    regions: Sequence[GreenRegion],
    start: datetime,
    span: timedelta,
    dice: random.Random,
    pausable: float,
) -> list[Arrival]:
    first, last = rows[0].submit_s, max(rows[-1].submit_s, rows[0].submit_s + 1e-6)
    names = [r.metadata.name for r in regions]
    out = []
    for i, row in enumerate(rows):
        at = start + span * ((row.submit_s - first) / (last - first) * 0.999)
        at = at.replace(microsecond=0)
        home = dice.choice(names)
        allowed = [home, *dice.sample([n for n in names if n != home], min(2, len(names) - 1))]
        movable = dice.random() < MOVABLE
        length = timedelta(seconds=round(row.duration_s))
        slack = SHORT_SLACK if length < SHORT else SLACK
        spec: dict[str, Any] = {
            "completeWithin": _span(length * 1.06 + slack),  # the planner keeps 5 % of the duration in reserve
            "duration": _span(length),
            "placement": {"regions": allowed if movable else [home], "home": home},
            "power": {"watts": max(1, round(WATTS_PER_UNIT * row.units))},
            "ttlSecondsAfterFinished": 7200,
            "template": _template(row.units),
        }
        if dice.random() < pausable:
            spec["interruption"] = {"policy": "Checkpoint", "overhead": "3m"}
        out.append(Arrival(at, _job(f"job-{i:06d}", spec, at)))
    return out


def repeated(jobs: Iterable[GreenJob], start: datetime, end: datetime, every: timedelta) -> Iterator[Arrival]:
    """A user's own jobs, submitted again and again: each submission is one more answer to "what if it began then"."""
    templates = list(jobs)
    moment, n = start, 0
    while moment < end:
        for job in templates:
            spec = job.spec.model_copy(update={"ttl_seconds_after_finished": 7200, "suspend": False})
            if spec.deadline is not None:
                raise ValueError(
                    f"{job.metadata.name}: spec.deadline: is one point in time and cannot be tried over a year: "
                    "state spec.completeWithin instead"
                )
            name = f"{job.metadata.name[:40]}-{n:05d}"
            meta = job.metadata.model_copy(
                update={"name": name, "uid": _uid(n, name), "creation_timestamp": moment, "generation": 1}
            )
            yield Arrival(moment, job.model_copy(update={"metadata": meta, "spec": spec}))
        moment, n = moment + every, n + 1


def ticked(cron: GreenCronJob, ticks: Iterable[datetime]) -> Iterator[Arrival]:
    """The jobs of a schedule, each submitted at its tick."""
    for n, tick in enumerate(ticks):
        body = job_body(cron, tick)
        name = f"{cron.metadata.name[:40]}-{n:05d}"
        body["spec"] |= {"ttlSecondsAfterFinished": 7200, "suspend": False}
        body["metadata"] |= {
            "name": name,
            "uid": _uid(n, name),
            "generation": 1,
            "creationTimestamp": format_time(tick),
        }
        yield Arrival(tick, GreenJob.model_validate(body))


def regions_for(zones: Sequence[str], arrivals: Sequence[Arrival] = (), util: float | None = None) -> list[GreenRegion]:
    """One region a zone, named as the zone in lower case; PUE 1.

    Args:
        util: mean load of all arrivals at their home over the capacity; None: no bound.
    """
    names = {z: z.lower() for z in zones}
    counts: dict[str, int] = {}
    if util is not None:
        span_h = (max(a.at for a in arrivals) - min(a.at for a in arrivals)) / timedelta(hours=1)
        hours = dict.fromkeys(names.values(), 0.0)
        for a in arrivals:
            hours[a.job.spec.placement.home or ""] += units_of(a.job) * (stated(a.job).expected / timedelta(hours=1))
        biggest = max(units_of(a.job) for a in arrivals)
        counts = {n: max(math.ceil(biggest), math.ceil(h / max(span_h, 1.0) / util)) for n, h in hours.items()}
    return [
        GreenRegion.model_validate(
            {
                "apiVersion": "windward.dev/v1alpha1",
                "kind": "GreenRegion",
                "metadata": {"name": names[z], "uid": f"region-{names[z]}"},
                "spec": {
                    "gridZone": z,
                    "capacity": [{"resource": UNIT, "count": counts[names[z]]}] if counts else [],
                },
            }
        )
        for z in zones
    ]


def units_of(job: GreenJob) -> float:
    """Units of the simulated accelerator that the job holds."""
    from windward.lifecycle.work import demand_of

    return demand_of(job.spec).get(UNIT, 1.0)


def _template(units: int) -> dict[str, Any]:
    resources = {"requests": {UNIT: str(units)}, "limits": {UNIT: str(units)}}
    return {"spec": {"containers": [{"name": "main", "image": "simulated", "resources": resources}]}}


def _job(name: str, spec: dict[str, Any], at: datetime) -> GreenJob:
    return GreenJob.model_validate(
        {
            "apiVersion": "windward.dev/v1alpha1",
            "kind": "GreenJob",
            "metadata": {
                "name": name,
                "namespace": "simulated",
                "uid": _uid(int(name.rsplit("-", 1)[-1]), name),
                "generation": 1,
                "creationTimestamp": format_time(at),
            },
            "spec": spec,
        }
    )


def _uid(number: int, name: str) -> str:
    """Unique and the same in each run of the same simulation; the first eight digits tell children apart."""
    from zlib import crc32

    return f"{number:08x}-0000-4000-8000-{crc32(name.encode()):012x}"


def _span(span: timedelta) -> str:
    return f"{math.ceil(span.total_seconds())}s"
