"""Whoever outlives its supervisor is found and ended; what was lost is booked until its last sign of life."""

import os
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from local.test_local_cluster import Machine, job_body

from windward.cluster import processes
from windward.domain.run import Phase
from windward.lifecycle.accounting import energy_of_run
from windward.manifests import RunFacts
from windward.service.sync_regions import regions_of

# A grandchild that leaves the family in three ways, and what its parent does then.
DETACHED = """
import os, sys, time
way, then = sys.argv[1:]
if os.fork() == 0:
    if way != "child": os.setsid()
    if way == "twice" and os.fork(): os._exit(0)
    open(os.environ["WINDWARD_CHECKPOINT_DIR"] + "/up", "w").write(str(os.getpid()))
    if way == "stubborn":
        import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    os._exit(0)
while not os.path.exists(os.environ["WINDWARD_CHECKPOINT_DIR"] + "/up"): time.sleep(0.01)
if then == "stay": time.sleep(600)
sys.exit(int(then))
"""
WAYS = ["child", "session", "twice", "stubborn"]


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    for body in made.store.all("GreenJob"):
        made.cluster.delete_job("default", body["metadata"]["name"])
    made.cluster.close()


def detached(machine, way, then="stay"):
    """A run whose grandchild is up; its row, and the grandchild."""
    machine.apply(job_body(command=[sys.executable, "-c", DETACHED, way, then]))
    machine.start()
    up = machine.checkpoint() / "up"
    for _ in range(1000):
        if up.exists() and up.read_text():
            return machine.rows()[0], int(up.read_text())
        time.sleep(0.01)
    raise AssertionError("the grandchild did not come up")


def living(token):
    return [process.pid for process in processes.of_run(token)]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_supervisor_left_is_ended_and_told(machine, way):
    row, grandchild = detached(machine, way)
    machine.kill()
    run = machine.ended(Phase.LOST)
    assert processes.started(grandchild) is None and living(row.token) == []
    assert "that its dead supervisor left" in run.message
    machine.cluster.close()
    machine.cluster = machine.command()
    again = machine.seen().runs[-1]
    assert (again.message, again.finished_at) == (run.message, run.finished_at), "the next command says the same"


@pytest.mark.parametrize("way", WAYS)
def test_the_next_attempt_starts_only_when_nothing_of_the_last_lives(machine, way):
    """Nobody looked in between: creating the run is what clears the way."""
    row, grandchild = detached(machine, way)
    job = machine.cluster.claim_attempt(machine.seen(), 2, "here")
    machine.kill()
    os.waitpid(row.pid, 0)
    assert processes.started(grandchild) is not None, "else there is nothing to find"
    machine.cluster.create_run(RunFacts(job, 2, machine.cluster.snapshot().regions[0]))
    assert processes.started(grandchild) is None and living(row.token) == []
    first, second = machine.seen().runs
    assert "left" in first.message and second.phase is Phase.RUNNING


@pytest.mark.parametrize("way", WAYS)
def test_the_supervisor_ends_with_all_of_its_run(machine, way):
    row, grandchild = detached(machine, way, then="0")
    run = machine.ended(Phase.SUCCEEDED)
    assert processes.started(grandchild) is None and living(row.token) in ([], [row.pid])
    assert run.exit_code == 0 and run.message == ""


def test_a_cancelled_job_leaves_nothing(machine):
    row, grandchild = detached(machine, "twice")
    machine.cluster.delete_job("default", "night")
    assert processes.started(grandchild) is None and living(row.token) == []


def test_only_our_own_processes_are_ended(machine, monkeypatch):
    row, grandchild = detached(machine, "session")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert processes.end_run(row.token) == (0, [])
    monkeypatch.undo()
    assert processes.started(grandchild) is not None
    assert processes.end_run(f"{row.token}1") == (0, []) and processes.end_run(row.token[:-1]) == (0, [])


def test_what_does_not_end_keeps_the_next_attempt_back(machine, monkeypatch):
    from windward.cluster.port import Refused

    row, grandchild = detached(machine, "session")
    job = machine.cluster.claim_attempt(machine.seen(), 2, "here")
    machine.kill()
    os.waitpid(row.pid, 0)
    monkeypatch.setattr(processes, "end_run", lambda token: (1, [grandchild]))
    with pytest.raises(Refused, match=str(grandchild)):
        machine.cluster.create_run(RunFacts(job, 2, machine.cluster.snapshot().regions[0]))
    assert len(machine.rows()) == 1


def test_a_lost_run_is_booked_until_it_was_last_alive(machine):
    """It writes nothing: only its supervisor's signs of life and our looks say how long it ran."""
    machine.apply(job_body(command=["sleep", "600"], power={"watts": 200}))
    machine.start()
    begun = time.monotonic()
    machine.until(lambda _: time.monotonic() - begun > 4.5)
    machine.kill()
    run = machine.ended(Phase.LOST)
    ran_s = (run.finished_at - run.started_at).total_seconds()
    assert 2.0 < ran_s < time.monotonic() - begun + 0.5
    regions = regions_of(machine.cluster.snapshot().regions)
    rows = energy_of_run(machine.seen(), run, regions["here"], machine.clock.now())
    assert sum(r.joules for r in rows) == pytest.approx(200 * ran_s)


def test_nobody_looked_and_it_is_booked_all_the_same(machine):
    machine.apply(job_body(command=["sleep", "600"]))
    machine.start()
    time.sleep(4.5)
    machine.kill()
    assert (run := machine.ended(Phase.LOST)).finished_at - run.started_at > timedelta(seconds=2)


@pytest.mark.parametrize(
    ("seen_s", "ran_s"), [(None, 0.0), (-50.0, 0.0), (3.0, 3.0), (9000.0, 60.0)],
)  # fmt: skip
def test_the_last_sign_of_life_is_neither_before_the_start_nor_to_come(machine, seen_s, ran_s):
    machine.apply(job_body(command=["sleep", "600"]))
    machine.start()
    machine.kill()
    machine.ended(Phase.LOST)
    row = machine.rows()[0]
    begun = machine.cluster.real.now() - timedelta(seconds=60)
    for name in ("alive", "log", "progress.json"):
        if (row.folder / name).exists():
            os.utime(row.folder / name, (begun.timestamp() - 100,) * 2)
    seen = None if seen_s is None else begun + timedelta(seconds=seen_s)
    at = machine.cluster.supervisors.last_alive(replace(row, started_real=begun, seen_real=seen))
    assert (at - begun).total_seconds() == pytest.approx(ran_s, abs=1.0)


def test_a_pause_ends_what_the_command_left_in_the_background(machine):
    script = "trap 'exit 75' TERM; touch $WINDWARD_CHECKPOINT_DIR/up; setsid sleep 600 & wait"
    machine.apply(job_body(command=["sh", "-c", script]))
    job = machine.start()
    machine.until(lambda _: (machine.checkpoint() / "up").exists())
    machine.cluster.stop_run(job, machine.rows()[0].name)
    run = machine.ended(Phase.PAUSED)
    assert run.exit_code == 75 and living(machine.rows()[0].token) in ([], [machine.rows()[0].pid])
