"""A job that waits on this machine keeps its name, its command and its regions, whatever else is submitted; and what
nobody drives says so."""

from __future__ import annotations

import re
import shlex
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from cli.waiting import Machine

JOB = """
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {name: %s}
spec:
  completeWithin: %s
  duration: 1h
  placement: {regions: [here]}
  template: {spec: {containers: [{name: m, image: x, command: [%s]}]}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: %s}
"""


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.close()


def late(machine, *more):
    """Options of a command that waits for five hours."""
    return ("run", "--zone", "GB", "--trace", str(machine.trace), "--duration", "1h", "--deadline", "30h", *more)


def objects(home: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(home / "local.db") as db:
        rows = db.execute("SELECT kind, namespace, name, json_extract(body, '$.spec') FROM objects ORDER BY 1, 2, 3")
        return list(rows)


def test_two_commands_of_one_program_are_two_jobs(machine):
    for letter in "ab":
        (machine.work / f"{letter}.py").write_text(f"open('ran_{letter}', 'w').write('{letter}')")
    first = machine.waits(*late(machine), "--", "python3", "a.py", log="a")
    second = machine.waits(*late(machine), "--", "python3", "b.py", log="b")
    assert set(machine.jobs()) == {"python3", "python3-2"}
    assert machine.windward("run-now", "python3").returncode == 0
    assert first.wait(60) == 0 and (machine.work / "ran_a").exists()
    assert second.poll() is None and not (machine.work / "ran_b").exists()


def test_the_same_command_twice_at_once_is_two_jobs(machine):
    for log in ("a", "b"):
        machine.waits(*late(machine), "--", "true", log=log)
    assert set(machine.jobs()) == {"true", "true-2"}


IN_USE = [
    ("another command", ("--duration", "1h", "--name", "train", "--", "false"), "is in use; nothing was changed"),
    (
        "a misspelt duration",
        ("--duration", "60", "--name", "train", "--", "true"),
        "--duration: '60' is not a duration",
    ),
    ("another zone", ("--zone", "PL", "--name", "train", "--", "true"), "is in use; nothing was changed"),
    ("the same, driven", ("--name", "train", "--", "true"), "is in use; nothing was changed"),
]


@pytest.mark.parametrize(("more", "said"), [i[1:] for i in IN_USE], ids=[i[0] for i in IN_USE])
def test_a_name_in_use_is_refused_and_nothing_changes(machine, more, said):
    waiter = machine.waits(*late(machine, "--name", "train", "--", "true"))
    before = objects(machine.home)
    told = machine.windward(*late(machine, *more))
    assert told.returncode == 2 and said in told.stderr and "\nfix:   " in told.stderr, told.stderr
    assert objects(machine.home) == before and waiter.poll() is None
    assert machine.state("train") == ("Waiting", "CleanerWindow")


def test_a_region_of_the_same_name_stays_with_its_job(machine):
    for name, within, zone in (("a", "20h", "GB"), ("b", "61m", "PL")):
        (machine.work / f"{name}.yaml").write_text(JOB % (name, within, "'true'", zone))
    machine.waits("run", "--yes", "-f", "a.yaml", "--trace", str(machine.trace))
    before = machine.jobs()["a"]["status"]["plan"]
    told = machine.windward("run", "--yes", "-f", "b.yaml", "--trace", str(machine.trace))
    assert told.returncode == 0, told.stderr
    machine.until(lambda: machine.jobs()["b"]["status"]["summary"]["state"] == "Complete")
    assert machine.jobs()["a"]["status"]["plan"] == before
    kept = {(n, s) for kind, n, _, s in objects(machine.home) if kind == "GreenRegion"}
    uids = {name: job["uid"] for name, job in machine.jobs().items()}
    assert kept == {(uids["a"], '{"gridZone":"GB"}'), (uids["b"], '{"gridZone":"PL"}')}


def test_an_edited_manifest_is_another_job(machine):
    (machine.work / "a.yaml").write_text(JOB % ("a", "20h", "'true'", "GB"))
    child = machine.waits("run", "--yes", "-f", "a.yaml", "--trace", str(machine.trace))
    child.kill()
    child.wait()
    (machine.work / "a.yaml").write_text(JOB % ("a", "20h", "'false'", "GB"))
    told = machine.windward("run", "--yes", "-f", "a.yaml", "--trace", str(machine.trace))
    assert told.returncode == 2 and "it has not ended, and its work or regions are others" in told.stderr
    fix = re.search(r"windward cancel a\b", told.stderr)
    assert fix and machine.windward(*shlex.split(fix[0])[1:]).returncode == 0
    assert machine.jobs() == {}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_what_nobody_drives_says_so_and_the_command_it_names_goes_on(machine, tmp_path, how):
    child = machine.waits(*late(machine), "--", "sh", "-c", "echo it runs > ran")
    uid = machine.jobs()["sh"]["uid"]
    child.send_signal(how)
    child.wait(60)
    if how is signal.SIGINT:
        assert child.returncode == 130 and "sh: not started; goes on waiting with: windward run" in machine.said()
    assert machine.state("sh") == ("Stopped", "NobodyDrives")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    listed = machine.windward("list", cwd=elsewhere)
    assert "Stopped" in listed.stdout and "NobodyDrives" in listed.stdout
    command = re.search(r"to go on: (.*)", machine.windward("why", "sh", cwd=elsewhere).stdout)[1]
    assert command == re.search(r"to go on: (.*)", listed.stderr)[1]
    assert command.startswith(f"cd {machine.work} && windward run ")
    machine.windward("run-now", "sh")
    again = command.replace("windward", shlex.join(machine.command()), 1)
    done = subprocess.run(again, shell=True, cwd=elsewhere, env=machine.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (machine.work / "ran").read_text() == "it runs\n"
    assert {n: j["uid"] for n, j in machine.jobs().items()} == {"sh": uid}, "the same job, not another"


INTERRUPTED = [
    ((), "stopping: it may not pause, and starts anew with: windward run"),
    (("--pausable",), "pausing: writes its checkpoint, and goes on from there with: windward run"),
]


@pytest.mark.parametrize(("more", "said"), INTERRUPTED, ids=["never", "pausable"])
def test_ctrl_c_says_what_becomes_of_a_run(machine, more, said):
    with (machine.work / "waits.err").open("w") as err:
        child = subprocess.Popen(
            machine.command("run", "--name", "r", *more, "--", "sleep", "300"), cwd=machine.work,
            env=machine.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
        )  # fmt: skip
    machine.children.append(child)
    machine.until(lambda: machine.runs("r"))
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    assert said in machine.said()
    assert machine.state("r") == ("Stopped", "NobodyDrives")


def test_a_run_that_goes_on_by_itself_is_not_called_stopped(machine):
    child = subprocess.Popen(
        machine.command("run", "--name", "r", "--", "sleep", "300"), cwd=machine.work, env=machine.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    machine.children.append(child)
    machine.until(lambda: machine.runs("r"))
    child.kill()
    child.wait()
    assert machine.state("r") == ("Running", "NobodyDrives")
    assert "its run goes on, but nobody would pause it or count it" in machine.windward("why", "r").stdout
    assert machine.windward("cancel", "r").returncode == 0 and machine.jobs() == {}


def test_a_held_job_stays_held_when_its_command_comes_again(machine):
    child = machine.waits(*late(machine), "--", "true")
    machine.windward("hold", "true")
    child.kill()
    child.wait()
    again = subprocess.Popen(
        machine.command(*late(machine), "--", "true"), cwd=machine.work, env=machine.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    machine.children.append(again)
    assert "true: is held; to go on: windward release true" in again.stderr.readline()
    assert machine.state("true") == ("Held", "PausedByUser")
    machine.windward("release", "true")
    machine.windward("run-now", "true")
    assert again.wait(60) == 0


BAD = [
    ("--duration", "soon"), ("--duration", "0s"), ("--duration", "9999d"), ("--deadline", "2d4"),
    ("--deadline", "2026-13-01"), ("--deadline", "2026-01-01T00:00"), ("--zone", "no zone"), ("--zone", "UK"),
    ("--zone", "gb"), ("--zone", "../x"), ("--watts", "0"), ("--watts", "-3"), ("--watts", "many"), ("--name", "A B"),
    ("--name", "../../x"), ("--name", "x" * 64), ("--name", "-x"), ("--provider", "tea"), ("--trace", "nowhere.csv"),
    ("--speed", "nan"), ("--speed", "0"), ("--speed", "2"), ("--start", "noon"), ("--output", "xml"),
    ("--start", "0001-01-01T00:00:00Z"),
]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), BAD, ids=[" ".join(b) for b in BAD])
def test_every_option_is_checked_before_anything_is_written(windward, home, option, value):
    given = {"--zone": "GB", "--duration": "1h", "--deadline": "2h"} | {option: value}
    told = windward("run", *(w for pair in given.items() for w in pair), "--", "true")
    assert told.code == 2, told.err
    assert told.err.startswith("error: ") and "\nfix:   " in told.err
    assert not home.exists(), "nothing is written"
