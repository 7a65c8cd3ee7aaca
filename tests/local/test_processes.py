"""A run's process is known again by later commands: also where its environment is hidden, or the clock was set."""

import os
import subprocess
import sys
import time

import psutil
import pytest
from local.test_local_cluster import Machine, job_body

from windward.cluster import processes
from windward.cluster.supervisors import is_alive
from windward.domain.run import Phase
from windward.manifests import RunFacts
from windward_api import contract


def child(token="", code="import time; print(flush=True); time.sleep(600)"):
    env = {**os.environ, contract.ENV_RUN: token} if token else None
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, start_new_session=True)


@pytest.fixture
def sleeper():
    """A process of run `u-1`."""
    process = child("u-1")
    process.stdout.readline()  # it runs: its environment can be read
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    for body in machine.store.all("GreenJob"):
        machine.cluster.delete_job("default", body["metadata"]["name"])
    machine.cluster.close()


def hidden(_):
    raise psutil.AccessDenied


def test_number_and_start_time_name_a_process(sleeper):
    noted = processes.started(sleeper.pid)
    assert noted is not None and processes.started(sleeper.pid) == noted
    assert processes.is_same(sleeper.pid, noted, "another-1"), "no mark is needed where the times agree"


def test_a_stranger_with_the_number_is_not_the_run(sleeper):
    assert not processes.is_same(sleeper.pid, "12.5", "another-1")


@pytest.mark.parametrize("noted", ["12.5", "184467", "", None], ids=["clock-set", "ticks", "missed", "none"])
def test_the_mark_decides_where_the_times_differ(sleeper, noted):
    """Linux derives them from the clock, and older versions noted ticks since boot."""
    assert processes.is_same(sleeper.pid, noted, "u-1")


def test_what_has_ended_is_nobody(sleeper):
    noted = processes.started(sleeper.pid)
    sleeper.kill()
    while processes.started(sleeper.pid) is not None:  # a zombie from now on: nobody waits for it
        time.sleep(0.01)
    assert not processes.is_same(sleeper.pid, noted, "u-1") and not list(processes.of_run("u-1"))
    assert processes.started(2**22 + 1) is None and not processes.has_children(2**22 + 1)


def test_a_living_run_is_not_started_twice_where_environments_are_hidden(machine, monkeypatch):
    """As on macOS, for programs of the system."""
    machine.apply(job_body(command=["sleep", "600"]))
    job = machine.start()
    machine.cluster.close()
    monkeypatch.setattr(psutil.Process, "environ", hidden)
    machine.cluster = machine.command()
    (run,) = machine.seen().runs
    assert run.phase is Phase.RUNNING and is_alive(machine.rows()[0])
    for _ in range(2):
        machine.cluster.create_run(RunFacts(job, 1, machine.cluster.snapshot().regions[0]))
    assert len(machine.rows()) == 1 and is_alive(machine.rows()[0])
    monkeypatch.undo()
    assert len(list(processes.of_run(machine.rows()[0].token))) <= 2, "the supervisor, and its command"


def test_a_run_goes_on_although_the_clock_was_set(machine):
    machine.apply(job_body(command=["sleep", "600"]))
    machine.start()
    machine.store.runs.set_supervisor(machine.rows()[0].name, machine.rows()[0].pid, "12.5")
    machine.cluster.close()
    machine.cluster = machine.command()
    assert machine.seen().runs[-1].phase is Phase.RUNNING and is_alive(machine.rows()[0])


def test_a_tree_ends_with_its_root():
    code = "import subprocess, sys; c = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    root = child(code=f"{code}print(c.pid, flush=True); c.wait()")
    leaf = int(root.stdout.readline())
    assert processes.has_children(root.pid)
    processes.kill_tree(root.pid)
    root.communicate()
    for _ in range(500):
        if processes.started(leaf) is None:
            return
        time.sleep(0.01)
    raise AssertionError("the child outlived its parent")
