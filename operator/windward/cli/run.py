"""`windward run` and `windward apply --local`: the controller on this machine, until the jobs have ended."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from windward.cli.errors import CliError, Exit, usage_error
from windward.cli.manifest_files import Objects, check_name, checked, faults_of, read_objects
from windward.cli.progress import Board
from windward.cli.receipt import card
from windward.cli.sources import Source, check_zone_name, check_zones, live_for, moment, span
from windward.domain.observed import Observed
from windward.ledger.port import LedgerError
from windward.manifests import TRUSTED, NotLocal, local_command
from windward.reports.shown import shown
from windward.service.clock import SystemClock
from windward.service.controller import Cycle
from windward.service.local import LocalController, state_home
from windward.service.settling import source_note
from windward.service.submissions import NameInUse, Submission, command_to_resume
from windward_api.greenjob import InterruptionPolicy

Body = dict[str, Any]
API = {"apiVersion": "windward.dev/v1alpha1"}
UNKNOWN_ZONE = "unknown"  # of a machine whose zone nobody named: no source holds it


@dataclass(frozen=True, slots=True)
class World:
    """How the local world is opened: source of carbon data, and its clock.

    Attributes:
        start: where a simulated clock begins; None: the real time.
    """

    source: Source = field(default_factory=Source)
    speed: float = 1.0
    start: datetime | None = None
    home: Path | None = None

    @classmethod
    def chosen(cls, provider: str, trace: Path | None, speed: float, start: str) -> World:
        """What the options ask for.

        Raises:
            CliError: they contradict each other.
        """
        if speed != 1.0 and not start:
            fix = "add --start 2022-05-11T15:00:00Z, or leave --speed out"
            raise usage_error("--speed without --start: only a rehearsal has another clock", fix=fix)
        source = Source.chosen(provider, trace)
        if start and provider and source.name != "trace":
            fix = "leave --provider out, or name your own recording: --trace PATH"
            raise usage_error(f"--start rehearses on a recording, and {source.name} is none", fix=fix)
        source = Source("trace", trace) if start else source
        return cls(source, speed, moment(start, "--start") if start else None)

    @property
    def real_on_demo(self) -> bool:
        """Whether real work would have nothing but demonstration data to go by."""
        return self.start is None and self.source.demo

    @property
    def noted(self) -> str:
        """What a later command needs to ask the same source; '' where there is none to ask."""
        return "" if self.real_on_demo else source_note(self.source.name, self.source.trace)

    def open(self) -> LocalController:
        """Open it.

        Raises:
            CliError: the state, the ledger or the trace cannot be opened.
        """
        source = self.source.open(SystemClock())
        home = self.home or state_home()
        try:
            return LocalController.open(
                home, source=source, start=self.start, speed=self.speed, rehearses=not self.real_on_demo
            )
        except (LedgerError, ValueError, OSError) as e:
            fix = "set WINDWARD_HOME to a folder that you may write; windward doctor checks it"
            raise CliError("the local state cannot be opened", cause=str(e), fix=fix) from e


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """Options of a command that is run here."""

    duration: str = ""
    deadline: str = ""
    zone: str = ""
    watts: int | None = None
    name: str = ""
    pausable: bool = False

    def refuse_with_files(self, command: Sequence[str]) -> None:
        """Refuse what a manifest says for itself.

        Raises:
            CliError: something of it was given.
        """
        given = ["a command"] if command else []
        given += [f"--{f.name}" for f in fields(self) if getattr(self, f.name)]
        if given:
            fix = f"write it into the manifest, and leave {given[0]} out"
            raise usage_error(f"{given[0]} and --file contradict each other", fix=fix)


def run_files(files: Sequence[Path], how: World, output: str, *, yes: bool = False, namespace: str = "") -> int:
    """Run the GreenJobs of the files here; a command of a file's own is shown and asked for first."""
    objects = read_objects(files)
    if objects.crons:
        names = ", ".join(c.metadata.name for c in objects.crons)
        fix = "apply it to a cluster, or run its GreenJob with `windward run -f`"
        raise usage_error(f"GreenCronJob {names}: this command ends with its jobs", fix=fix)
    if not objects.jobs:
        raise usage_error("no GreenJob in the files", fix="add one, or see examples/")
    jobs = [_from_file(b, namespace) for b in objects.bodies if b["kind"] == "GreenJob"]
    regions = [b for b in objects.bodies if b["kind"] == "GreenRegion"]
    _check_regions(objects, how)
    _consent(objects, yes)
    _say_without_source(how, [r.spec.grid_zone for r in objects.regions])
    submission = Submission(tuple(jobs), tuple(regions), _typed(), str(Path.cwd()), source=how.noted)
    done = drive(submission, how, output=output)
    return finish(*done, output)


def _from_file(body: Body, namespace: str) -> Body:
    """A job of a file: its trust is ours to give, and its namespace the user's to name."""
    meta = body["metadata"]
    if namespace and meta.get("namespace", namespace) != namespace:
        fix = f"leave -n out, or use -n {meta['namespace']}"
        what = f"{meta['name']} names namespace {meta['namespace']}, not {namespace}"
        raise usage_error(what, fix=fix)
    notes = {k: v for k, v in (meta.get("annotations") or {}).items() if k != TRUSTED}
    return {
        **body,
        "metadata": {**meta, "namespace": namespace or meta.get("namespace", "default"), "annotations": notes},
    }


def _check_regions(objects: Objects, how: World) -> None:
    """Every job has a region that the source knows; those that it does not are named."""
    zones = {r.metadata.name: r.spec.grid_zone for r in objects.regions}
    for job in objects.jobs:
        used = job.spec.placement.regions
        missing = [r for r in used if r not in zones]
        if missing:
            fix = f"add the GreenRegion {missing[0]} to the file, or change spec.placement.regions"
            raise usage_error(f"there is no GreenRegion {missing[0]}", fix=fix)
        provider = how.source.open(SystemClock())
        for zone in check_zones([zones[r] for r in used], provider):
            where = ", ".join(r for r in used if zones[r] == zone)
            sys.stderr.write(shown(f"note: {provider.name} does not hold {zone}: region {where} is left out") + "\n")


def _consent(objects: Objects, yes: bool) -> None:
    """Show the commands that files bring, and ask before they run as the user.

    Raises:
        CliError: a template cannot run here, nobody can be asked, or the answer is no.
    """
    commands = []
    for job in objects.jobs:
        if job.spec.work_kind.verb:
            continue  # our own runtime: its spec is data
        try:
            command, own, cwd = local_command(job)
        except NotLocal as e:
            fix = "correct the field, or apply it to a cluster"
            raise usage_error(f"{job.metadata.name} cannot run here", cause=str(e), fix=fix) from e
        if left := [str(c.get("name")) for c in job.spec.work["spec"]["containers"][1:]]:
            note = f"note: {job.metadata.name}: only its first container runs here, without {', '.join(left)}"
            sys.stderr.write(shown(note) + "\n")
        where = f"  (in {cwd})" if cwd else ""
        env = "".join(f"{k}={shlex.quote(v)} " for k, v in own.items())
        commands.append(shown(f"  {job.metadata.namespace}/{job.metadata.name}: {env}{shlex.join(command)}{where}"))
    if not commands or yes:
        return
    listing = "\n".join(commands)
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        cause = f"it would run as you, without a container:\n{listing}"
        fix = f"read the command, then add --yes: {_typed()} --yes"
        raise usage_error("a manifest's command needs your word", cause=cause, fix=fix)
    sys.stderr.write(f"These commands would run as you on this machine, without a container:\n{listing}\n")
    sys.stderr.write("Run them? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise usage_error("not run", fix="--yes answers for you")


def run_command(command: Sequence[str], options: CommandOptions, how: World, output: str, *, yes: bool = False) -> int:
    """Run one command here; its exit code is ours."""
    if not command:
        raise usage_error("nothing to run", fix="windward run --duration 2h --deadline 12h -- CMD")
    if yes:
        raise usage_error("--yes is for manifests", fix="leave --yes out: a command of your own is not asked about")
    if options.deadline and not options.duration:
        fix = "add --duration: without it nobody knows how long the start can wait"
        raise usage_error("--deadline without --duration", fix=fix)
    if options.zone:
        check_zone_name(options.zone)
    job, region = _job(command, options), _region(options.zone)
    for body in (job, region):
        _valid(body)
    if options.zone:
        check_zones([options.zone], how.source.open(SystemClock()))
        _say_without_source(how, [options.zone])
    else:
        sys.stderr.write("no --zone given: starts at once, and grams stay unknown\n")
    if options.zone and not options.duration:
        sys.stderr.write("no --duration given: starts at once; with --duration and --deadline it may wait\n")
    submission = Submission((job,), (region,), _typed(), str(Path.cwd()), not options.name, how.noted)
    cycle, world, uids = drive(submission, how, output=output)
    finish(cycle, world, uids, output)
    codes = [r.exit_code for o in cycle.snapshot.jobs for r in o.runs]
    last = codes[-1] if codes else None
    return last if last is not None else Exit.NOT_STARTED


def _say_without_source(how: World, zones: Iterable[str]) -> None:
    """Real work starts at once where there is only a demonstration to wait for."""
    if not how.real_on_demo:
        return
    better = " or ".join(dict.fromkeys(f"--provider {live_for(z)}" for z in zones))
    sys.stderr.write(
        "no live source of carbon data, only the DEMO TRACE 2022, which real work does not wait on: starts at once,"
        f" and grams stay unknown\nfix:   {better}; to rehearse on the recording: --start 2022-05-11T15:00:00Z\n"
    )


def _valid(body: Body) -> None:
    """What the options make is checked as a manifest is, before anything is written."""
    try:
        checked(json.loads(json.dumps(body)))
    except ValueError as e:
        words = {"metadata.name": "--name", "spec.duration": "--duration", "spec.completeWithin": "--deadline"}
        words |= {"spec.deadline": "--deadline", "spec.power.watts": "--watts", "spec.gridZone": "--zone"}
        what = faults_of(e)[0]
        for field, option in words.items():
            what = what.replace(field, option)
        raise usage_error(what, fix="windward run --help shows the options") from e


def _region(zone: str) -> Body:
    """This machine as a region; without a zone nothing is known of it, and the declared fallback starts at once."""
    name = f"here-{zone.lower().replace('_', '-')}".strip("-")[:63] if zone else "here"
    return {**API, "kind": "GreenRegion", "metadata": {"name": name}, "spec": {"gridZone": zone or UNKNOWN_ZONE}}


def _job(command: Sequence[str], options: CommandOptions) -> Body:
    plain = re.sub(r"[^a-z0-9]+", "-", Path(command[0]).name.lower())[:40].strip("-")
    name = options.name or plain or "command"
    try:
        check_name("--name", name)
    except ValueError as e:
        raise usage_error(str(e), fix="as in --name nightly-train") from e
    container = {"name": "command", "image": "local", "command": list(command), "workingDir": str(Path.cwd())}
    spec: Body = {
        "duration": options.duration or "1h",
        "placement": {"regions": [_region(options.zone)["metadata"]["name"]]},
        "power": {"watts": options.watts or 100},
        "backoffLimit": 0,
        "template": {"spec": {"containers": [container]}},
    }
    if options.duration:
        span(options.duration, "--duration")
    if options.pausable:
        spec["interruption"] = {"policy": "Checkpoint"}
    spec |= _finish_by(options.deadline)
    notes = {TRUSTED: "true"}
    if not options.duration:  # nothing to plan with: metered, not moved
        notes["windward.dev/run-now"] = "true"
    return {**API, "kind": "GreenJob", "metadata": {"name": name, "namespace": "default", "annotations": notes},
            "spec": spec}  # fmt: skip


def _finish_by(deadline: str) -> Body:
    if re.match(r"\d{4}-", deadline):
        return {"deadline": moment(deadline, "--deadline").isoformat()}
    if deadline:
        span(deadline, "--deadline")
    return {"completeWithin": deadline or "1d"}


def _typed() -> str:
    """The command that is running, as it is to be typed again."""
    return shlex.join(["windward", *sys.argv[1:]])


def drive(
    submission: Submission, how: World, board: Board | None = None, output: str = "table"
) -> tuple[Cycle, LocalController, list[str]]:
    """Create the objects, or take up those that wait, and turn the controller until their jobs have ended."""
    world = how.open()
    try:
        uids = world.admit(submission)
    except NameInUse as e:
        world.close()
        raise _in_use(e) from e
    board = board or Board(world.home, streams=output != "json")
    try:
        cycle = world.drive(uids, on_cycle=board.show)
    except KeyboardInterrupt:
        board.close()
        _interrupted(world, uids, submission)
        raise
    finally:
        board.close()
    if bad := [b for b in cycle.snapshot.bad if b.kind == "GreenJob"]:
        fix = f"windward cancel {bad[0].name}, and submit it again"
        raise CliError(f"{bad[0].key} cannot be read any more", cause=bad[0].message, fix=fix)
    if not cycle.snapshot.jobs:
        raise CliError("the job is gone: somebody cancelled it", fix=submission.command or "run it again")
    return cycle, world, uids


def _in_use(e: NameInUse) -> CliError:
    """Why a name cannot be had; nothing was changed."""
    meta = e.body["metadata"]
    notes = meta.get("annotations") or {}
    command = command_to_resume(notes, Path.cwd())
    cause = "another windward drives it" if e.driven else "it has not ended, and its work or regions are others"
    cause += f": {command}" if command else ""
    name = meta["name"]
    where = f" -n {meta['namespace']}" if meta["namespace"] != "default" else ""
    fix = f"use another name, or give this one up: windward cancel {name}{where}"
    if e.driven and e.same:
        fix = f"wait for it: windward why {name}{where}; or use another name"
    return usage_error(f"the name {e} is in use; nothing was changed", cause=cause, fix=fix)


def _interrupted(world: LocalController, uids: Sequence[str], submission: Submission) -> None:
    """Say what becomes of the jobs, and pause what runs."""
    command = submission.command or "the same command"
    for uid in uids:
        body = next((b for b in world.store.all("GreenJob") if b["metadata"]["uid"] == uid), None)
        if body is None:
            continue
        pauses = (body["spec"].get("interruption") or {}).get("policy") == InterruptionPolicy.CHECKPOINT
        ran = bool(world.store.runs.of_job(uid))
        if not ran:
            outcome = f"not started; goes on waiting with: {command}"
        elif pauses:
            outcome = f"pausing: writes its checkpoint, and goes on from there with: {command}"
        else:
            outcome = f"stopping: it may not pause, and starts anew with: {command}"
        sys.stderr.write(shown(f"{body['metadata']['name']}: {outcome}") + "\n")
    world.pause(uids)
    world.close()


def finish(cycle: Cycle, world: LocalController, uids: Sequence[str], output: str) -> int:
    """Print the receipts; 0 when all jobs are complete."""
    receipts = [world.ledger.receipt_history(uid)[-1:] for uid in uids]
    ok = all(_complete(o) for o in cycle.snapshot.jobs)
    if output == "json":
        items = [{**r.body, "sha256": r.sha256} for rs in receipts for r in rs]
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ReceiptList", "items": items}, indent=2))
    else:
        for r in (r for rs in receipts for r in rs):
            print(card(r.body, r.sha256))
    for o in cycle.snapshot.jobs:
        if not _complete(o):
            failed = next((c for c in o.job.status.conditions if c.type == "Failed"), None)
            line = f"failed: {o.key}: {failed.message if failed else o.job.status.summary.reason}"
            sys.stderr.write(shown(line) + "\n")
    world.close()
    return Exit.OK if ok else Exit.FAILED


def _complete(o: Observed) -> bool:
    return any(c.type == "Complete" and c.status == "True" for c in o.job.status.conditions)
