"""What a simulation found, per policy: from the receipts in its book, which anybody can add up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from windward.domain.series import Series
from windward.planning.proof import least_of
from windward.simulation.arrivals import Arrival
from windward.simulation.cluster import SimulatedCluster, _Job
from windward_api.greenjob import InterruptionPolicy


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """One job, as its receipt and the world tell it."""

    name: str
    submitted: datetime
    finish_by: datetime
    finished: datetime | None
    failed: bool
    wait_h: float
    runs: int
    energy_j: float
    emissions_g: float | None
    run_now_g: float | None

    @property
    def late_s(self) -> float:
        return max(0.0, (self.finished - self.finish_by).total_seconds()) if self.finished is not None else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """All jobs under one policy.

    Attributes:
        emissions_g, run_now_g: sums over the jobs for which both are known; run-now grams are each job's at
            submission, at home, unbroken, capacity ignored.
        moves: plan changes a job: how often a planned start was put elsewhere before it came.
        missed: finished after its finish-by, or not finished and past it.
    """

    policy: str
    what: str
    arrived: int
    finished: int
    failed: int
    unfinished: int
    unaccounted: int
    missed: int
    latest_h: float
    emissions_g: float
    run_now_g: float
    energy_kwh: float
    wait_mean_h: float
    wait_p95_h: float
    runs_per_job: float
    moves: float
    cycles: int
    jobs: tuple[JobOutcome, ...] = field(repr=False, default=())

    @property
    def saved_share(self) -> float:
        """Saving against run-now; may be negative."""
        return 1.0 - self.emissions_g / self.run_now_g if self.run_now_g else 0.0

    @property
    def conserved(self) -> bool:
        """Whether each job that arrived is somewhere."""
        return self.arrived == self.finished + self.failed + self.unfinished


@dataclass(frozen=True, slots=True)
class Result:
    """A whole simulation.

    Attributes:
        bound_g: no plan can emit less: each job in its best hours of all that it may use, capacity ignored, the coming
            hours known; over the same jobs as the first policy's sums.
    """

    title: str
    start: datetime
    end: datetime
    zones: tuple[str, ...]
    foresight: str
    faults: Mapping[str, float]
    source: str
    demo: bool
    bound_g: float
    outcomes: tuple[Outcome, ...]

    def document(self, *, jobs: bool = False) -> dict[str, Any]:
        """As JSON."""
        return {
            "apiVersion": "cli.windward.dev/v1",
            "kind": "Simulation",
            "title": self.title,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "zones": list(self.zones),
            "foresight": self.foresight,
            "faults": dict(self.faults),
            "source": self.source,
            "demo": self.demo,
            "boundGrams": self.bound_g,
            "policies": [_document(o, self.bound_g, jobs) for o in self.outcomes],
        }


def _document(o: Outcome, bound_g: float, jobs: bool) -> dict[str, Any]:
    out: dict[str, Any] = {
        "policy": o.policy,
        "what": o.what,
        "arrived": o.arrived,
        "finished": o.finished,
        "failed": o.failed,
        "unfinished": o.unfinished,
        "unaccounted": o.unaccounted,
        "missed": o.missed,
        "latestHours": o.latest_h,
        "emissionsGrams": o.emissions_g,
        "runNowGrams": o.run_now_g,
        "savedGrams": o.run_now_g - o.emissions_g,
        "savedPercent": 100 * o.saved_share,
        "ofBoundPercent": share_of_bound(o, bound_g),
        "energyKilowattHours": o.energy_kwh,
        "waitMeanHours": o.wait_mean_h,
        "waitP95Hours": o.wait_p95_h,
        "runsPerJob": o.runs_per_job,
        "planChangesPerJob": o.moves,
        "cycles": o.cycles,
    }
    if jobs:
        out["jobs"] = [
            {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(j).items()} for j in o.jobs
        ]
    return out


def share_of_bound(o: Outcome, bound_g: float) -> float | None:
    """Per cent of the saving that no plan can exceed."""
    possible = o.run_now_g - bound_g
    return 100 * (o.run_now_g - o.emissions_g) / possible if possible > 1e-9 else None


def outcome_of(
    policy: str,
    what: str,
    arrivals: Sequence[Arrival],
    cluster: SimulatedCluster,
    receipts: Mapping[str, Mapping[str, Any]],
    end: datetime,
    moves: int,
    cycles: int,
) -> Outcome:
    """Count and add up.

    Args:
        receipts: uid -> the newest receipt of the book.
    """
    world = {**cluster.gone, **{j.job.metadata.uid: j for j in cluster.jobs.values()}}
    jobs = [_job(a, world.get(a.job.metadata.uid), receipts.get(a.job.metadata.uid)) for a in arrivals]
    known = [j for j in jobs if j.emissions_g is not None and j.run_now_g is not None]
    waits = np.array([j.wait_h for j in jobs if j.finished is not None] or [0.0])
    finished = [j for j in jobs if j.finished is not None]
    return Outcome(
        policy=policy,
        what=what,
        arrived=len(arrivals),
        finished=len(finished),
        failed=sum(j.failed for j in jobs),
        unfinished=sum(
            1 for a, j in zip(arrivals, jobs, strict=True)
            if j.finished is None and not j.failed and a.job.metadata.uid in world
        ),
        unaccounted=len(finished) - sum(j.finished is not None for j in known),
        missed=sum(j.late_s > 1 or (j.finished is None and end > j.finish_by) for j in jobs),
        latest_h=max((j.late_s for j in jobs), default=0.0) / 3600,
        emissions_g=float(sum(j.emissions_g or 0.0 for j in known)),
        run_now_g=float(sum(j.run_now_g or 0.0 for j in known)),
        energy_kwh=sum(j.energy_j for j in jobs) / 3.6e6,
        wait_mean_h=float(waits.mean()),
        wait_p95_h=float(np.quantile(waits, 0.95)),
        runs_per_job=float(np.mean([j.runs for j in finished])) if finished else 0.0,
        moves=moves / max(1, len(arrivals)),
        cycles=cycles,
        jobs=tuple(jobs),
    )  # fmt: skip


def _job(arrival: Arrival, mine: _Job | None, receipt: Mapping[str, Any] | None) -> JobOutcome:
    job = arrival.job
    finished = mine.finished_at if mine is not None else None
    failed = mine is not None and any(c.type == "Failed" and c.status == "True" for c in mine.job.status.conditions)
    wait = mine.takes_s if mine is not None else 0.0
    return JobOutcome(
        name=job.metadata.name,
        submitted=arrival.at,
        finish_by=job.finish_by(),
        finished=finished,
        failed=failed,
        wait_h=max(0.0, (finished - arrival.at).total_seconds() - wait) / 3600 if finished is not None else 0.0,
        runs=len(mine.runs) if mine is not None else 0,
        energy_j=float(receipt["energyJoules"]) if receipt else 0.0,
        emissions_g=receipt["emissionsGrams"] if receipt else None,
        run_now_g=receipt["runNowGrams"] if receipt else None,
    )


def least_possible_g(
    arrival: Arrival, takes: timedelta, ways: Sequence[tuple[float, float]], regions: Mapping[str, tuple[Series, float]]
) -> float:
    """A lower bound on one job's grams: its cleanest hours, whole job in one place or, where it may pause, any hours.

    Args:
        takes: its true duration, as declared.
        ways: (watts, speed) as declared and at each power level. Where it may pause, its runs may be at several: none
            does more work in a moment than the fastest, none needs less for it than the thriftiest.
        regions: allowed regions: actual intensities, and PUE.
    """
    job = arrival.job
    a, b = arrival.at.timestamp(), max(job.finish_by(), arrival.at + takes).timestamp()
    if job.spec.interruption.policy is InterruptionPolicy.CHECKPOINT:
        fastest, joules = max(s for _, s in ways), min(w / s for w, s in ways)
        seconds = takes.total_seconds() / fastest
        return joules * fastest / 3.6e6 * _cheapest_seconds(a, b, seconds, list(regions.values()))
    best = np.inf
    for series, pue in regions.values():
        for power_w, speed in ways:
            length = takes.total_seconds() / speed
            starts = np.concatenate([[a, b - length], series.edges, series.edges - length])
            starts = starts[(starts >= a) & (starts <= b - length)]
            if len(starts) == 0:
                continue  # too slow to be in time
            area = series.integral(starts + length) - series.integral(starts)
            best = min(best, float(area.min()) * pue * power_w / 1000.0)
    return best


def _cheapest_seconds(a: float, b: float, length: float, regions: Sequence[tuple[Series, float]]) -> float:
    """Sum of g/kWh x s over the cheapest `length` seconds of [a, b), each second in its cleanest region."""
    edges = np.unique(np.clip(np.concatenate([[a, b], *(s.edges for s, _ in regions)]), a, b))
    middle, spans = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    cost = np.min([_at(s, middle) * pue for s, pue in regions], axis=0)
    return least_of(cost, spans, length)


def _at(series: Series, moments: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    i = np.clip(np.searchsorted(series.edges, moments, side="right") - 1, 0, len(series.intensity_g_per_kwh) - 1)
    return np.asarray(series.intensity_g_per_kwh[i], dtype=np.float64)
