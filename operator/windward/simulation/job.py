"""A simulated GreenJob: its true duration, how far its work is, and its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from windward.domain.observed import Observed
from windward.domain.run import Phase, Run
from windward.lifecycle.work import power_w, speed_of
from windward_api.contract import EnergyComponent, EnergySeries, Method, Outcome, Progress, Report
from windward_api.greenjob import GreenJob, InterruptionPolicy
from windward_api.greenjob_status import GreenJobStatus

HOUR_S = 3600.0
_OUTCOMES = {Phase.SUCCEEDED: Outcome.SUCCEEDED, Phase.PAUSED: Outcome.PAUSED}


@dataclass(slots=True)
class SimulatedJob:
    """A job with what only the simulation knows of it.

    Attributes:
        takes_s: true duration as declared, without interruption; `done_s` of it are done.
        worked_s: how long the live run has run; `resume_s` of its resume time are still to pass.
        speed: work per time of the live run, at its power level.
    """

    job: GreenJob
    takes_s: float
    demand: Mapping[str, float]
    done_s: float = 0.0
    runs: tuple[Run, ...] = ()
    worked_s: float = 0.0
    resume_s: float = 0.0
    speed: float = 1.0
    finished_at: datetime | None = None
    first_start: datetime | None = None
    _observed: Observed | None = None  # built again when something changed

    @property
    def live(self) -> Run | None:
        """The live run: only the last one may be, as none is created beside it."""
        return self.runs[-1] if self.runs and self.runs[-1].phase.live else None

    @property
    def live_run(self) -> Run:
        """The live run of a job that has one."""
        run = self.live
        assert run is not None, f"{self.job.metadata.name} has no live run"
        return run

    @property
    def can_pause(self) -> bool:
        """Whether its work goes on from a checkpoint."""
        return self.job.spec.interruption.policy is InterruptionPolicy.CHECKPOINT

    def observed(self) -> Observed:
        """Returns the job with its runs: the same object until something changes."""
        if self._observed is None:
            self._observed = Observed(self.job, self.runs)
        return self._observed

    def is_unchanged_since(self, observed: Observed) -> bool:
        """Returns whether nothing was written since it was observed so."""
        known = self._observed
        return known is not None and known.job is observed.job and known.runs is observed.runs

    def write_status(self, status: GreenJobStatus) -> None:
        """Replace the status."""
        self.job = self.job.model_copy(update={"status": status})
        self._observed = None

    def add_run(self, name: str, attempt: int, region: str, level: str) -> None:
        """Add a run that waits for room."""
        assert self.live is None, f"S1: {name} was created beside a live run"
        self.runs += (Run(name, attempt, region, Phase.STARTING, pod_uid=f"pod-{name}", level=level),)
        self.speed = speed_of(self.job.spec, level)
        self._observed = None

    def begin(self, at: datetime) -> None:
        """The live run has got its room and runs."""
        self.worked_s = 0.0
        self.resume_s = self.job.overhead().total_seconds() if self.done_s > 0 else 0.0
        self.first_start = self.first_start or at
        self._replace_live(replace(self.live_run, phase=Phase.RUNNING, started_at=at))

    def work(self, span_s: float) -> None:
        """Let the live run work for `span_s`, of which what is left of its resume time yields nothing."""
        resume_s = min(span_s, self.resume_s)
        self.resume_s -= resume_s
        self.worked_s += span_s
        self.done_s = min(self.takes_s, self.done_s + self.speed * (span_s - resume_s))

    def done_at(self, now: datetime) -> datetime:
        """Returns when the live run has done all the work, if nothing stops it."""
        return now + timedelta(seconds=self.resume_s + max(0.0, self.takes_s - self.done_s) / self.speed)

    def end(self, phase: Phase, exit_code: int, at: datetime, *, pause_requested: bool = False) -> None:
        """The live run ends with a report: it is done, or pauses with a checkpoint of all its work."""
        fraction = min(1.0, self.done_s / self.takes_s)
        report = Report.model_construct(
            outcome=_OUTCOMES[phase],
            progress=Progress.model_construct(fraction=fraction, units_done=0, unit="unit", metrics={}),
            energy=self._metered(),
            run_units=0,
            message="",
        )
        if phase is Phase.SUCCEEDED:
            self.finished_at = at
        self._end_live(
            phase=phase, exit_code=exit_code, finished_at=at, report=report, progress=fraction,
            pause_requested=pause_requested,
        )  # fmt: skip

    def leave_queue(self, at: datetime) -> None:
        """The live run, which was waiting for room, pauses without having begun."""
        self._end_live(phase=Phase.PAUSED, exit_code=75, finished_at=at, pause_requested=True)

    def lose(self, at: datetime) -> None:
        """The live run is gone without a report, and with it all its work: a checkpoint of its own start remains."""
        self.done_s = max(0.0, self.done_s - self.speed * max(0.0, self.worked_s - self.resume_s))
        self._end_live(phase=Phase.LOST, finished_at=at, progress=None, report=None)

    def _metered(self) -> EnergySeries | None:
        """Declared watts over the time that the live run really ran, in steps of at most an hour, as by a meter."""
        run = self.live_run
        if self.worked_s <= 0 or run.started_at is None:
            return None
        steps = max(1, -int(-self.worked_s // HOUR_S))
        joules = (power_w(self.job.spec, run.level) * self.worked_s / steps,) * steps
        gpu = EnergyComponent.model_construct(name="gpu", method=Method.MODELLED, source="simulated", joules=joules)
        return EnergySeries.model_construct(start=run.started_at, step_s=self.worked_s / steps, components=(gpu,))

    def _end_live(self, **changes: object) -> None:
        self._replace_live(replace(self.live_run, **changes))  # type: ignore[arg-type]

    def _replace_live(self, run: Run) -> None:
        self.runs = (*self.runs[:-1], run)
        self._observed = None
