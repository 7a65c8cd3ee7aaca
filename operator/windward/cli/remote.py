"""`windward apply --cluster`: server-side apply, with the server's own sentences."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windward.cli.errors import CliError, Exit, usage_error
from windward.cli.manifest_files import read_objects
from windward.cli.worlds import PATH, RemoteJobs, Target
from windward.cluster.port import ClusterError
from windward.reports.shown import shown

PLURALS = {"GreenJob": "greenjobs", "GreenCronJob": "greencronjobs", "GreenRegion": "greenregions"}
APPLY = "application/apply-patch+yaml"


def apply_files(files: Sequence[Path], target: Target, output: str) -> None:
    """Apply all objects of the files; regions before jobs."""
    objects = read_objects(files)
    jobs = RemoteJobs(target)
    default, applied = target.namespace or jobs.namespace(), []
    for body in sorted(objects.bodies, key=lambda b: b["kind"] != "GreenRegion"):
        meta, kind = body["metadata"], body["kind"]
        place = f"/namespaces/{_namespace(meta, target, default)}" if kind != "GreenRegion" else ""
        path = f"{PATH}{place}/{PLURALS[kind]}/{meta['name']}"
        _apply(jobs, path, body)
        line = f"{PLURALS[kind]}/{meta['name']} applied"
        applied.append({"kind": kind, "namespace": meta.get("namespace"), "name": meta["name"]})
        print(shown(line)) if output != "json" else sys.stderr.write(shown(line) + "\n")
    if output == "json":
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ApplyList", "items": applied}, indent=2))
    for body in objects.bodies:
        if body["kind"] == "GreenJob":
            meta = body["metadata"]
            sys.stderr.write(shown(f"next: {target.command('why', meta['namespace'], meta['name'])}") + "\n")


def _namespace(meta: dict[str, Any], target: Target, default: str) -> str:
    """The object's namespace, written into it where the file names none.

    Raises:
        CliError: the file names another than `-n`.
    """
    named = meta.get("namespace")
    if named and target.namespace and named != target.namespace:
        what = f"{meta['name']} names namespace {named}, not {target.namespace}"
        raise usage_error(what, fix=f"leave -n out, or use -n {named}")
    meta["namespace"] = named or default
    return str(meta["namespace"])


def _apply(jobs: RemoteJobs, path: str, body: dict[str, Any]) -> None:
    try:
        jobs.request(lambda: jobs.api.patch(path, body, APPLY, fieldManager="windward-cli", force="true"))
    except CliError as e:
        e.what = f"{body['kind']} {body['metadata']['name']} was not applied"
        raise
    except ClusterError as e:
        fix = "install the chart, and create the namespace: kubectl create namespace NAME"
        what = f"{body['kind']} {body['metadata']['name']} was not applied"
        raise CliError(what, cause=str(e), fix=fix, code=Exit.UNREACHABLE) from e
