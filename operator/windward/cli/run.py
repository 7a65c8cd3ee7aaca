"""`windward run` and `windward apply --local`: the conductor on this machine, until the jobs have ended."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windward.cli.errors import CliError, Exit
from windward.cli.manifest_files import read_objects
from windward.cli.progress import Board
from windward.cli.receipt import card
from windward.cli.sources import moment
from windward.domain.observed import Observed
from windward.grid.port import ProviderError
from windward.ledger.port import LedgerError
from windward.service.conductor import Cycle
from windward.service.local import LocalWorld, state_home

Bodies = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class World:
    """How the local world is opened: source of carbon data, and its clock."""

    provider: str = "trace"
    trace: Path | None = None
    speed: float = 1.0
    start: str = ""
    home: Path | None = None

    def open(self) -> LocalWorld:
        """Open it.

        Raises:
            CliError: the state, the book or the trace cannot be opened.
        """
        try:
            start = moment(self.start, "--start") if self.start else None
            home = self.home or state_home()
            return LocalWorld.open(home, provider=self.provider, trace=self.trace, start=start, speed=self.speed)
        except (ProviderError, LedgerError, ValueError, OSError) as e:
            raise CliError("the local state cannot be opened", cause=str(e), fix="windward doctor") from e


def run_files(files: Sequence[Path], how: World, output: str) -> int:
    """Run the GreenJobs of the files here."""
    objects = read_objects(files)
    if objects.crons:
        names = ", ".join(c.metadata.name for c in objects.crons)
        fix = "apply it to a cluster, or run its GreenJob with `windward run -f`"
        raise CliError(f"GreenCronJob {names}: this command ends with its jobs", fix=fix, code=Exit.USAGE)
    if not objects.jobs:
        raise CliError("no GreenJob in the files", fix="add one, or see examples/", code=Exit.USAGE)
    cycle, world, uids = drive(list(objects.bodies), how)
    return finish(cycle, world, uids, output)


def run_command(
    command: Sequence[str],
    duration: str,
    deadline: str,
    zone: str,
    watts: int,
    name: str,
    how: World,
    output: str,
    *,
    pausable: bool,
) -> int:
    """Run one command here; its exit code is ours."""
    if not command:
        raise CliError("nothing to run", fix="windward run --duration 2h --deadline 12h -- CMD", code=Exit.USAGE)
    if deadline and not duration:
        fix = "add --duration: without it nobody knows how long the start can wait"
        raise CliError("--deadline without --duration", fix=fix, code=Exit.USAGE)
    if not zone:
        sys.stderr.write("no --zone given: starts at once, and grams stay unknown\n")
    bodies = [_region(zone), _job(command, duration, deadline, watts, name, pausable=pausable)]
    cycle, world, uids = drive(bodies, how)
    finish(cycle, world, uids, output)
    codes = [r.exit_code for o in cycle.snapshot.jobs for r in o.runs]
    last = codes[-1] if codes else None
    return last if last is not None else 125


def _region(zone: str) -> dict[str, Any]:
    """This machine as a region; without a zone nothing is known of it, and the declared fallback starts at once."""
    return {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenRegion",
        "metadata": {"name": f"here-{zone.lower().replace('_', '-')}" if zone else "here"},
        "spec": {"gridZone": zone or "unknown"},
    }


def _job(
    command: Sequence[str], duration: str, deadline: str, watts: int, name: str, *, pausable: bool
) -> dict[str, Any]:
    plain = re.sub(r"[^a-z0-9]+", "-", Path(command[0]).name.lower()).strip("-")[:40]
    spec: dict[str, Any] = {
        "duration": duration or "1h",
        "placement": {"regions": ["here"]},
        "power": {"watts": watts},
        "backoffLimit": 0,
        "template": {"spec": {"containers": [{"name": "command", "image": "local", "command": list(command)}]}},
    }
    metadata: dict[str, Any] = {"name": name or plain or "command", "namespace": "default"}
    if pausable:
        spec["interruption"] = {"policy": "Checkpoint"}
    if "T" in deadline:
        spec["deadline"] = deadline
    else:
        spec["completeWithin"] = deadline or "1d"
    if not duration:  # nothing to plan with: metered, not moved
        metadata["annotations"] = {"windward.dev/run-now": "true"}
    return {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": metadata, "spec": spec}


def drive(bodies: Bodies, how: World, board: Board | None = None) -> tuple[Cycle, LocalWorld, list[str]]:
    """Create the objects and turn the conductor until their jobs have ended."""
    world = how.open()
    regions = {b["metadata"]["name"] for b in bodies if b["kind"] == "GreenRegion"}
    for body in bodies:
        if body["kind"] == "GreenJob":
            _here(body, regions)
            world.renew(body)
    uids = world.apply(bodies)
    board = board or Board()
    try:
        cycle = world.drive(uids, on_cycle=board.show)
    except KeyboardInterrupt:
        board.close()
        sys.stderr.write("\npausing: the same command goes on from here\n")
        world.pause(uids)
        raise
    finally:
        board.close()
    if not cycle.snapshot.jobs:
        fix = "wait for it, or use another --name"
        raise CliError("another windward drives this job, or it cannot be read", fix=fix)
    return cycle, world, uids


def _here(body: dict[str, Any], regions: set[str]) -> None:
    """`windward run -- CMD` names its region after its zone."""
    placement = body["spec"]["placement"]
    if placement["regions"] == ["here"] and "here" not in regions:
        placement["regions"] = sorted(regions)


def finish(cycle: Cycle, world: LocalWorld, uids: Sequence[str], output: str) -> int:
    """Print the receipts; 0 when all jobs are complete."""
    receipts = [world.ledger.receipt_history(uid)[-1:] for uid in uids]
    ok = all(_complete(o) for o in cycle.snapshot.jobs)
    if output == "json":
        items = [{**r.body, "sha256": r.sha256} for rs in receipts for r in rs]
        print(json.dumps({"apiVersion": "cli.windward.dev/v1", "kind": "ReceiptList", "items": items}, indent=2))
    else:
        for rs in receipts:
            for r in rs:
                print(card(r.body, r.sha256))
    for o in cycle.snapshot.jobs:
        if not _complete(o):
            failed = next((c for c in o.job.status.conditions if c.type == "Failed"), None)
            sys.stderr.write(f"failed: {o.key}: {failed.message if failed else o.job.status.summary.reason}\n")
            if o.runs:
                sys.stderr.write(f"log:    {shlex.quote(str(world.home / 'runs' / o.runs[-1].name / 'log'))}\n")
    world.close()
    return Exit.OK if ok else Exit.FAILED


def _complete(o: Observed) -> bool:
    return any(c.type == "Complete" and c.status == "True" for c in o.job.status.conditions)
