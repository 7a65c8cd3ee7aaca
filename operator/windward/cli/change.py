"""`windward run-now`, `hold`, `release`: a word to a job, by annotation or spec, never by status."""

from __future__ import annotations

import sys
from typing import Any

from windward.cli.errors import CliError
from windward.cli.worlds import jobs_of, one
from windward.cluster.port import BadObject
from windward.domain.observed import Observed


def change(
    name: str,
    local: bool,
    namespace: str,
    *,
    said: str,
    annotations: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
) -> None:
    """Change one job and say what follows."""
    jobs = jobs_of(local)
    job = one(jobs, namespace, name)
    if isinstance(job, BadObject):
        namespace, name = job.namespace, job.name
    else:
        namespace, name = job.metadata.namespace, job.metadata.name
        if Observed(job).ended:
            raise CliError(f"{namespace}/{name} has ended", fix=f"windward why {name} says how")
    patch: dict[str, Any] = {}
    if annotations is not None:
        patch["metadata"] = {"annotations": annotations}
    if spec is not None:
        patch["spec"] = spec
    jobs.change(namespace, name, patch)
    sys.stderr.write(f"{namespace}/{name} {said}\n")
