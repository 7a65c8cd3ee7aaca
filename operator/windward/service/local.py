"""The conductor's loop on one machine, without Kubernetes: for `windward run`, `apply --local` and `demo`."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windward.cluster.local import LocalCluster
from windward.cluster.locks import Locks
from windward.cluster.parse import read_job
from windward.cluster.port import BadObject
from windward.cluster.store import Store, is_rehearsal
from windward.domain.observed import Observed
from windward.domain.run import Phase
from windward.grid.ahead import Ahead
from windward.grid.cache import Grid
from windward.grid.port import Provider
from windward.ledger.port import Ledger, open_ledger
from windward.service.clock import SystemClock, WarpedClock
from windward.service.conductor import Conductor, Cycle
from windward.service.no_live_source import NoLiveSource
from windward.service.providers import provider_of

STEP = timedelta(hours=1)  # a leap is no longer than this, so that newer forecasts are still looked at on the way
TURN_S = 0.5
PAST = timedelta(days=3)

# Annotations of a job of this machine: what submitted it, and where.
COMMAND = "windward.dev/command"
FOLDER = "windward.dev/folder"
SOURCE = "windward.dev/source"  # where its intensities come from, for a later command

Body = dict[str, Any]


def state_home() -> Path:
    """Where local state lives: `WINDWARD_HOME`, else `$XDG_STATE_HOME/windward`, else `~/.local/state/windward`."""
    given = os.environ.get("WINDWARD_HOME")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "windward"


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs that are to run here, with the regions that they name.

    Attributes:
        command: what submitted them, as it is to be typed again; '' where nobody could.
        source: where the jobs' intensities come from (`settling.source_note`); '' where no source was chosen.
        any_name: the jobs' names were not chosen by the user: where one is taken, another is found.
    """

    jobs: tuple[Mapping[str, Any], ...]
    regions: tuple[Mapping[str, Any], ...]
    command: str = ""
    folder: str = ""
    any_name: bool = False
    source: str = ""


class NameInUse(Exception):
    """A job of this name has not ended, and is another, or somebody drives it; nothing was changed."""

    def __init__(self, body: Mapping[str, Any], *, driven: bool, same: bool) -> None:
        meta = body["metadata"]
        super().__init__(f"{meta['namespace']}/{meta['name']}")
        self.body, self.driven, self.same = body, driven, same


@dataclass
class LocalWorld:
    """State, clock and book of one machine, and the conductor over them.

    Attributes:
        home: folder of everything.
        clock: planned time.
        warped: whether the clock runs faster than the real one, and leaps while nothing runs.
        locks: of the jobs that this process drives.
    """

    home: Path
    store: Store
    ledger: Ledger
    clock: WarpedClock
    warped: bool
    grid: Grid
    real: SystemClock
    _begins: datetime | None = None  # a warped world stands at its start until it is driven
    _live: set[str] = field(default_factory=set)  # runs that had not ended by the last turn

    def __post_init__(self) -> None:
        self.locks = Locks(self.home / "locks")

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        provider: str = "trace",
        trace: Path | None = None,
        start: datetime | None = None,
        speed: float = 1.0,
        made: Provider | None = None,
        rehearses: bool = True,
    ) -> LocalWorld:
        """Open or create the world in `home`.

        Args:
            provider, trace: see `provider_of`; `made` is used instead where given.
            rehearses: demonstration data may decide; real work is not to wait on it.
            start: planned time at which a warped clock begins.
            speed: planned seconds per real second.
        """
        real = SystemClock()
        warped = speed != 1.0 or start is not None
        clock = WarpedClock(real, start or real.now(), speed)
        source = made or provider_of(provider, clock, trace)
        if not rehearses:
            source = NoLiveSource(source)
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = Store(home / "local.db")
        ledger = open_ledger(f"sqlite:///{home / 'book.db'}")
        grid = Grid(source, ledger, past=PAST, ahead=Ahead(source), background=False)
        return cls(home, store, ledger, clock, warped, grid, real, start)

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> list[str]:
        """Create or update objects, whoever drives them; returns the uids of the GreenJobs among them."""
        uids = []
        for body in objects:
            stored = self.store.apply(body, self._begins or self.clock.now())
            if body["kind"] == "GreenJob":
                uids.append(stored["metadata"]["uid"])
        return uids

    def admit(self, submission: Submission) -> list[str]:
        """Make the jobs ours, all or none: new ones are created, each with a copy of its regions; one that waits here
        with the same work goes on, with the clock that it was driven by; one that ended makes room (its accounts stay
        in the book). Returns their uids, in order.

        Raises:
            NameInUse: a job of a name that the user chose has not ended, and somebody drives it or its work is another.
        """
        with self.locks.admission():
            found = [self._admission(job, submission) for job in submission.jobs]
            return [self._enter(old, job, submission) for old, job in found]

    def _admission(self, submitted: Mapping[str, Any], of: Submission) -> tuple[Body | None, Body]:
        """The object that stands in the way of the job or is it, and the job under its final name. Writes nothing."""
        job: Body = json.loads(json.dumps(submitted))
        meta = job["metadata"]
        there = {
            b["metadata"]["name"]: b
            for b in self.store.all("GreenJob")
            if b["metadata"]["namespace"] == meta.get("namespace", "default")
        }
        base = meta["name"]
        names = [base, *(f"{base}-{i}" for i in range(2, len(there) + 3))] if of.any_name else [base]
        for name in names:  # the same work that waits goes first
            old = there.get(name)
            if old is not None and not _ended(old) and self._same(old, job, of.regions):
                if self.locks.take(old["metadata"]["uid"]):
                    return old, {**job, "metadata": {**meta, "name": name}}
                if not of.any_name:
                    raise NameInUse(old, driven=True, same=True)
        for name in names:
            old = there.get(name)
            if old is None or (_ended(old) and not self.locks.driven(old["metadata"]["uid"])):
                return old, {**job, "metadata": {**meta, "name": name}}
        blocking = there[base]
        raise NameInUse(blocking, driven=self.locks.driven(blocking["metadata"]["uid"]), same=False)

    def _same(self, old: Body, job: Body, regions: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a job that was stored is the work that is submitted now; a hold since then does not count."""
        kept = {b["metadata"]["name"]: b["spec"] for b in self.store.regions_of([old["metadata"]["uid"]])}
        given = {b["metadata"]["name"]: json.loads(json.dumps(b["spec"])) for b in regions}
        needed = {name: kept.get(name) for name in given}
        return _work(old) == _work(job) and needed == given

    def _enter(self, old: Body | None, job: Body, of: Submission) -> str:
        """Create the job, or take up the one that waits."""
        if old is not None:
            uid = str(old["metadata"]["uid"])
            if not _ended(old):
                self.resume_clock(uid)
                return uid
            self.store.delete_job(old["metadata"]["namespace"], old["metadata"]["name"], uid)
        notes = {k: v for k, v in ((COMMAND, of.command), (FOLDER, of.folder), (SOURCE, of.source)) if v}
        meta = job["metadata"]
        given = {k: v for k, v in (meta.get("annotations") or {}).items() if k != SOURCE}  # no file names our source
        annotations = {**given, **notes}
        at = self._begins or self.clock.now()
        stored = self.store.apply({**job, "metadata": {**meta, "annotations": annotations}}, at)
        uid = str(stored["metadata"]["uid"])
        for region in of.regions:
            self.store.apply({**region, "metadata": {**region["metadata"], "namespace": uid}}, at)
        self.locks.take(uid)
        return uid

    def pause(self, uids: Sequence[str], patience_s: float = 60.0) -> None:
        """Ask what runs for its checkpoint, and wait for it."""
        cluster = self._cluster(uids)
        for _ in range(int(patience_s / 0.2)):
            live = [(o.job, r) for o in cluster.snapshot().jobs for r in o.live]
            if not live:
                return
            for job, run in live:
                if run.phase is not Phase.STOPPING:
                    cluster.stop_run(job, run.name)
            self.real.sleep(0.2)

    def _cluster(self, uids: Sequence[str]) -> LocalCluster:
        return LocalCluster(self.store, self.home, self.clock, self.real, self.clock.speed, frozenset(uids), self.locks)

    def resume_clock(self, uid: str) -> None:
        """Take up the planned time where a job's last driver left it: the world stood still while nobody looked,
        unless its run went on."""
        saved = self.store.clock(uid)
        if saved is None:
            return
        sim, real, speed = saved
        went_on = any(o.live for o in self._cluster([uid]).snapshot().jobs)
        if not is_rehearsal(sim, real, speed):
            return  # it was driven by the real time, which does not stand still
        self.clock = WarpedClock(self.real, sim, speed, real if went_on else self.real.now())
        self._begins = None
        self.warped = self.warped or speed != 1.0

    def drive(
        self,
        uids: Sequence[str],
        *,
        on_cycle: Callable[[Cycle], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Cycle:
        """Turn the conductor until the jobs `uids` have ended, or `stop` says so. Returns the last turn."""
        cluster = self._cluster(uids)
        conductor = Conductor(cluster, self.grid, self.ledger, self.clock)
        if self._begins is not None:
            self.clock.restart()
            self._begins = None
        while True:
            cycle = self._turn(cluster, conductor)
            for uid in uids:
                self.store.save_clock(uid, self.clock.now(), self.real.now(), self.clock.speed)
            on_cycle(cycle)
            if stop() or not cycle.snapshot.jobs or all(o.ended for o in cycle.snapshot.jobs):
                return cycle
            self._pass_time(cycle)

    def _turn(self, cluster: LocalCluster, conductor: Conductor) -> Cycle:
        """One turn of the conductor. Under a fast clock it takes no planned time while nothing runs: the clock stands
        where the last run ended, and goes on from where the next one begins."""
        warps = self.clock.speed != 1.0
        if warps and not self._live:
            self.clock.hold()
        before, seen = self.real.now(), cluster.snapshot()
        runs = [r for o in seen.jobs for r in o.runs]
        if warps and not any(r.phase.live for r in runs):
            # Its supervisor takes a moment to tell that a run has ended: in planned time that would be minutes.
            told = [r for r in runs if r.name in self._live and r.exit_code is not None]
            self.clock.hold(max((r.finished_at for r in told if r.finished_at is not None), default=None))
        try:
            self.grid.refresh(conductor.zones(seen.regions), self.clock.now())
            cluster.keep(seen)
            return conductor.cycle()
        finally:
            rows = [row for o in seen.jobs for row in self.store.runs.of_job(o.uid)]
            self._live = {row.name for row in rows} - {r.name for r in runs if not r.phase.live}
            self.clock.go_on(min((row.started_real for row in rows if row.started_real >= before), default=None))

    def _pass_time(self, cycle: Cycle) -> None:
        """Wait for the next turn; a warped clock leaps while nothing runs, so that nobody waits for an empty night."""
        busy = any(o.live for o in cycle.snapshot.jobs) or any(cycle.actions.values())
        due = cycle.wake_at
        if self.warped and not busy and due is not None:
            now = self.clock.now()
            next_hour = now.replace(minute=0, second=0, microsecond=0) + STEP
            self.clock.leap(min(due, next_hour))
            return
        wait_s = TURN_S if not self.warped else TURN_S / 2
        if due is not None:
            wait_s = min(wait_s, max(0.02, self.clock.real_seconds(due - self.clock.now())))
        self.real.sleep(wait_s)

    def close(self) -> None:
        """Let go of the jobs, whose runs go on, and of the files."""
        self.locks.release()
        self.store.close()
        self.grid.close()
        self.ledger.close()


def go_on(annotations: Mapping[str, str], folder: Path) -> str:
    """The command that goes on with a job, as it is to be typed in `folder`; '' where nobody knows."""
    command, where = annotations.get(COMMAND, ""), annotations.get(FOLDER, "")
    moved = command and where and where != str(folder)
    return f"cd {shlex.quote(where)} && {command}" if moved else command


def _ended(body: Body) -> bool:
    """Whether a stored job is over; one that cannot be read any more is."""
    job = read_job(body)
    return isinstance(job, BadObject) or Observed(job).ended


def _work(body: Mapping[str, Any]) -> Body:
    return {k: v for k, v in body["spec"].items() if k != "suspend"}
