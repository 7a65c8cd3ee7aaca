"""The environment of a run, the same in a pod and on a laptop."""

from __future__ import annotations

from dataclasses import dataclass

from windward.domain.run import run_name
from windward_api import contract
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.scalars import format_time


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is to run: one attempt of one job in one region.

    Attributes:
        intensity_g_per_kwh: expected over the run's window, at the meter; None: unknown.
        level: name of its power level; '': as declared.
    """

    job: GreenJob
    attempt: int
    region: GreenRegion
    intensity_g_per_kwh: float | None = None
    level: str = ""

    @property
    def name(self) -> str:
        return run_name(self.job.metadata.name, self.job.metadata.uid, self.attempt)

    @property
    def token(self) -> str:
        """The fencing token: uid and attempt."""
        return f"{self.job.metadata.uid}-{self.attempt}"


def storage_paths(job: GreenJob, root: str) -> tuple[str, str]:
    """(storage, checkpoint) directories or URIs below a root; a job's checkpoints outlive its runs, not its uid."""
    uid = job.metadata.uid.replace("-", "")[:8]
    return root, f"{root}/checkpoints/{job.metadata.name[:200]}-{uid}"  # a file name has at most 255 bytes


def environment(facts: RunFacts, storage_root: str | None, pods: int = 1) -> dict[str, str]:
    """Variables of the contract, for one pod. Energy is the worker's, grams are ours: the intensity goes only where
    requests are answered, which choose their batch by it. An object store that the job names goes before
    `storage_root`.

    Args:
        pods: how many pods draw the declared power of the run together; each is told its share.
    """
    job = facts.job
    env = {
        contract.ENV_JOB: f"{job.metadata.namespace}/{job.metadata.name}",
        contract.ENV_RUN: facts.token,
        contract.ENV_DEADLINE: format_time(job.finish_by()),
    }
    if job.spec.storage is not None and (uri := job.spec.storage.uri) is not None:
        env[contract.ENV_STORAGE_URI], env[contract.ENV_CHECKPOINT_URI] = storage_paths(job, uri)
    elif storage_root is not None:
        env[contract.ENV_STORAGE_DIR], env[contract.ENV_CHECKPOINT_DIR] = storage_paths(job, storage_root)
    if (power := job.spec.power) is not None:
        level = power.level(facts.level)
        watts, cap = (power.watts, power.cap_watts) if level is None else (level.watts, level.cap_watts)
        env[contract.ENV_POWER_WATTS] = f"{watts / pods:.15g}"
        if cap is not None:
            env[contract.ENV_POWER_CAP_WATTS] = f"{cap / pods:.15g}"
        if level is not None:
            env[contract.ENV_POWER_LEVEL] = level.name
    if job.spec.work_kind.hears_intensity and facts.intensity_g_per_kwh is not None:
        env[contract.ENV_INTENSITY_G_PER_KWH] = f"{facts.intensity_g_per_kwh:.4g}"
    return env


def runtime_arguments(job: GreenJob) -> list[str] | None:
    """Arguments of our own runtime (`windward-worker ...`); None for a job that brings its own container."""
    kind = job.spec.work_kind
    return kind.arguments(job.spec.work) if kind.verb else None
