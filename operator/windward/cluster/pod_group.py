"""What the pods of one run show together: its times, its exit code, its report. Pure.

The same for a managed workload and for a GreenJob that runs as a group of pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from windward.cluster.kube_pods import PodEnd, moment, pod_end, running_since, trouble_of
from windward.domain.pod_reports import PodReport, combined
from windward.domain.run import Phase, Run, Trouble
from windward_api.contract import EXIT_PAUSED, Report, heard, printable

Body = Mapping[str, Any]
MESSAGE_LIMIT = 512


@dataclass(frozen=True, slots=True)
class PodGroup:
    """The pods of one run.

    Attributes:
        pods: those that are there.
        ends: how all that are known ended, each once, the first to end first.
        expected_pods: how many are to end well before all is done.
        started_before: when the run started, as its status says.
    """

    pods: tuple[Body, ...]
    ends: tuple[PodEnd, ...]
    expected_pods: int
    started_before: datetime | None
    now: datetime

    @property
    def living(self) -> tuple[Body, ...]:
        """Those of which a container may still run."""
        return tuple(p for p in self.pods if pod_end(p) is None)

    @property
    def running(self) -> tuple[Body, ...]:
        """Those of which a container runs."""
        return tuple(p for p in self.living if running_since(p) is not None)

    @property
    def started_at(self) -> datetime | None:
        """The first start of a container."""
        times = [self.started_before, *(e.started_at for e in self.ends), *(running_since(p) for p in self.living)]
        return min((t for t in times if t is not None), default=None)

    @property
    def finished_at(self) -> datetime | None:
        """The last end of a container; None where none is known."""
        return max((e.finished_at for e in self.ends if e.finished_at is not None), default=None)

    @property
    def last_ends(self) -> tuple[PodEnd, ...]:
        """The end of each place in the group, without those of pods that were replaced."""
        return tuple({e.slot or e.pod_uid: e for e in self.ends}.values())

    @property
    def pause_code(self) -> int | None:
        """The exit code of a pause: 75 if every pod ended with it, or with 0 since its part was done; None: unknown."""
        codes = [e.code for e in self.last_ends]
        unkept = [c for c in codes if c not in (0, EXIT_PAUSED)]
        return (unkept[0] if unkept[0] >= 0 else None) if unkept else EXIT_PAUSED if codes else None

    @property
    def failures(self) -> tuple[PodEnd, ...]:
        """The ends that were not well, the first one first."""
        return tuple(e for e in self.ends if e.code != 0)

    @property
    def report(self) -> Report | None:
        """What all pods reported, as one report."""
        return combined(
            [
                PodReport(e.slot or e.pod_uid, e.code, e.started_at is not None, heard(e.message).report)
                for e in self.ends
            ],
            self.expected_pods,
        )

    @property
    def trouble(self) -> Trouble | None:
        """What keeps a pod from getting on. Where the others run, they may wait for it."""
        return next((t for p in self.living if (t := trouble_of(p, self.now)) is not None), None)


def group_of(
    pods: tuple[Body, ...], seen: tuple[PodEnd, ...], expected_pods: int, started_before: datetime | None, now: datetime
) -> PodGroup:
    """Returns the pods of a run, from those that are there and those whose ends were seen."""
    by_uid = {e.pod_uid: e for e in (*seen, *(e for e in map(pod_end, pods) if e is not None))}
    ends = sorted(by_uid.values(), key=lambda e: (e.finished_at or now).timestamp())
    return PodGroup(pods, tuple(ends), expected_pods, started_before, now)


def true_condition(body: Body, *kinds: str) -> Body | None:
    """Returns the first condition of an object that is True and of one of these types; None: there is none."""
    conditions: list[Body] = (body.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("status") == "True" and c.get("type") in kinds), None)


def suspended_at(body: Body) -> datetime | None:
    """Returns since when an object is suspended, as its controller says."""
    condition = true_condition(body, "Suspended")
    return moment(condition.get("lastTransitionTime")) if condition is not None else None


def succeeded(run: Run, group: PodGroup, at: datetime | None) -> Run:
    """Returns the run of a group whose work is done; `at`: when, where no end of a pod is known."""
    return replace(
        run, phase=Phase.SUCCEEDED, started_at=group.started_at, finished_at=group.finished_at or at, exit_code=0,
        report=group.report,
    )  # fmt: skip


def failed(run: Run, group: PodGroup, condition: Body) -> Run:
    """Returns the run of a group that failed for good, with the first exit code that is not 0 and what the condition
    says."""
    why = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return replace(
        run, phase=Phase.FAILED, started_at=group.started_at,
        finished_at=group.finished_at or moment(condition.get("lastTransitionTime")),
        exit_code=next((e.code for e in group.failures if e.code > 0), None),
        report=group.report, message=printable(why)[:MESSAGE_LIMIT],
    )  # fmt: skip


def paused(run: Run, group: PodGroup, at: datetime, why: str, *, pause_requested: bool) -> Run:
    """Returns the run of a group that was suspended and has no pod left; `at`: when, where no end of a pod is known."""
    return replace(
        run, phase=Phase.PAUSED, started_at=group.started_at, finished_at=group.finished_at or at,
        exit_code=group.pause_code, report=group.report, message=printable(why)[:MESSAGE_LIMIT],
        pause_requested=pause_requested,
    )  # fmt: skip


def going_on(run: Run, group: PodGroup, trouble: Trouble | None) -> Run:
    """Returns the run of a group that goes on: also between two pods, and before its object counts the last one."""
    return replace(
        run,
        phase=Phase.RUNNING if group.started_at is not None else Phase.STARTING,
        started_at=group.started_at,
        message=printable(str(trouble))[:MESSAGE_LIMIT] if trouble is not None else "",
        trouble=trouble,
    )
