"""`windward apply --cluster`: server-side apply, with the server's own sentences."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from windward.cli.errors import CliError, Exit
from windward.cli.manifest_files import read_objects
from windward.cli.worlds import PATH, RemoteJobs
from windward.cluster.port import ClusterError

PLURALS = {"GreenJob": "greenjobs", "GreenCronJob": "greencronjobs", "GreenRegion": "greenregions"}
APPLY = "application/apply-patch+yaml"


def apply_files(files: Sequence[Path], output: str) -> None:
    """Apply all objects of the files; regions before jobs."""
    objects = read_objects(files)
    api = RemoteJobs().api
    for body in sorted(objects.bodies, key=lambda b: b["kind"] != "GreenRegion"):
        meta = body["metadata"]
        place = f"/namespaces/{meta['namespace']}" if body["kind"] != "GreenRegion" else ""
        path = f"{PATH}{place}/{PLURALS[body['kind']]}/{meta['name']}"
        try:
            api.patch(path, body, APPLY, fieldManager="windward-cli", force="true")
        except ClusterError as e:
            raise CliError(f"{body['kind']} {meta['name']} was not applied", cause=str(e), code=Exit.UNREACHABLE) from e
        said = f"{PLURALS[body['kind']]}/{meta['name']} applied"
        print(said) if output != "json" else sys.stderr.write(said + "\n")
    for job in objects.jobs:
        where = f"-n {job.metadata.namespace}"
        sys.stderr.write(f"next: windward why {job.metadata.name} {where} --cluster, kubectl get gj {where}\n")
