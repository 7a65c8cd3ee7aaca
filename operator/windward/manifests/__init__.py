"""From a GreenJob to what runs: a batch/v1 Job, or a local process. Pure."""

from windward.manifests.environment import RunFacts, storage_paths
from windward.manifests.job import render_job
from windward.manifests.process import ProcessSpec, render_process

__all__ = ["ProcessSpec", "RunFacts", "render_job", "render_process", "storage_paths"]
