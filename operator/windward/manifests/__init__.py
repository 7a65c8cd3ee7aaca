"""From a GreenJob to what runs: a batch/v1 Job, or a local process. Pure."""

from windward.manifests.environment import RunFacts, storage_paths
from windward.manifests.job import render_job
from windward.manifests.process import TRUSTED, NotLocal, ProcessSpec, local_command, render_process

__all__ = [
    "TRUSTED",
    "NotLocal",
    "ProcessSpec",
    "RunFacts",
    "local_command",
    "render_job",
    "render_process",
    "storage_paths",
]
