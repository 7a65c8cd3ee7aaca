"""From a GreenJob to what runs: a Job, a JobSet, a TrainJob, or a local process. Pure."""

from windward.manifests.environment import RunFacts, storage_paths
from windward.manifests.groups import render_job_set, render_job_template, render_train_job
from windward.manifests.job import render_job
from windward.manifests.process import TRUSTED, NotLocal, ProcessSpec, local_command, render_process

__all__ = [
    "TRUSTED",
    "NotLocal",
    "ProcessSpec",
    "RunFacts",
    "local_command",
    "render_job",
    "render_job_set",
    "render_job_template",
    "render_process",
    "render_train_job",
    "storage_paths",
]
