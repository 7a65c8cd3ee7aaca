"""`decide`: the state machine of a GreenJob's runs. Pure: compares observed runs with the plan, returns actions.

Level-triggered: it uses only the present state, so missed events do not matter. Precedence: a run that succeeded; more
failures than allowed; `spec.suspend`; the plan.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import takewhile

from windward.domain.observed import Action, CreateRun, DeleteJob, Finish, Hold, Observed, PauseRun
from windward.domain.plan import JobPlan
from windward.domain.run import Phase, Run
from windward.lifecycle.backoff import backoff
from windward.lifecycle.work import avoided, may_pause
from windward_api.greenjob import InterruptionPolicy

FRUITLESS_IN_A_ROW = 3  # beyond backoffLimit
RETRY_FIRST = timedelta(seconds=10)
RETRY_MOST = timedelta(minutes=5)
SETTLE_PATIENCE = timedelta(days=30)  # then an account stays provisional for ever
PLACE_FOR = timedelta(minutes=2)  # a run that one region has no place for is tried in another after this long


def decide(observed: Observed, plan: JobPlan | None, now: datetime) -> list[Action]:
    """Returns the actions that bring the runs of a job in line with its plan. Never raises.

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
    if (end := end_of(observed)) is not None:
        why = "another run finished the work" if end.succeeded else end.message
        return [*_stop(observed.live, "Complete" if end.succeeded else "Failed", why), end]
    if spec.suspend:
        return [*_stop(observed.live, "PausedByUser", "spec.suspend is true"), *_hold(observed, "it is suspended")]
    if plan is None:
        return []
    return _follow(observed, plan, now) if observed.live else _begin(observed, plan, now)


def end_of(observed: Observed) -> Finish | None:
    """Returns the end that the job's runs have reached, whether or not its status shows it; None while work is left."""
    if any(r.phase is Phase.SUCCEEDED for r in observed.runs):
        return Finish(True, "Succeeded", "")
    why = _given_up(observed)
    return Finish(False, "BackoffLimitExceeded", why) if why is not None else None


def _given_up(observed: Observed) -> str | None:
    """Why the job has failed for good, if it has. Lost or evicted runs count only if many in a row made no progress."""
    limit = observed.job.spec.backoff_limit
    failed = [r for r in observed.runs if _failed(observed, r)]
    if len(failed) > limit:
        last = failed[-1]
        ending = f"run {last.attempt} ended with exit code {last.exit_code}"
        return f"{len(failed)} failed runs, backoffLimit {limit}; {ending}" + (
            f": {last.message}" if last.message else ""
        )
    streak = len(list(takewhile(lambda i: _fruitless(observed.runs, i), reversed(range(len(observed.runs))))))
    if streak > limit + FRUITLESS_IN_A_ROW:
        return f"{streak} runs in a row ended without being told to and without progress: see their logs and nodes"
    return None


def _failed(observed: Observed, run: Run) -> bool:
    """Whether a run counts against backoffLimit; one that pauses by itself counts where the policy forbids pauses."""
    unasked = run.phase is Phase.PAUSED and not run.pause_requested
    return run.phase is Phase.FAILED or (unasked and observed.job.spec.interruption.policy is InterruptionPolicy.NEVER)


def _went_away(run: Run) -> bool:
    """Lost, drained with its node, or paused of its own accord."""
    return run.phase is Phase.LOST or (run.phase is Phase.PAUSED and not run.pause_requested)


def _fruitless(runs: tuple[Run, ...], i: int) -> bool:
    """Whether run `i` was lost or paused by itself without more progress than the run before it reported."""
    progress = [run.done_share for run in runs[max(0, i - 1) : i + 1]]
    before = progress[0] if len(progress) == 2 else None
    return _went_away(runs[i]) and (progress[-1] is None or progress[-1] <= (before or 0.0))


def _follow(observed: Observed, plan: JobPlan, now: datetime) -> list[Action]:
    """A run is live: let it go on, or pause it where the plan has it pause or move."""
    *older, run = observed.live
    actions = _stop(tuple(older), "Superseded", "a newer run of this job is going on")
    if _unplaceable(observed, run, now):
        why = f"{run.region} has no place for it, another region may: {run.trouble.cause if run.trouble else ''}"
        return actions + _stop((run,), "Unplaceable", why)
    if not plan.windows or not may_pause(observed):
        return actions
    if not plan.pause_pays:
        return actions  # whatever the fleet wants: a pause that saves nothing only costs
    window = plan.window_at(now)
    if window is None and plan.next_start(now) is not None:
        actions += _stop((run,), "PausedCarbonPeak", "cleaner hours follow")
    elif window is not None and window.region != run.region:
        actions += _stop((run,), "PausedCarbonPeak", f"moves to {window.region}")
    return actions


def _unplaceable(observed: Observed, run: Run, now: datetime) -> bool:
    """Whether a run that never started waits in a region that has no place for it, while another may have one."""
    trouble = run.trouble
    if run.phase is not Phase.STARTING or trouble is None or not trouble.reason.of_place or trouble.since is None:
        return False
    others = set(observed.job.spec.placement.regions) - {run.region} - avoided(observed, now)
    return bool(others) and now >= trouble.since + PLACE_FOR


def _begin(observed: Observed, plan: JobPlan, now: datetime) -> list[Action]:
    """No run is live: create the run that the plan has now, after the back-off of earlier failures."""
    window = plan.window_at(now)
    if window is None or now < retry_at(observed, now):
        return _hold(observed, plan.explanation)
    return [CreateRun(observed.next_attempt, window.region, plan.reason, plan.level_name)]


def _hold(observed: Observed, why: str) -> list[Action]:
    """Keep out of its queue what would start from there without us."""
    return [Hold(why)] if observed.released else []


def retry_at(observed: Observed, now: datetime) -> datetime:
    """Returns when the next run may start: 10 s after the first failed or lost run, doubling up to 5 minutes."""
    failed = [r for r in observed.runs if r.phase is Phase.FAILED or _went_away(r)]
    ended = max((r.finished_at for r in failed if r.finished_at is not None), default=None)
    if ended is None:
        return now
    return ended + backoff(len(failed), RETRY_FIRST, RETRY_MOST)


def _stop(runs: tuple[Run, ...], reason: str, why: str) -> list[Action]:
    """Pause those of `runs` that are not stopping already."""
    return [PauseRun(r.name, reason, why) for r in runs if r.phase is not Phase.STOPPING]


def expires_at(observed: Observed) -> datetime | None:
    """Returns when an ended job is deleted: after its TTL and, for at most 30 days, once its account is final; None:
    never."""
    ttl, status = observed.job.spec.ttl_seconds_after_finished, observed.job.status
    if ttl is None or status.finished_at is None:
        return None
    over = status.finished_at + timedelta(seconds=ttl)
    open_account = bool(status.accounting.energy_joules) and not status.accounting.settled
    return max(over, status.finished_at + SETTLE_PATIENCE) if open_account else over


def _expire(observed: Observed, now: datetime) -> list[Action]:
    due = expires_at(observed)
    if due is None or now < due:
        return []
    return [DeleteJob(f"ttlSecondsAfterFinished {observed.job.spec.ttl_seconds_after_finished} is over")]
