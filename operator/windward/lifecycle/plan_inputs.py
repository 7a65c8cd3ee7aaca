"""The inputs of a plan. A plan stands while they are unchanged; progress as planned does not change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from windward.domain.observed import Observed
from windward.domain.plan import SOONEST, JobPlan, Plan
from windward.domain.run import Phase
from windward.lifecycle.decide import end_of
from windward.lifecycle.work import avoided, may_pause, pending, ran_of, running_in

EARLY = timedelta(minutes=15)  # by which a job may end before its planned end and leave no room worth a new plan


def to_be_placed(o: Observed) -> bool:
    """Whether there is anything left to plan."""
    held = o.ended or o.job.spec.suspend or o.job.metadata.deletion_timestamp is not None
    return not held and (not o.runs or end_of(o) is None)


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan was made from.

    Attributes:
        world: regions, and the issue of each forecast.
        jobs: the request of each job, and its failures.
        tick: number of the period of replanning.
        drifted: something is not as planned, so that each tick has a new plan: work without a place, work that should
            have ended or begun.
        outdated: time has passed a plan over: a pause is due whose price it does not know, or all windows of work that
            does not run are past, as of work that was held in them.
    """

    world: tuple[object, ...]
    jobs: Mapping[str, tuple[object, ...]]
    tick: int
    drifted: bool
    outdated: bool = False

    @classmethod
    def of(
        cls, world: tuple[object, ...], placed: Iterable[Observed], plan: Plan | None, every: timedelta, now: datetime
    ) -> PlanInputs:
        """Returns the inputs of a plan at `now`, where `plan` is the previous one."""
        planned = plan.jobs if plan is not None else {}
        jobs = {o.key: _of_job(o, planned.get(o.key), now) for o in placed}
        drifted = any(_drifted(o, planned.get(o.key), now, every) for o in placed)
        outdated = any(_is_outdated(o, planned.get(o.key), now) for o in placed)
        return cls(world, jobs, int(now.timestamp() // every.total_seconds()), drifted, outdated)

    def still_hold(self, before: PlanInputs | None, plan: Plan | None, now: datetime) -> bool:
        """Returns whether `plan`, made from `before`, is still valid for these inputs."""
        return len(self.unchanged(before, plan, now)) == len(self.jobs) and before is not None and plan is not None

    def unchanged(self, before: PlanInputs | None, plan: Plan | None, now: datetime) -> frozenset[str]:
        """Returns the keys of jobs whose plans stand: those not new, if new jobs are the only change; else none."""
        if (
            before is None
            or plan is None
            or self.outdated
            or self.world != before.world
            or (self.drifted and self.tick != before.tick)
        ):
            return frozenset()
        gone = [plan.jobs[k] for k in before.jobs if k not in self.jobs and k in plan.jobs]
        if gone and _left_early(gone, plan, now):
            return frozenset()  # there is room that the plan did not know of
        same = frozenset(k for k, v in self.jobs.items() if k in plan.jobs and before.jobs.get(k) == v)
        return same if all(k in same or k not in before.jobs for k in self.jobs) else frozenset()


def _of_job(o: Observed, planned: JobPlan | None, now: datetime) -> tuple[object, ...]:
    """The request, how long it is taken to run, the number of failures, the region it runs in if unplanned, and regions
    without room for it."""
    length = (o.durations.after(ran_of(o, now)), o.durations.p90, o.durations.source)
    request = (o.job.spec, o.job.metadata.creation_timestamp, o.run_now, *length)
    if not o.runs:
        return (*request, 0, None, ())
    mishaps = sum(
        r.phase in (Phase.FAILED, Phase.LOST) or (r.phase is Phase.PAUSED and not r.pause_requested) for r in o.runs
    )
    runs_in = running_in(o)
    may_begin_later = pending(o)  # it waits for room, and the plan has it wait
    begun = [w.region for w in planned.windows if w.start <= now or may_begin_later] if planned and runs_in else []
    elsewhere = None if begun and begun[-1] == runs_in else runs_in
    return (*request, mishaps, elsewhere, tuple(sorted(avoided(o, now))))


def _left_early(gone: Iterable[JobPlan], plan: Plan, now: datetime) -> bool:
    """Whether jobs that are gone freed room worth a new plan; any room is, while other work waits for it."""
    waits = any(p.windows and p.windows[0].start > now and p.reason in SOONEST for p in plan.jobs.values())
    until = now if waits else now + EARLY
    return any(not p.windows or p.windows[-1].end > until for p in gone)


def _drifted(o: Observed, planned: JobPlan | None, now: datetime, every: timedelta) -> bool:
    """Whether a job that was planned has no place, or should have ended, or should have run for a whole tick."""
    if planned is None:
        return False
    if not planned.windows or planned.windows[-1].end <= now:
        return True
    window = planned.window_at(now)
    return window is not None and window.start + every <= now and all(r.phase is not Phase.RUNNING for r in o.runs)


def _is_outdated(o: Observed, planned: JobPlan | None, now: datetime) -> bool:
    """Whether a plan must be made anew at once. One from before a run does not price going on, and without that price
    nothing is paused; what was held beyond its windows has none left to start in."""
    if planned is None or not planned.windows:
        return False
    if not o.live:
        return planned.windows[-1].end <= now
    if planned.go_on_g is not None or planned.emissions_g is None:
        return False
    return may_pause(o) and planned.window_at(now) is None and planned.next_start(now) is not None
