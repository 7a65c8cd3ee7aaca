"""Kinds of workload that can run a GreenJob, one module each: the registry."""

from windward.cluster.engines.job import JobEngine
from windward.cluster.engines.port import Engine

ENGINES: tuple[Engine, ...] = (JobEngine(),)  # asked in this order; batch/v1 Job accepts every GreenJob

__all__ = ["ENGINES", "Engine", "JobEngine"]
