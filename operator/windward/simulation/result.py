"""What a simulation found, per policy: what each job emitted, against what is the same for all policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from windward.lifecycle.receipt import SIMULATED_MARK


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """One job under one policy.

    Attributes:
        wait_h: from submission to its end, less its true duration.
        energy_j, emissions_g: of all its runs, waste included, also where it failed or is unfinished; emissions are
            None where the hours of a run are not known.
        run_now_g: its baseline, declared watts over its true duration from submission at home: the same for all
            policies; None where those hours are not known.
        weighed: whether it is in the sums of grams: both are known under every policy.
    """

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
    weighed: bool = True

    @property
    def late_s(self) -> float:
        return max(0.0, (self.finished - self.finish_by).total_seconds()) if self.finished is not None else 0.0

    @property
    def saved_g(self) -> float:
        """Baseline less emissions; a job that did not finish saved nothing, and what it emitted is lost."""
        return (self.run_now_g or 0.0) * (self.finished is not None) - (self.emissions_g or 0.0)


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """The outcome of the simulated time under one policy, before it is compared with other policies.

    Attributes:
        jobs: one for each arrival, in their order.
        end: when the simulated time ended.
        moves: planned starts that were put elsewhere before they came.
    """

    policy: str
    what: str
    jobs: tuple[JobOutcome, ...]
    end: datetime
    moves: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All jobs under one policy.

    Attributes:
        unweighed: jobs whose hours, or whose baseline's, are not known under one policy or another: they are in no sum
            of grams of any policy.
        missed: finished after its finish-by, or not finished and past it.
        emissions_g: of all other jobs, those that failed or are unfinished too.
        run_now_g: their baselines: the same for all policies.
        undone_run_now_g, undone_g: the part of the two that belongs to jobs which this policy did not finish.
        saved_g: baselines of the jobs that finished, less all emissions: who does not finish saves nothing.
        moves: plan changes a job: how often a planned start was put elsewhere before it came.
    """

    policy: str
    what: str
    arrived: int
    finished: int
    failed: int
    unfinished: int
    unweighed: int
    missed: int
    latest_h: float
    emissions_g: float
    run_now_g: float
    undone_run_now_g: float
    undone_g: float
    saved_g: float
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
        return self.saved_g / self.run_now_g if self.run_now_g else 0.0

    def share_of_bound(self, bound_g: float) -> float | None:
        """Returns per cent of the saving that no plan can exceed, 0 where nothing is saved; None where nothing can be.

        Args:
            bound_g: the least that any plan could emit (`Result.bound_g`).
        """
        possible_g = self.run_now_g - bound_g
        return max(0.0, 100 * self.saved_g / possible_g) if possible_g > 1e-9 * self.run_now_g else None

    @property
    def conserved(self) -> bool:
        """Whether each job that arrived is somewhere."""
        return self.arrived == self.finished + self.failed + self.unfinished


@dataclass(frozen=True, slots=True)
class Result:
    """A whole simulation.

    Attributes:
        bound_g: no plan that finishes the jobs can emit less: each in its best hours up to its finish-by or to the end
            that it came to under any policy, at its best levels, capacity ignored, the coming hours known; and at most
            its baseline. Over the jobs that are in the sums.
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
            "simulated": SIMULATED_MARK,
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
        "unweighed": o.unweighed,
        "missed": o.missed,
        "latestHours": o.latest_h,
        "emissionsGrams": o.emissions_g,
        "runNowGrams": o.run_now_g,
        "notFinishedEmissionsGrams": o.undone_g,
        "notFinishedRunNowGrams": o.undone_run_now_g,
        "savedGrams": o.saved_g,
        "savedPercent": 100 * o.saved_share,
        "ofBoundPercent": o.share_of_bound(bound_g),
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


def weighed_under_all(policy_runs: Sequence[PolicyRun]) -> tuple[bool, ...]:
    """Returns for each arrival whether its grams are known under each policy, so that all are summed over the same."""
    return tuple(all(j.emissions_g is not None and j.run_now_g is not None for j in same) for same in
                 zip(*(p.jobs for p in policy_runs), strict=True))  # fmt: skip


def outcome_of(policy_run: PolicyRun, weighed: Sequence[bool]) -> Outcome:
    """Counts and adds up.

    Args:
        weighed: for each job whether it is in the sums of grams.
    """
    jobs = tuple(replace(j, weighed=counts) for j, counts in zip(policy_run.jobs, weighed, strict=True))
    known = [j for j in jobs if j.weighed]
    undone = [j for j in known if j.finished is None]
    finished = [j for j in jobs if j.finished is not None]
    waits = np.array([j.wait_h for j in finished] or [0.0])
    return Outcome(
        policy=policy_run.policy,
        what=policy_run.what,
        arrived=len(jobs),
        finished=len(finished),
        failed=sum(j.failed for j in jobs),
        unfinished=sum(j.finished is None and not j.failed for j in jobs),
        unweighed=len(jobs) - len(known),
        missed=sum(j.late_s > 1 or (j.finished is None and policy_run.end > j.finish_by) for j in jobs),
        latest_h=max((j.late_s for j in jobs), default=0.0) / 3600,
        emissions_g=float(sum(j.emissions_g or 0.0 for j in known)),
        run_now_g=float(sum(j.run_now_g or 0.0 for j in known)),
        undone_run_now_g=float(sum(j.run_now_g or 0.0 for j in undone)),
        undone_g=float(sum(j.emissions_g or 0.0 for j in undone)),
        saved_g=float(sum(j.saved_g for j in known)),
        energy_kwh=sum(j.energy_j for j in jobs) / 3.6e6,
        wait_mean_h=float(waits.mean()),
        wait_p95_h=float(np.quantile(waits, 0.95)),
        runs_per_job=float(np.mean([j.runs for j in finished])) if finished else 0.0,
        moves=policy_run.moves / max(1, len(jobs)),
        cycles=policy_run.cycles,
        jobs=jobs,
    )
