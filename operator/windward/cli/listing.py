"""`windward list` and `windward why`."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime

from windward.cli import text
from windward.cli.settle import settle_in_passing
from windward.cli.worlds import Driver, JobEvent, Jobs, Target, jobs_of, one
from windward.cluster.port import BadObject
from windward.domain.durations import described, stated
from windward.domain.observed import Observed
from windward.reports import figures
from windward.service.clock import SystemClock
from windward_api.greenjob import GreenJob
from windward_api.scalars import format_time

HEADER = ["NAMESPACE", "NAME", "STATUS", "WHY", "REGION", "START", "FINISH BY", "ENERGY", "CO2e", "SAVED", "DONE"]
STOPPED, NOBODY = "Stopped", "NobodyDrives"


def list_jobs(target: Target, output: str) -> None:
    """All GreenJobs; an empty list is a success and says what to do next."""
    if target.local:
        settle_in_passing()
    known = jobs_of(target)
    jobs = known.all(target.namespace)
    if output == "json":
        items = [_body(j, known) if isinstance(j, GreenJob) else _bad_body(j) for j in jobs]
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "JobList", "items": items}, indent=2))
        return
    if not jobs:
        where = "on this machine" if target.local else "in the cluster"
        where = f"in namespace {target.namespace} {where}" if target.namespace else where
        sys.stderr.write(f"no GreenJobs {where} yet; begin with: windward plan -f examples/train.yaml\n")
        return
    now = SystemClock().now()
    print(text.table([HEADER, *(_row(j, known, now) for j in jobs)]))
    stopped = [j for j in jobs if isinstance(j, GreenJob) and not _driver(known, j).driven]
    for j in stopped:
        going = _driver(known, j).command or "windward run with what submitted it"
        sys.stderr.write(text.lines([f"nobody drives {j.key}; to go on: {going}"]) + "\n")


def _driver(jobs: Jobs, job: GreenJob) -> Driver:
    return Driver() if Observed(job).ended else jobs.driver(job)


def _row(job: GreenJob | BadObject, jobs: Jobs, now: datetime) -> list[str]:
    if isinstance(job, BadObject):
        return [job.namespace, job.display_name, "Refused", "InvalidSpec", *[""] * 7]
    s, driver = job.status.summary, _driver(jobs, job)
    state, reason = state_of(job, driver)
    done = f"{job.status.progress_percent} %" if job.status.progress_percent is not None else ""
    where = [job.metadata.namespace, job.display_name, state, reason, s.region]
    grams = s.emissions + _mark(job, jobs)
    saved = no_minus_zero(s.saved) + ("  provisional" if is_provisional(job) else "")
    finish_by = s.finish_by if job.finish_by().year == now.year else f"{job.finish_by():%Y-%m-%d %H:%MZ}"
    return [*where, s.start, finish_by, s.energy, grams.strip(), saved.strip(), done]


def state_of(job: GreenJob, driver: Driver) -> tuple[str, str]:
    """State and reason, where nobody drives the job said so."""
    s = job.status.summary
    if driver.driven:
        return s.state, s.reason
    return ("Running" if driver.live else STOPPED), NOBODY


def is_demo(job: GreenJob) -> bool:
    """Whether its figures rest on demonstration data."""
    return job.status.plan.demo or job.status.accounting.demo


def is_provisional(job: GreenJob) -> bool:
    """Whether it has ended, and its figures may still be revised."""
    accounting = job.status.accounting
    return job.status.finished_at is not None and bool(accounting.energy_joules) and not accounting.settled


def _mark(job: GreenJob, jobs: Jobs) -> str:
    """Why its figures are those of no real work."""
    return "  DEMO" if is_demo(job) else "  REHEARSAL" if jobs.rehearsed(job) else ""


def no_minus_zero(words: str) -> str:
    """A figure of a status without a minus before a zero."""
    return words.replace("-0 ", "0 ") if words.lstrip("~").startswith("-0 ") else words


def _bad_body(job: BadObject) -> dict[str, object]:
    return {"namespace": job.namespace, "name": job.name, "refused": job.message}


def _body(job: GreenJob, jobs: Jobs) -> dict[str, object]:
    driver = _driver(jobs, job)
    status = job.status.model_dump(by_alias=True, mode="json", exclude_none=True)
    if not driver.driven:
        state, reason = state_of(job, driver)
        status["summary"] = {**status.get("summary", {}), "state": state, "reason": reason}
    return {
        "namespace": job.metadata.namespace,
        "kind": job.object_kind,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "finishBy": format_time(job.finish_by()),
        "driven": driver.driven,
        "demo": is_demo(job),
        "rehearsed": jobs.rehearsed(job),
        "provisional": is_provisional(job),
        "status": status,
    }


def why(name: str, target: Target, output: str) -> None:
    """All that is known of why a job is where it is."""
    jobs = jobs_of(target)
    job = one(jobs, target, name)
    if isinstance(job, BadObject):
        if output == "json":
            print(json.dumps(_bad_body(job), indent=2))
        else:
            print(text.lines([f"{job.key} is refused: {job.message}"]))
        return
    events, driver = jobs.events(job), _driver(jobs, job)
    if output == "json":
        event_items = [{"at": e.at, "reason": e.reason, "message": e.message, "warning": e.warning} for e in events]
        print(json.dumps({**_body(job, jobs), "events": event_items}, indent=2))
        return
    print("\n".join(_story(job, events, driver, target, _mark(job, jobs))))


def _story(job: GreenJob, events: list[JobEvent], driver: Driver, target: Target, marked: str) -> list[str]:
    p, meta = job.status.plan, job.metadata
    now = SystemClock().now()
    state, reason = state_of(job, driver)
    mark = {"  DEMO": "  DEMO TRACE, not for reporting", "": ""}.get(marked, f"{marked}, not for reporting")
    mark += "  figures provisional" if is_provisional(job) else ""
    finish_by = figures.day_time(job.finish_by(), now)
    out = [f"{job.key}  {state} ({reason})  finish by {finish_by}{mark}"]
    if not driver.driven:
        goes = "its run goes on, but nobody would pause it or count it" if driver.live else "nobody drives this job"
        out.append(f"stopped   {goes}; to go on: {driver.command or 'windward run with what submitted it'}")
    if p.explanation:
        out.append(f"because   {p.explanation}")
    if (duration := stated(job)).profile or not duration.is_known:
        out.append(f"duration  {described(duration)}" + (f"; {duration.differs}" if duration.differs else ""))
    for i, w in enumerate(p.windows):
        grams = f"  {w.emissions_grams} g" if w.emissions_grams else ""
        when = f"{figures.day_time(w.start, now)} to {w.end:%H:%MZ}"
        out.append(f"{'plan' if i == 0 else '    '}      {when}  {w.region}{grams}")
    if p.latest_start is not None and not job.status.finished_at:
        out.append(f"latest    {figures.day_time(p.latest_start, now)}: then it runs whatever the carbon")
    skip = target.command("run-now", meta.namespace, job.display_name)
    if state in ("Waiting", "Paused"):
        out.append(f"skip      {skip}")
    shown = [text.lines(out, indent=10)]
    # Whoever wrote the condition does not know from where it is read.
    generic = re.compile(rf"windward run-now {re.escape(job.display_name)}(?: -n [a-z0-9-]+)?")
    rows = [[c.type, c.status, c.reason, generic.sub(lambda _: skip, c.message)] for c in job.status.conditions]
    if rows:
        shown += ["", text.table([["CONDITION", "IS", "REASON", "MESSAGE"], *rows])]
    if events:
        event_rows = [[e.at, "!" if e.warning else " ", e.reason, e.message] for e in events]
        shown += ["", text.table([["AT", " ", "EVENT", "MESSAGE"], *event_rows])]
    return shown
