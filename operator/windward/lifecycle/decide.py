"""`decide`: the one state machine. From what is and what is planned to what is to be done; never raises, does no IO.

Level-triggered: it looks at the present only, so that whatever was missed while nobody looked does not matter.
Weighed in this order: an end that was reached; a failure too many; the user's word; the plan.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from windward.domain.observed import Action, CreateRun, DeleteJob, Finish, Observed, PauseRun
from windward.domain.plan import JobPlan
from windward.domain.run import Phase, Run
from windward_api.greenjob import InterruptionPolicy

RETRY_FIRST = timedelta(seconds=10)
RETRY_MOST = timedelta(minutes=5)


def decide(observed: Observed, plan: JobPlan | None, now: datetime) -> list[Action]:
    """Actions that bring the job from where it is to where it should be.

    Args:
        observed: the job and its runs.
        plan: its plan, or None while there is none (the job is refused, or has ended).
        now: the time.

    Returns:
        Actions in the order in which they are to be performed; performing one twice does nothing more.
    """
    spec = observed.job.spec
    if observed.job.metadata.deletion_timestamp is not None:
        return []  # the garbage collector takes the children; starting anything now would outlive the job
    if observed.ended:
        return [*_stop(observed.live, "Complete", "the job has ended"), *_expire(observed, now)]
    if any(r.phase is Phase.SUCCEEDED for r in observed.runs):
        return [*_stop(observed.live, "Complete", "another run finished the work"), Finish(True, "Succeeded", "")]
    failed = [r for r in observed.runs if r.phase is Phase.FAILED]
    if len(failed) > spec.backoff_limit:
        last = failed[-1]
        said = f"run {last.attempt} ended with exit code {last.exit_code}" + (
            f": {last.message}" if last.message else ""
        )
        why = f"{len(failed)} failed runs, backoffLimit {spec.backoff_limit}; {said}"
        return [*_stop(observed.live, "Failed", why), Finish(False, "BackoffLimitExceeded", why)]
    if spec.suspend:
        return _stop(observed.live, "PausedByUser", "spec.suspend is true")
    if plan is None:
        return []
    return _follow(observed, plan, now) if observed.live else _begin(observed, failed, plan, now)


def _follow(observed: Observed, plan: JobPlan, now: datetime) -> list[Action]:
    """Something runs: let it run, or pause it where the plan has it pause or move."""
    *older, run = observed.live
    actions = _stop(tuple(older), "Superseded", "a newer run of this job is going on")
    if observed.job.spec.interruption.policy is not InterruptionPolicy.CHECKPOINT or not plan.windows:
        return actions
    window = plan.window_at(now)
    if window is None and plan.next_start(now) is not None:
        actions += _stop((run,), "PausedCarbonPeak", "cleaner hours follow")
    elif window is not None and window.region != run.region:
        actions += _stop((run,), "PausedCarbonPeak", f"moves to {window.region}")
    return actions


def _begin(observed: Observed, failed: list[Run], plan: JobPlan, now: datetime) -> list[Action]:
    """Nothing runs: start what the plan has running now, a while after a failure."""
    window = plan.window_at(now)
    if window is None or now < retry_at(failed, now):
        return []
    return [CreateRun(observed.next_attempt, window.region, plan.reason)]


def retry_at(failed: list[Run], now: datetime) -> datetime:
    """When the next try may start after the failed runs: 10 s after the first, doubling up to 5 minutes."""
    ended = max((r.finished_at for r in failed if r.finished_at is not None), default=None)
    if ended is None:
        return now
    doublings = min(len(failed) - 1, 8)
    return ended + min(RETRY_FIRST * (1 << doublings), RETRY_MOST)


def _stop(runs: tuple[Run, ...], reason: str, why: str) -> list[Action]:
    """Pause those of `runs` that were not told to stop already."""
    return [PauseRun(r.name, reason, why) for r in runs if r.phase is not Phase.STOPPING]


def _expire(observed: Observed, now: datetime) -> list[Action]:
    ttl, ended_at = observed.job.spec.ttl_seconds_after_finished, observed.job.status.finished_at
    if ttl is None or ended_at is None or now < ended_at + timedelta(seconds=ttl):
        return []
    return [DeleteJob(f"ttlSecondsAfterFinished {ttl} is over")]
