"""From a managed workload, its place in a queue and its pods, as JSON, to its runs. Pure.

A run is a stretch between a start and a suspension of the same object. Its number is claimed in the status annotation
before the object is released; what the status kept of earlier runs is all that is left of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from windward.cluster.kube_pods import PodEnd, moment, pod_end, trouble_of
from windward.cluster.kueue import Admission
from windward.cluster.pod_group import (
    PodGroup,
    failed,
    going_on,
    group_of,
    paused,
    succeeded,
    suspended_at,
    true_condition,
)
from windward.domain.run import Phase, Run, Trouble, TroubleReason, run_name
from windward.lifecycle.bounds import within_bounds
from windward.lifecycle.work import home_of, most_power_w
from windward_api.greenjob_status import RunStatus
from windward_api.managed import ManagedWorkload, is_paused_by_us

Body = Mapping[str, Any]
NO_POD_AFTER = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Workload:
    """What a cluster shows of one managed workload.

    Attributes:
        admission: its place in a queue; None: it has none.
        pods: those that are there.
        ends: how pods of it ended, as a watch saw them; some may be gone.
    """

    job: ManagedWorkload
    body: Body
    admission: Admission | None
    pods: tuple[Body, ...]
    ends: tuple[PodEnd, ...]
    now: datetime

    @property
    def suspended(self) -> bool:
        return bool((self.body.get("spec") or {}).get("suspend"))

    @property
    def paused_by_us(self) -> bool:
        return is_paused_by_us(self.body)

    @property
    def kept(self) -> Mapping[int, RunStatus]:
        return {r.attempt: r for r in self.job.status.runs}

    @property
    def newest(self) -> RunStatus | None:
        """What the status kept of the run whose number was claimed last."""
        return self.kept.get(self.job.status.attempt)

    @property
    def living(self) -> tuple[Body, ...]:
        return tuple(p for p in self.pods if pod_end(p) is None)


def is_released(seen: Workload) -> bool:
    """Returns whether it may start to run without us."""
    return not seen.suspended if seen.admission is None else seen.admission.released


def is_held(seen: Workload) -> bool:
    """Returns whether somebody else suspended it, or keeps it out of its queue: then it waits for them."""
    if seen.paused_by_us:
        return False
    if seen.admission is not None:
        return not seen.admission.active
    return seen.suspended and seen.newest is not None


def runs_of(seen: Workload) -> tuple[Run, ...]:
    """Returns the runs of a managed workload, by attempt; of one that has ended, what its status kept of them."""
    current = _current(seen) if seen.job.status.finished_at is None else None
    past = [_kept(r) for n, r in sorted(seen.kept.items()) if current is None or n < current.attempt]
    if current is None:
        return tuple(past)
    created = moment(seen.body["metadata"].get("creationTimestamp")) or seen.now
    return (*past, within_bounds(current, created, seen.now, most_power_w(seen.job.spec)))


def _current(seen: Workload) -> Run | None:
    """The run that goes on or ended since the status was written; None where the status says all."""
    newest, attempt = seen.newest, seen.job.status.attempt
    over = newest is not None and not Phase(newest.phase).live
    end = true_condition(seen.body, seen.job.managed.complete, "Failed")
    if end is not None:
        return _finished(seen, _base(seen, max(1, attempt)), end)
    if _goes_on(seen):
        if not seen.living and seen.suspended and newest is not None and newest.started_at is not None and not over:
            # Its queue ended it, and may admit it again.
            return _paused(seen, _base(seen, attempt), pause_requested=True)
        return _living(seen, _base(seen, attempt + 1 if over else max(1, attempt)))
    if seen.living:
        return replace(_living(seen, _base(seen, max(1, attempt))), phase=Phase.STOPPING)
    if newest is not None and not over:
        return _paused(seen, _base(seen, attempt), pause_requested=seen.paused_by_us)
    return None


def _goes_on(seen: Workload) -> bool:
    if not is_released(seen):
        return False
    newest, attempt = seen.newest, seen.job.status.attempt
    claimed = attempt > 0 and (newest is None or Phase(newest.phase).live)
    return seen.admission is None or seen.admission.admitted or bool(seen.living) or claimed


def _base(seen: Workload, attempt: int) -> Run:
    meta, status = seen.job.metadata, seen.job.status
    region = status.attempt_region if attempt == status.attempt else ""
    name = run_name(meta.name, meta.uid, attempt)
    return Run(name, attempt, region or home_of(seen.job.spec), Phase.STARTING, uid=meta.uid)


def _finished(seen: Workload, run: Run, condition: Body) -> Run:
    """Its work is done, or failed for good, as a condition says."""
    if condition.get("type") == "Failed":
        return failed(run, _group(seen, run), condition)
    return succeeded(run, _group(seen, run), moment(condition.get("lastTransitionTime")))


def _paused(seen: Workload, run: Run, *, pause_requested: bool) -> Run:
    why = "suspended" if seen.admission is None or not seen.admission.why else seen.admission.why
    at = suspended_at(seen.body) or seen.now
    return paused(run, _group(seen, run), at, why, pause_requested=pause_requested)


def _living(seen: Workload, run: Run) -> Run:
    group = _group(seen, run)
    on = going_on(run, group, None if group.running else _trouble(seen))
    return replace(on, progress=_share_complete(seen.body))


def _trouble(seen: Workload) -> Trouble | None:
    """What keeps it from running: its queue, in Kueue's words, or its pods."""
    admission = seen.admission
    if admission is not None and not admission.admitted:
        fix = "wait for quota, ask for less, or allow more regions; kubectl describe its Workload"
        return Trouble(TroubleReason.AWAITING_QUOTA, admission.why or "not admitted", fix, admission.since)
    return next((t for p in seen.living if (t := trouble_of(p, seen.now)) is not None), None)


def _group(seen: Workload, run: Run) -> PodGroup:
    """The pods of this run: none of an earlier run, which the object may still count."""
    before, kept = seen.kept.get(run.attempt - 1), seen.kept.get(run.attempt)
    after = before.finished_at if before is not None else None
    started = kept.started_at if kept is not None else None
    whole = group_of(seen.pods, seen.ends, _expected_pods(seen), started, seen.now)
    ends = tuple(e for e in whole.ends if after is None or e.finished_at is None or e.finished_at > after)
    return replace(whole, ends=ends)


def _expected_pods(seen: Workload) -> int:
    completions = (seen.body.get("spec") or {}).get("completions")
    together = round(seen.job.spec.demand.get("pods", 1.0))
    return max(1, completions if isinstance(completions, int) else together)


def _share_complete(body: Body) -> float | None:
    """Share of a Job's completions that are done, where it has several."""
    wanted, done = (body.get("spec") or {}).get("completions"), (body.get("status") or {}).get("succeeded")
    if not isinstance(wanted, int) or wanted < 2 or not isinstance(done, int):
        return None
    return min(1.0, done / wanted)


def _kept(kept: RunStatus) -> Run:
    phase = Phase(kept.phase)
    return Run(
        kept.name, kept.attempt, kept.region, Phase.LOST if phase.live else phase, started_at=kept.started_at,
        finished_at=kept.finished_at, exit_code=kept.exit_code, message=kept.message, level=kept.power_level,
        pause_requested=phase is Phase.PAUSED, uid=kept.uid,
    )  # fmt: skip
