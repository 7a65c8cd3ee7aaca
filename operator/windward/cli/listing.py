"""`windward list` and `windward why`."""

from __future__ import annotations

import json
import sys

from windward.cli import text
from windward.cli.worlds import Told, jobs_of, one
from windward.cluster.port import BadObject
from windward_api.greenjob import GreenJob
from windward_api.scalars import format_time

HEADER = ["NAMESPACE", "NAME", "STATUS", "WHY", "ZONE", "START", "FINISH BY", "ENERGY", "CO2e", "SAVED", "DONE"]


def list_jobs(local: bool, namespace: str, output: str) -> None:
    """All GreenJobs; an empty list is a success and says what to do next."""
    jobs = jobs_of(local).all(namespace)
    if output == "json":
        items = [_body(j) for j in jobs if isinstance(j, GreenJob)]
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "JobList", "items": items}, indent=2))
        return
    if not jobs:
        where = "on this machine" if local else "in the cluster"
        sys.stderr.write(f"no GreenJobs {where} yet; begin with: windward plan -f examples/train.yaml\n")
        return
    print(text.table([HEADER, *(_row(j) for j in jobs)]))


def _row(job: GreenJob | BadObject) -> list[str]:
    if isinstance(job, BadObject):
        return [job.namespace, job.name, "Refused", "InvalidSpec", *[""] * 7]
    s = job.status.summary
    done = f"{job.status.progress_percent} %" if job.status.progress_percent is not None else ""
    where = [job.metadata.namespace, job.metadata.name, s.state, s.reason, s.zone]
    return [*where, s.start, s.finish_by, s.energy, s.emissions, s.saved, done]


def _body(job: GreenJob) -> dict[str, object]:
    return {
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "finishBy": format_time(job.finish_by()),
        "status": job.status.model_dump(by_alias=True, mode="json", exclude_none=True),
    }


def why(name: str, local: bool, namespace: str, output: str) -> None:
    """All that is known of why a job is where it is."""
    jobs = jobs_of(local)
    job = one(jobs, namespace, name)
    if isinstance(job, BadObject):
        print(f"{job.key} is refused: {job.message}")
        return
    events = jobs.events(job)
    if output == "json":
        told = [{"at": e.at, "reason": e.reason, "message": e.message, "warning": e.warning} for e in events]
        print(json.dumps({**_body(job), "events": told}, indent=2))
        return
    print("\n".join(_story(job, events, local)))


def _story(job: GreenJob, events: list[Told], local: bool) -> list[str]:
    s, p = job.status.summary, job.status.plan
    out = [f"{job.metadata.namespace}/{job.metadata.name}  {s.state} ({s.reason})  finish by {s.finish_by}"]
    if p.explanation:
        out.append(f"because   {p.explanation}")
    for i, w in enumerate(p.windows):
        grams = f"  {w.emissions_grams} g" if w.emissions_grams else ""
        out.append(f"{'plan' if i == 0 else '    '}      {text.day_time(w.start)} to {w.end:%H:%MZ}  {w.region}{grams}")
    if p.latest_start is not None and not job.status.finished_at:
        out.append(f"latest    {text.day_time(p.latest_start)}: then it runs whatever the carbon")
    if s.state in ("Waiting", "Paused"):
        where = "" if local else " --cluster"
        out.append(f"skip      windward run-now {job.metadata.name}{where}")
    rows = [[c.type, c.status, c.reason, c.message] for c in job.status.conditions]
    if rows:
        out += ["", text.table([["CONDITION", "IS", "REASON", "MESSAGE"], *rows])]
    if events:
        lines = [[e.at, "!" if e.warning else " ", e.reason, e.message] for e in events]
        out += ["", text.table([["AT", " ", "EVENT", "MESSAGE"], *lines])]
    return out
