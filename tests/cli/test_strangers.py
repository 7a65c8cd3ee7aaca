"""A manifest of a stranger on a laptop: its names are no paths, its command asks first, its environment is bare."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from cli.waiting import Machine

JOB = """
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {name: %s, namespace: %s%s}
spec:
  completeWithin: 2h
  duration: 1m
  placement: {regions: [here]}
  template: {spec: {containers: [{name: m, image: x, command: [sh, -c, "env"], env: [{name: MINE, value: "1"}]}]}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: GB}
"""
PLAIN = JOB % ("night", "default", "")
SECRETS = {"AWS_SECRET_ACCESS_KEY": "s3cret", "WINDWARD_EIA_KEY": "s3cret", "SSH_AUTH_SOCK": "/s3cret"}
ALLOWED = {
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "TZ",
    "PYTHONPATH",
    "MINE",
    "PWD",
    "SHLVL",
    "_",
    "OLDPWD",
}


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    (made.work / "job.yaml").write_text(PLAIN)
    yield made
    made.close()


NAMES = [
    ("a path", '"../../../../tmp/elsewhere/escaped"', "default", "metadata.name"),
    ("dots", '".."', "default", "metadata.name"),
    ("capitals", "Night", "default", "metadata.name"),
    ("a space", '"a b"', "default", "metadata.name"),
    ("a line", '"a\\nb"', "default", "metadata.name"),
    ("too long", "a" * 254, "default", "metadata.name"),
    ("a root", "night", "/tmp/elsewhere/victim", "metadata.namespace"),
    ("a namespace of dots", "night", '".."', "metadata.namespace"),
    ("a namespace with a dot", "night", "a.b", "metadata.namespace"),
    ("an empty namespace", "night", '""', "metadata.namespace"),
]


@pytest.mark.parametrize(("name", "namespace", "field"), [n[1:] for n in NAMES], ids=[n[0] for n in NAMES])
@pytest.mark.parametrize("verb", ["run", "plan", "apply"])
def test_names_are_those_of_kubernetes_before_anything_is_written(
    windward, home, tmp_path, verb, name, namespace, field
):
    file = tmp_path / "job.yaml"
    file.write_text(JOB % (name, namespace, ""))
    told = windward(verb, "-f", str(file), *(() if verb == "plan" else ("--yes",)))
    assert told.code == 2 and f"object 1: {field}: " in told.err, told.err
    assert "is no name of at most" in told.err or "at most 253 characters" in told.err
    assert not home.exists()


def test_a_stranger_is_not_run_unasked(machine):
    told = machine.windward("run", "-f", "job.yaml")
    assert told.returncode == 2 and told.stderr.startswith("error: a manifest's command needs your word\n")
    assert "default/night: MINE=1 sh -c env" in told.stderr, "the command is shown"
    assert "then add --yes: windward run -f job.yaml --yes" in told.stderr
    assert not machine.home.exists()


@pytest.mark.parametrize(("answer", "runs"), [("y\n", True), ("n\n", False), ("\n", False), ("Y\n", True)])
def test_on_a_terminal_it_asks_and_the_answer_counts(machine, answer, runs):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        machine.command("run", "-f", "job.yaml"), cwd=machine.work, env=machine.environment, stdin=theirs,
        stdout=subprocess.DEVNULL, stderr=theirs, close_fds=True,
    )  # fmt: skip
    machine.children.append(child)
    os.close(theirs)
    said = b""
    while b"Run them? [y/N]" not in said:
        said += os.read(ours, 4096)
    assert b"sh -c env" in said
    os.write(ours, answer.encode())
    code = None
    while code is None:
        try:
            os.read(ours, 4096)
        except OSError:  # the other end is closed
            code = child.wait(60)
        code = code if code is not None else child.poll()
    assert (code, (machine.home / "runs").exists()) == ((0, True) if runs else (2, False))


def test_a_command_of_a_file_has_a_bare_environment(machine):
    told = machine.windward("run", "--yes", "-f", "job.yaml", **SECRETS)
    assert told.returncode == 0, told.stderr
    (log,) = machine.home.glob("runs/*/log")
    seen = dict(line.partition("=")[::2] for line in log.read_text().splitlines() if "=" in line)
    assert "s3cret" not in log.read_text()
    assert seen["MINE"] == "1" and seen["WINDWARD_JOB"] == "default/night"
    strange = {k for k in seen if k not in ALLOWED and not k.startswith("WINDWARD_")}
    assert not strange and "WINDWARD_HOME" not in seen


@pytest.mark.parametrize("trust", ["", ', annotations: {windward.dev/trusted: "true"}'], ids=["plain", "claimed"])
def test_trust_is_not_the_files_to_give(machine, trust):
    (machine.work / "job.yaml").write_text(JOB % ("night", "default", trust))
    assert machine.windward("run", "--yes", "-f", "job.yaml", **SECRETS).returncode == 0
    (log,) = machine.home.glob("runs/*/log")
    assert "s3cret" not in log.read_text()


def test_ones_own_command_is_not_asked_about_and_keeps_its_environment(machine):
    told = machine.windward("run", "--", "sh", "-c", "echo got $AWS_SECRET_ACCESS_KEY", **SECRETS)
    assert told.returncode == 0 and "got s3cret" in told.stderr


LOCAL = [
    ("{name: m, image: x}", "containers[0].command: a local run uses no image"),
    ("{name: m, image: x, command: sh}", "containers[0].command: must be a list"),
    (
        "{name: m, image: x, command: [env], envFrom: [{secretRef: {name: s}}]}",
        "containers[0].envFrom: there is no cluster",
    ),
    (
        "{name: m, image: x, command: [env], env: [{name: T, valueFrom: {secretKeyRef: {name: s, key: k}}}]}",
        "containers[0].env T: there is no cluster to read valueFrom from: write a value",
    ),
]


@pytest.mark.parametrize(("container", "said"), LOCAL, ids=[x[1][:40] for x in LOCAL])
def test_what_a_laptop_cannot_give_is_refused_before_it_runs(windward, home, tmp_path, container, said):
    file = tmp_path / "job.yaml"
    a, b = PLAIN.index("containers: [") + len("containers: ["), PLAIN.index("]}}\n---")
    file.write_text(PLAIN[:a] + container + PLAIN[b:])
    told = windward("run", "--yes", "-f", str(file))
    assert told.code == 2 and said in told.err and not home.exists()
