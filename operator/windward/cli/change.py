"""`windward run-now`, `hold`, `release`, `cancel`: a word to a job, by annotation or spec, never by status."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from windward.cli.errors import CliError, Exit
from windward.cli.worlds import Driver, Jobs, Target, jobs_of, one
from windward.cluster.port import BadObject
from windward.domain.observed import Observed
from windward.reports.shown import shown

GONE = "it was deleted meanwhile"


def run_now(name: str, target: Target, output: str) -> None:
    """Start as soon as there is room."""
    _change(name, target, output, {"metadata": {"annotations": {"windward.dev/run-now": "true"}}}, _starts)


def hold(name: str, target: Target, output: str) -> None:
    """Pause it, or keep it from starting."""
    _change(name, target, output, {"spec": {"suspend": True}}, lambda _, undo: f"is held; to undo: {undo}")


def release(name: str, target: Target, output: str) -> None:
    """Let it go on."""
    _change(name, target, output, {"spec": {"suspend": False}}, lambda d, _: f"goes on as planned{_nobody(d)}")


def cancel(name: str, target: Target, output: str) -> None:
    """Delete it."""
    jobs = jobs_of(target)
    namespace, name, _ = _job(jobs, target, name, ended=True)
    if not jobs.delete(namespace, name):
        raise CliError(f"there is no GreenJob {namespace}/{name}", cause=GONE, code=Exit.NOT_FOUND, fix="windward list")
    _tell(namespace, name, "is cancelled; its accounts stay in the ledger", output)


def _starts(driver: Driver, _: str) -> str:
    return "starts at the next look" if driver.driven else f"starts at once{_nobody(driver)}"


def _nobody(driver: Driver) -> str:
    if driver.driven:
        return ""
    return f", when somebody drives it again: {driver.command or 'the command that submitted it'}"


def _change(name: str, target: Target, output: str, patch: Mapping[str, Any], say: Any) -> None:
    """Change one job and say what follows."""
    jobs = jobs_of(target)
    namespace, name, driver = _job(jobs, target, name, ended=False)
    if not jobs.change(namespace, name, patch):
        raise CliError(f"there is no GreenJob {namespace}/{name}", cause=GONE, code=Exit.NOT_FOUND, fix="windward list")
    _tell(namespace, name, say(driver, target.command("release", namespace, name)), output)


def _job(jobs: Jobs, target: Target, name: str, *, ended: bool) -> tuple[str, str, Driver]:
    """Namespace and name of the job, and who drives it; one that has ended only where that is no matter."""
    job = one(jobs, target, name)
    if isinstance(job, BadObject):
        return job.namespace, job.display_name, Driver()
    meta, name = job.metadata, job.display_name
    if not ended and Observed(job).ended:
        fix = f"{target.command('why', meta.namespace, name)} says how"
        raise CliError(f"{meta.namespace}/{name} has ended", fix=fix)
    return meta.namespace, name, jobs.driver(job)


def _tell(namespace: str, name: str, message: str, output: str) -> None:
    sys.stderr.write(shown(f"{namespace}/{name} {message}") + "\n")
    if output == "json":
        body = {"apiVersion": "cli.windward.dev/v1", "kind": "Change", "namespace": namespace, "name": name}
        print(json.dumps({**body, "message": message}, indent=2))
