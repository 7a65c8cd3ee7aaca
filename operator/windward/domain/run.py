"""What is observed of runs: each is one child of a GreenJob."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from windward_api.contract import EXIT_PAUSED, Report


class Phase(StrEnum):
    """Where a run stands."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"  # told to pause; still writing its checkpoint
    PAUSED = "Paused"  # ended with exit code 75
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LOST = "Lost"  # gone without a word: node or machine lost; not the job's fault

    @property
    def live(self) -> bool:
        """Whether some of it may still compute."""
        return self in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)


def phase_of_exit(code: int) -> Phase:
    """Phase of an ended process after the contract: 0 done, 75 paused, anything else a failure."""
    if code == 0:
        return Phase.SUCCEEDED
    return Phase.PAUSED if code == EXIT_PAUSED else Phase.FAILED


class TroubleReason(StrEnum):
    """Why a run does not get on, as its job's condition `Running` says it."""

    UNSCHEDULABLE = "Unschedulable"
    CLAIM_MISSING = "ClaimMissing"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    POD_MISSING = "PodMissing"
    NODE_LOST = "NodeLost"
    AWAITING_QUOTA = "AwaitingQuota"

    @property
    def of_place(self) -> bool:
        """Whether another region may not have it."""
        return self in (TroubleReason.UNSCHEDULABLE, TroubleReason.CLAIM_MISSING)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps a run from getting on.

    Attributes:
        cause: what the cluster says.
        fix: what a person can do.
        since: when the cluster noticed; None: unknown.
    """

    reason: TroubleReason
    cause: str
    fix: str
    since: datetime | None = None

    def __str__(self) -> str:
        since = f" since {self.since:%m-%d %H:%MZ}" if self.since is not None else ""
        return f"{self.cause}{since}; {self.fix}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the cluster shows it.

    Attributes:
        name: name of the child.
        attempt: its number, from 1.
        pod_uid: uid of the pod or process; '' before there is one.
        progress: share of the whole job that is done, as the live run reports it; None: not reported.
        report: its final report.
        level: name of the power level at which it runs; '': as declared.
        pause_requested: whether the operator requested a pause; a run that pauses by itself is started again later.
        time_scale: planned seconds per real second (warped clock), 1 on a cluster.
        started_real: real time of the start, to place the report's energy series.
        uid: of the child, by which its pods are known after it is gone.
        trouble: what keeps it from getting on; None: nothing known.
    """

    name: str
    attempt: int
    region: str
    phase: Phase
    pod_uid: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    progress: float | None = None
    report: Report | None = None
    message: str = ""
    time_scale: float = 1.0
    started_real: datetime | None = None
    pause_requested: bool = False
    level: str = ""
    uid: str = ""
    trouble: Trouble | None = None

    @property
    def done_share(self) -> float | None:
        """Share of the whole job that is done, from the report, else from live progress; None where neither says."""
        final = self.report.progress if self.report is not None else None
        return final.fraction if final is not None else self.progress

    def ran_for(self, now: datetime) -> timedelta:
        if self.started_at is None:
            return timedelta(0)
        return max(timedelta(0), (self.finished_at or now) - self.started_at)


def run_name(job: str, uid: str, attempt: int) -> str:
    """Name of the child of one attempt: the same for the same (uid, attempt), so that creating twice makes one.

    At most 57 characters, so that the pod's own suffix still fits a label of 63.
    """
    digest = uid.replace("-", "")[:8]
    return f"{job[: 57 - len(digest) - 2 - len(str(attempt))].rstrip('-.')}-{digest}-{attempt}"
