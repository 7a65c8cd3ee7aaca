"""The registry of engines: the kinds of workload that can run a GreenJob, one module each."""

from windward.cluster.engines.job import JobEngine
from windward.cluster.engines.port import Engine

ENGINES: tuple[Engine, ...] = (JobEngine(),)  # in order of precedence; the Job engine accepts every GreenJob

__all__ = ["ENGINES", "Engine", "JobEngine"]
