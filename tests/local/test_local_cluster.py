"""`LocalCluster` keeps the port's promises with real processes: once, resumable, adopted, and lost without a word.

Nothing here waits a fixed time: `until` turns until a state is seen, with a generous limit against hanging for ever.
"""

import os
import signal
import sqlite3
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from windward.cluster.local import LocalCluster
from windward.cluster.port import AttemptConflict, Refused
from windward.cluster.run_table import RunRow
from windward.cluster.store import Store
from windward.domain.clock import FixedClock
from windward.domain.observed import Event
from windward.domain.run import Phase
from windward.manifests import RunFacts
from windward.service.clock import SystemClock
from windward.service.local import LocalController
from windward_api.greenjob import GreenJob

T0 = datetime(2022, 5, 11, 15, tzinfo=UTC)
# Counts in its checkpoint folder, says how far it is, and pauses by the contract. `hold` keeps it from ending.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(os.environ["WINDWARD_CHECKPOINT_DIR"]); mark = folder / "n"; goal = int(sys.argv[1])
n = int(mark.read_text()) if mark.exists() else 0
with (folder / "starts").open("a") as f: f.write(f"{n}\\n")
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
def told(kind, **more):
    p = Path(os.environ["WINDWARD_" + kind + "_FILE"]); t = p.with_suffix(".tmp")
    t.write_text(json.dumps(more)); t.replace(p)
while n < goal or (folder / "hold").exists():
    n = min(n + 1, goal); mark.write_text(str(n))
    told("PROGRESS", fraction=n / goal)
    if asked: sys.exit(75)
    time.sleep(0.02)
"""
REGION = {"kind": "GreenRegion", "metadata": {"name": "here"}, "spec": {"gridZone": "DE"}}


def job_body(name="night", steps=3, command=None, **spec):
    command = command or [sys.executable, "-c", SCRIPT, str(steps)]
    whole = {
        "completeWithin": "12h", "duration": "1h", "placement": {"regions": ["here"]},
        "interruption": {"policy": "Checkpoint"},
        "template": {"spec": {"containers": [{"name": "main", "command": command}]}},
    } | spec  # fmt: skip
    return {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": {"name": name}, "spec": whole}


OLD_RUNS = """CREATE TABLE runs (
  name TEXT PRIMARY KEY, uid TEXT NOT NULL, attempt INTEGER NOT NULL, region TEXT NOT NULL,
  token TEXT NOT NULL, folder TEXT NOT NULL, time_scale REAL NOT NULL,
  started_at TEXT NOT NULL, started_real TEXT NOT NULL,
  pid INTEGER, pid_started TEXT, told_real TEXT)"""


class Machine:
    """One laptop: a folder, and commands that come and go."""

    def __init__(self, home: Path):
        self.home, self.store, self.clock = home, Store(home / "local.db"), FixedClock(T0)
        self.store.apply(REGION, T0)
        self.cluster = self.command()

    def command(self):
        return LocalCluster(self.store, self.home, self.clock, SystemClock())

    def apply(self, body):
        self.store.apply(body, T0)
        return self.seen(body["metadata"]["name"])

    def seen(self, name="night"):
        return next(o for o in self.cluster.snapshot().jobs if o.job.metadata.name == name)

    def start(self, attempt=1, name="night"):
        seen = self.seen(name)
        job = self.cluster.claim_attempt(seen, attempt, "here")
        self.cluster.create_run(RunFacts(job, attempt, self.cluster.snapshot().regions[0]))
        return job

    def until(self, reached, name="night"):
        """Look until `reached(last run)`; the limit only ends a test that hangs."""
        pause = threading.Event()
        for _ in range(1500):
            run = self.seen(name).runs[-1]
            if reached(run):
                return run
            pause.wait(0.02)
        raise AssertionError(f"still {run}; log: {self.log(run.name)}")

    def ended(self, *phases, name="night"):
        return self.until(lambda r: r.phase in (phases or (Phase.SUCCEEDED,)) and not r.phase.live, name)

    def works(self, name="night"):
        return self.until(lambda r: r.progress is not None, name)

    def log(self, run):
        return (self.home / "runs" / run / "log").read_text()

    def checkpoint(self, name="night"):
        uid = self.store.get("GreenJob", "default", name)["metadata"]["uid"]
        return self.home / "storage/default/checkpoints" / f"{name}-{uid[:8]}"

    def rows(self, name="night"):
        return self.store.runs.of_job(self.store.get("GreenJob", "default", name)["metadata"]["uid"])

    def kill(self, name="night"):
        os.kill(self.rows(name)[-1].pid, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    for body in made.store.all("GreenJob"):
        made.cluster.delete_job("default", body["metadata"]["name"])
    made.cluster.close()


def held(machine, steps=5, **spec):
    """A job whose process goes on until `hold` is removed."""
    machine.apply(job_body(steps=steps, **spec))
    machine.checkpoint().mkdir(parents=True)
    (machine.checkpoint() / "hold").touch()


def test_a_run_keeps_its_level_over_commands_and_files_of_older_versions(tmp_path):
    with sqlite3.connect(tmp_path / "local.db") as old:
        old.execute(OLD_RUNS)
        row = ("old-1", "u", 1, "here", "t", "/x", 1.0, T0.isoformat(), T0.isoformat(), None, None, None)
        old.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.close()
    machine = Machine(tmp_path)
    level = {"name": "slow", "watts": 90, "capWatts": 95, "duration": "2h"}
    show = [
        sys.executable,
        "-c",
        "import os; print(os.environ['WINDWARD_POWER_LEVEL'], os.environ['WINDWARD_POWER_CAP_WATTS'])",
    ]
    machine.apply(job_body(command=show, power={"watts": 100, "levels": [level]}))
    job = machine.cluster.claim_attempt(machine.seen(), 1, "here")
    machine.cluster.create_run(RunFacts(job, 1, machine.cluster.snapshot().regions[0], level="slow"))
    run = machine.ended()
    assert run.level == "slow" and "slow 95" in machine.log(run.name)
    machine.cluster.close()
    again = Machine(tmp_path)
    assert again.seen().runs[-1].level == "slow" and again.store.runs.of_job("u")[0].level == ""
    again.cluster.close()


def test_created_twice_it_runs_once(machine):
    machine.apply(job_body())
    job = machine.start()
    pid = machine.rows()[0].pid
    for _ in range(3):
        machine.cluster.create_run(RunFacts(job, 1, machine.cluster.snapshot().regions[0]))
    assert len(machine.rows()) == 1 and machine.rows()[0].pid == pid
    run = machine.ended()
    assert (run.exit_code, run.attempt, run.region) == (0, 1, "here")
    assert run.report is not None and run.report.progress.fraction == 1.0 and run.report.energy is not None
    assert (machine.checkpoint() / "starts").read_text() == "0\n"


def test_a_pause_is_a_checkpoint_and_a_resume_goes_on_from_it(machine):
    held(machine)
    job = machine.start()
    machine.works()
    machine.cluster.stop_run(job, machine.rows()[0].name)
    machine.cluster.stop_run(job, machine.rows()[0].name)
    run = machine.ended(Phase.PAUSED)
    assert run.exit_code == 75 and run.message == ""
    kept = int((machine.checkpoint() / "n").read_text())
    assert kept > 0
    (machine.checkpoint() / "hold").unlink()
    machine.start(2)
    assert machine.ended().attempt == 2
    assert (machine.checkpoint() / "starts").read_text() == f"0\n{kept}\n"


def test_a_killed_process_is_lost_and_started_again(machine):
    held(machine)
    machine.start()
    machine.works()
    machine.kill()
    run = machine.ended(Phase.LOST)
    assert run.exit_code is None and run.finished_at is not None and "without a word" in run.message
    (machine.checkpoint() / "hold").unlink()
    machine.start(2)
    assert machine.ended().attempt == 2


def test_the_supervisors_child_does_not_outlive_it(machine):
    held(machine, command=[sys.executable, "-c", "import os; print(os.getpid(), flush=True)\n" + SCRIPT, "5"])
    machine.start()
    machine.works()
    child = int(machine.log(machine.rows()[0].name).split()[0])
    machine.kill()
    machine.ended(Phase.LOST)
    pause = threading.Event()
    for _ in range(500):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        pause.wait(0.01)
    raise AssertionError("the work runs on without its supervisor")


def test_the_end_of_a_lost_run_stands_still(machine):
    """Else it is never final, and its energy never in the book."""
    machine.apply(job_body(command=[sys.executable, "-c", "import time; time.sleep(600)"]))
    machine.start()
    machine.kill()
    first = machine.ended(Phase.LOST)
    threading.Event().wait(0.05)
    assert machine.seen().runs[-1].finished_at == first.finished_at


def test_the_next_command_adopts_what_runs(machine):
    held(machine)
    machine.start()
    before = machine.works()
    machine.cluster.close()
    machine.cluster = machine.command()
    after = machine.seen().runs[-1]
    assert (after.phase, after.name, after.pod_uid, after.started_at) == (
        Phase.RUNNING, before.name, before.pod_uid, before.started_at,
    )  # fmt: skip
    (machine.checkpoint() / "hold").unlink()
    assert machine.ended().attempt == 1


def test_two_commands_never_drive_one_job(machine):
    machine.apply(job_body())
    other = machine.command()
    assert other.snapshot().jobs == ()
    machine.cluster.close()
    assert len(other.snapshot().jobs) == 1
    assert machine.cluster.snapshot().jobs == ()
    other.close()


def test_everything_killed_and_then_resumed(machine):
    held(machine)
    machine.start()
    machine.works()
    machine.kill()
    machine.cluster.close()
    machine.store = Store(machine.home / "local.db")  # a new command after a power cut
    machine.cluster = machine.command()
    assert machine.ended(Phase.LOST).attempt == 1
    (machine.checkpoint() / "hold").unlink()
    kept = (machine.checkpoint() / "n").read_text()
    machine.start(2)
    assert machine.ended().attempt == 2
    assert (machine.checkpoint() / "starts").read_text() == f"0\n{kept}\n"


def test_a_crash_before_the_pid_was_noted_is_made_up_for(machine):
    held(machine)
    machine.start()
    machine.works()
    pid = machine.rows()[0].pid
    machine.cluster.close()
    machine.store._database.execute("UPDATE runs SET pid = NULL, pid_started = NULL")
    machine.cluster = machine.command()
    assert machine.seen().runs[-1].phase is Phase.RUNNING
    assert machine.rows()[0].pid == pid


def test_a_run_whose_process_was_not_noted_is_paused_all_the_same(machine):
    held(machine)
    job = machine.start()
    machine.works()
    machine.store._database.execute("UPDATE runs SET pid = NULL, pid_started = NULL")
    machine.cluster.stop_run(job, machine.rows()[0].name)
    assert machine.ended(Phase.PAUSED).exit_code == 75


def test_a_crash_before_the_process_was_started_is_a_lost_run(machine):
    seen = machine.apply(job_body())
    job = machine.cluster.claim_attempt(seen, 1, "here")
    folder = machine.home / "runs/x"
    folder.mkdir(parents=True)
    row = RunRow(
        "night-x-1", job.metadata.uid, 1, "here", f"{job.metadata.uid}-1", folder, 1.0, T0, T0, None, None, None
    )
    assert machine.store.runs.add(row) and not machine.store.runs.add(row)
    assert machine.seen().runs[-1].phase is Phase.LOST
    assert machine.seen().next_attempt == 2


def test_a_stale_claim_is_refused_and_writes_nothing(machine):
    seen = machine.apply(job_body())
    machine.cluster.claim_attempt(seen, 1, "here")
    with pytest.raises(AttemptConflict):
        machine.cluster.claim_attempt(seen, 2, "here")
    assert machine.seen().job.status.attempt == 1
    machine.cluster.delete_job("default", "night")
    with pytest.raises(AttemptConflict):
        machine.cluster.claim_attempt(seen, 2, "here")


@pytest.mark.parametrize(
    ("command", "phase", "code"),
    [
        (["sh", "-c", "exit 3"], Phase.FAILED, 3),
        (["/no/such/program"], Phase.FAILED, 127),
        (["sh", "-c", "kill -9 $$"], Phase.FAILED, 137),
        (["sh", "-c", "exit 75"], Phase.PAUSED, 75),
        (["true"], Phase.SUCCEEDED, 0),
    ],
)
def test_exit_codes_are_the_contracts(machine, command, phase, code):
    machine.apply(job_body(command=command))
    machine.start()
    run = machine.ended(phase)
    assert run.exit_code == code


def test_what_ignores_the_contract_is_paused_and_told_so(machine):
    machine.apply(job_body(command=["sh", "-c", "touch $WINDWARD_CHECKPOINT_DIR/up; exec sleep 600"]))
    job = machine.start()
    machine.until(lambda _: (machine.checkpoint() / "up").exists())  # else the supervisor may not listen yet
    machine.cluster.stop_run(job, machine.rows()[0].name)
    run = machine.ended(Phase.PAUSED)
    assert run.exit_code == 143 and "does not honour the pause contract" in run.message


def test_a_command_in_an_image_is_refused_with_the_field(machine):
    machine.apply(job_body(template={"spec": {"containers": [{"name": "x", "image": "i"}]}}))
    with pytest.raises(Refused, match=r"spec\.template\.spec\.containers\[0\]\.command"):
        machine.start()
    assert machine.rows() == []


def test_an_object_store_is_told_and_no_folder_made(machine, tmp_path):
    names = ("CHECKPOINT_URI", "STORAGE_URI", "CHECKPOINT_DIR", "STORAGE_DIR")
    code = f"import os; print(*(os.environ.get('WINDWARD_' + n) for n in {names!r}))"
    machine.apply(job_body(command=[sys.executable, "-c", code], storage={"uri": f"file://{tmp_path}/objects"}))
    machine.start()
    run = machine.ended()
    uri = f"file://{tmp_path}/objects"
    assert f"{uri}/checkpoints/{machine.checkpoint().name} {uri} None None" in machine.log(run.name)
    assert not machine.checkpoint().exists()


def test_credentials_of_a_cluster_are_refused_with_the_field(machine):
    machine.apply(job_body(storage={"uri": "s3://bucket", "credentialsSecret": "keys"}))
    with pytest.raises(Refused, match=r"^spec\.storage\.credentialsSecret: there is no cluster to read it from"):
        machine.start()
    assert machine.rows() == []


def test_deletion_ends_what_runs_and_is_repeatable(machine):
    held(machine)
    machine.start()
    machine.works()
    row = machine.rows()[0]
    for _ in range(2):
        machine.cluster.delete_job("default", "night")
    assert machine.cluster.snapshot().jobs == () and machine.store.runs.of_job(row.uid) == []
    os.waitpid(row.pid, 0)


def test_statuses_events_and_strangers(machine):
    seen = machine.apply(job_body())
    status = seen.job.status.model_copy(update={"failures": 3})
    for _ in range(2):
        machine.cluster.write_status(seen.job, status, [])
    machine.cluster.write_status(seen.job, status, [Event("Planned", "so")])
    assert machine.seen().job.status.failures == 3
    assert [e[2:] for e in machine.store.events(seen.uid)] == [("Planned", "so")]
    machine.apply(job_body("good"))
    machine.store.apply({**job_body("bad"), "spec": {"duration": "soon"}}, T0)
    shot = machine.cluster.snapshot()
    assert {o.job.metadata.name for o in shot.jobs} == {"night", "good"} and shot.bad[0].name == "bad"
    body = {**job_body("made"), "metadata": {"name": "made", "namespace": "default"}}
    machine.cluster.create_job(body)
    uid = machine.store.get("GreenJob", "default", "made")["metadata"]["uid"]
    machine.cluster.create_job(body)
    assert machine.store.get("GreenJob", "default", "made")["metadata"]["uid"] == uid
    machine.store.delete("GreenJob", "default", "bad")


def test_a_whole_job_through_a_pause_on_the_bundled_trace(tmp_path):
    """Planned hours in real seconds: submitted in the evening, paused over the peak, done before its finish-by."""
    world = LocalController.open(tmp_path, start=T0, speed=3600.0)
    body = job_body(steps=130, completeWithin="40h", duration="3h")
    uids = world.apply([REGION, body])
    uid = uids[0]
    suspended = []

    def on_cycle(cycle):
        runs = next((o.runs for o in cycle.snapshot.jobs), ())
        if not suspended and any(r.progress for r in runs):
            suspended.append(world.clock.now())
            world.store.update("GreenJob", "default", "night", spec={"suspend": True})
        elif len(suspended) == 1 and runs and not runs[-1].phase.live:
            suspended.append(world.clock.now())
            world.store.update("GreenJob", "default", "night", spec={"suspend": False})

    last = world.drive(uids, on_cycle=on_cycle)
    job = GreenJob.model_validate(world.store.get("GreenJob", "default", "night"))
    (observed,) = last.snapshot.jobs
    assert observed.ended and job.status.summary.state == "Complete", job.status.summary
    assert [r.phase for r in observed.runs] == [Phase.PAUSED, Phase.SUCCEEDED]
    assert observed.runs[0].exit_code == 75 and job.status.finished_at <= job.finish_by()
    starts = (tmp_path / "storage/default/checkpoints" / f"night-{uid[:8]}" / "starts").read_text().split()
    assert len(starts) == 2 and int(starts[1]) > 0, "the second run began where the first one stopped"
    rows = world.ledger.energy(uid)
    assert {r.attempt for r in rows} == {1, 2} and all(r.time_scale == 3600.0 for r in rows)
    (receipt,) = world.ledger.receipts(include_demo=True)
    assert receipt.demo and world.ledger.receipts() == [] and "DEMO DATA" in receipt.body["demo"]
    assert receipt.body["energyJoules"] == pytest.approx(sum(r.joules for r in rows))
    world.close()
