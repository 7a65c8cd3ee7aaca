"""Translates a GreenJob and its runs into `Work`: what the planner has to place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from windward.domain.durations import sentence
from windward.domain.fleet import Level, Region, Work
from windward.domain.forecast import Forecast
from windward.domain.observed import Observed
from windward.domain.plan import JobPlan
from windward.domain.run import Phase, Run
from windward_api.contract import EXIT_PAUSED
from windward_api.greenjob import GreenJobSpec, InterruptionPolicy

DEFAULT_POWER_W = 100.0  # a busy server core or two; every figure that rests on it is marked estimated
AVOID_FOR = timedelta(minutes=30)  # a region that had no place for a job is not tried again for so long
HOST_W = 3000.0  # two sockets of 500 W, memory, fans and drives, with room to spare
ACCELERATOR_W = 2000.0  # above the rated power of any single accelerator
MOST_ACCELERATORS = 128  # in one pod
MARGIN = 0.05  # share of the duration kept in reserve before the finish-by time


def work_of(observed: Observed, now: datetime, *, spent_g: float = 0.0) -> Work:
    """Returns the remaining work of a job, for the planner."""
    spec = observed.job.spec
    submitted = observed.job.metadata.creation_timestamp or now
    work = Work(
        key=observed.key,
        earliest=submitted,
        finish_by=observed.finish_by,
        remaining=timedelta(0),
        duration=observed.durations.expected,
        submitted=submitted,
        power_w=power_w(spec),
        regions=_regions(observed, now),
        home=home_of(spec),
        demand=demand_of(spec) if observed.demand is None else observed.demand,
        interruptible=may_pause(observed),
        overhead=observed.job.overhead(),
        started=any(r.started_at is not None for r in observed.runs),
        running_in=running_in(observed),
        levels=levels_of(spec),
        running_level=_running_level(observed),
        pending=pending(observed),
        min_saving=spec.policy.min_saving_percent / 100.0,
        fallback=spec.policy.fallback,
        margin=MARGIN,
        asap=observed.run_now,
        delay_g_per_hour=float(spec.policy.delay_grams_per_hour),
        priority=spec.priority,
    )
    return progressed(work, observed, now, spent_g)


def progressed(work: Work, observed: Observed, now: datetime, spent_g: float) -> Work:
    """Returns the work with what changes while the same runs go on: what is left, and how long all of it takes."""
    durations, ran = observed.durations, ran_of(observed, now)
    expected = durations.after(ran)
    return replace(
        work,
        remaining=remaining_of(observed, now),
        duration=expected,
        duration_p90=None if durations.p90 is None else max(durations.p90, expected),
        duration_known=durations.is_known,
        duration_note=sentence(durations, ran),
        spent_g=spent_g,
    )


def may_pause(observed: Observed) -> bool:
    """Returns whether a plan may pause the job: its policy is Checkpoint, and no run that was asked to pause
    ended with another exit code. A job that writes no checkpoint would begin anew after each pause."""
    if observed.job.spec.interruption.policy is not InterruptionPolicy.CHECKPOINT:
        return False
    exit_codes = [r.exit_code for r in observed.runs if r.pause_requested and r.phase is Phase.PAUSED]
    return all(code is None or code < 0 or code == EXIT_PAUSED for code in exit_codes)


def avoided(observed: Observed, now: datetime) -> set[str]:
    """Returns the regions that recently had no room for a job: its newest run there was stopped before it started."""
    newest = {r.region: r for r in observed.runs}
    return {
        name
        for name, r in newest.items()
        if r.phase is Phase.PAUSED and r.pause_requested and r.started_at is None and r.finished_at is not None
        and now < r.finished_at + AVOID_FOR
    }  # fmt: skip


def _regions(observed: Observed, now: datetime) -> tuple[str, ...]:
    """Where it may run now: where it is allowed, but for what lately had no place, while anything else is left."""
    allowed, lately = observed.job.spec.placement.regions, avoided(observed, now)
    left = tuple(r for r in allowed if r not in lately or r == running_in(observed))
    return left or allowed


def remaining_of(observed: Observed, now: datetime) -> timedelta:
    """Returns the running time still needed. Of a run that runs over it is what it is expected to take by now."""
    durations, ran = observed.durations, ran_of(observed, now)
    expected = durations.after(ran)
    over = expected > durations.expected
    left = expected - ran if over else durations.expected * (1.0 - progress_of(observed, now))
    return max(left, timedelta(seconds=1))


def ran_of(observed: Observed, now: datetime) -> timedelta:
    """Returns how long the work that is done took, as running time of the whole job. Work of which the newest run
    reports the progress never runs over."""
    done = _done_share(observed, now)
    reports = bool(observed.runs) and observed.runs[-1].done_share is not None
    return observed.durations.expected * (min(done, 0.99) if reports else done)


def running_in(observed: Observed) -> str | None:
    """Returns the region of the newest run that is starting or running; None if there is none."""
    run = _going_on(observed)
    return run.region if run is not None else None


def _going_on(observed: Observed) -> Run | None:
    return next((r for r in reversed(observed.runs) if r.phase in (Phase.STARTING, Phase.RUNNING)), None)


def levels_of(spec: GreenJobSpec) -> tuple[Level, ...]:
    """Returns the power levels of a job, with speeds relative to the declared duration."""
    levels = spec.power.levels if spec.power is not None else ()
    return tuple(Level(speed_of(spec, v.name), float(v.watts), name=v.name) for v in levels)


def _running_level(observed: Observed) -> int | None:
    """Index of the level at which the newest run goes on; None: as declared, or at one that was taken out since."""
    run, spec = _going_on(observed), observed.job.spec
    names = [v.name for v in spec.power.levels] if spec.power is not None else []
    return names.index(run.level) if run is not None and run.level in names else None


def pending(observed: Observed) -> bool:
    """Returns whether the newest run has not started yet: its pod is being scheduled, or has no room."""
    return bool(observed.live) and observed.live[-1].phase is Phase.STARTING


def home_of(spec: GreenJobSpec) -> str:
    """Returns the home region, in which the baseline runs: the one that is named, else the first allowed one."""
    return spec.placement.home or spec.placement.regions[0]


def power_w(spec: GreenJobSpec, level: str = "") -> float:
    """Returns the declared power of one run at a level in W, or the default."""
    if spec.power is None:
        return DEFAULT_POWER_W
    at = spec.power.level(level)
    return float(spec.power.watts if at is None else at.watts)


def speed_of(spec: GreenJobSpec, level: str) -> float:
    """Returns the speed at a level, relative to running as declared; work with levels declares its duration."""
    at = spec.power.level(level) if spec.power is not None else None
    return 1.0 if at is None or spec.duration is None else spec.duration / at.duration


def demand_of(spec: GreenJobSpec) -> Mapping[str, float]:
    """Returns what one run holds of a region: one pod, and what the scheduler reserves for it."""
    return spec.work_kind.demand(spec.work)


def most_power_w(spec: GreenJobSpec, demand: Mapping[str, float] | None = None) -> float:
    """Returns a draw in W that one run of this work cannot exceed: ten times what is declared, or a host and all its
    accelerators at the highest rated power on sale, whichever is more.

    Args:
        demand: what one run holds of a region; None: what the spec asks.
    """
    levels = spec.power.levels if spec.power is not None else ()
    declared = max([power_w(spec), *(float(v.watts) for v in levels)])
    held = demand_of(spec) if demand is None else demand
    accelerators = sum(units for name, units in held.items() if "/" in name)
    return max(10.0 * declared, HOST_W + ACCELERATOR_W * min(accelerators, MOST_ACCELERATORS))


def progress_of(observed: Observed, now: datetime) -> float:
    """Returns the share of the whole job that is done and kept, or in progress: 0 to 1.

    Uses the progress that runs report. Of a run without a report its running time counts: while it is live, and after
    its end only if it paused by the contract. What a failed or lost run did since its last report is lost.
    """
    finished = any(r.phase is Phase.SUCCEEDED for r in observed.runs)
    return 1.0 if finished else min(_done_share(observed, now), 0.99)


def _done_share(observed: Observed, now: datetime) -> float:
    done = 0.0
    for run in observed.runs:
        reported = run.done_share
        if reported is not None:
            # A failed run may say little because it never got as far as its checkpoint.
            done = max(done, reported) if run.phase is Phase.FAILED else reported
        elif run.phase.live or (run.phase is Phase.PAUSED and run.exit_code == EXIT_PAUSED):
            done += _share_by_time(observed, run, now)
    return done


def _share_by_time(observed: Observed, run: Run, now: datetime) -> float:
    resumed = run.attempt > 1 and any(r.attempt < run.attempt and r.started_at for r in observed.runs)
    useful = run.ran_for(now) - (observed.job.overhead() if resumed else timedelta(0))
    return max(0.0, useful / observed.durations.expected * speed_of(observed.job.spec, run.level))


def expected_intensity_g_per_kwh(
    region: Region | None, forecast: Forecast | None, plan: JobPlan | None, now: datetime
) -> float | None:
    """Returns the mean intensity at the meter, in g/kWh, over the window that begins; None where the forecast does not
    cover it."""
    window = plan.window_at(now) if plan is not None else None
    if region is None or forecast is None or forecast.series is None or window is None:
        return None
    if not forecast.series.covers(now, window.end):
        return None
    return region.effective(forecast.series).mean(now, window.end) * region.pue
