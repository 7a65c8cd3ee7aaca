"""The registry of engines: the kinds of workload that can run a GreenJob, one module each."""

from windward.cluster.engines.group import GroupEngine
from windward.cluster.engines.job import JobEngine
from windward.cluster.engines.job_set import JOB_SET
from windward.cluster.engines.port import Engine
from windward.cluster.engines.train_job import TRAIN_JOB

ENGINES: tuple[Engine, ...] = (JOB_SET, TRAIN_JOB, JobEngine())  # in order of precedence

__all__ = ["ENGINES", "JOB_SET", "TRAIN_JOB", "Engine", "GroupEngine", "JobEngine"]
