"""What a script can rely on: an exit code for each kind of trouble, and error, cause and fix on stderr."""

import pytest

AT = ("--at", "2022-05-11T15:00:00Z")
TRAIN = ("-f", "examples/train.yaml")
JOB = """
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {name: one}
spec:
  completeWithin: 12h
  duration: 2h
  placement: {regions: [here]}
  template: {spec: {containers: [{name: one, image: none, command: ["true"]}]}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: GB}
"""
LATE = JOB.replace("completeWithin: 12h", 'deadline: "2022-05-11T16:00:00Z"')
CRON = """
apiVersion: windward.dev/v1alpha1
kind: GreenCronJob
metadata: {name: nightly}
spec:
  schedule: "0 20 * * *"
  window: 10h
  jobTemplate: {spec: {duration: 2h, placement: {regions: [here]}, train: {steps: 10}}}
"""

# name, manifest on disk as job.yaml, arguments, code, line of stderr that says what is wrong
TABLE = [
    ("help", "", ["--help"], 0, ""),
    ("plan", "", ["plan", *TRAIN, *AT], 0, ""),
    ("a plan that holds", "", ["plan", *TRAIN, *AT, "--check"], 0, ""),
    ("nothing there yet", "", ["list"], 0, "no GreenJobs on this machine yet; begin with: windward plan -f"),
    ("an empty ledger", "", ["report"], 0, "no ended job in the ledger yet; windward run"),
    ("no such command", "", ["bogus"], 2, "No such command 'bogus'."),
    ("no such option", "", ["list", "--bogus"], 2, "No such option: --bogus"),
    ("a missing option", "", ["plan"], 2, "Missing option '--file' / '-f'."),
    ("nothing to run", "", ["run"], 2, "error: nothing to run"),
    ("a deadline alone", "", ["run", "--deadline", "3h", "--", "true"], 2, "error: --deadline without --duration"),
    ("no such file", "", ["plan", "-f", "nowhere.yaml"], 2, "error: cannot read nowhere.yaml"),
    ("no YAML", "a: [", ["plan", "-f", "job.yaml"], 2, "error: job.yaml is no YAML"),
    ("no object", "- 1", ["plan", "-f", "job.yaml"], 2, "error: job.yaml holds something that is no object"),
    ("empty", "", ["plan", "-f", "job.yaml"], 2, "error: nothing to do: no objects in the files"),
    ("no job", JOB.split("---")[1], ["plan", "-f", "job.yaml"], 2, "error: no GreenJob or GreenCronJob in the files"),
    ("a cron here", JOB + "---" + CRON, ["run", "-f", "job.yaml"], 2, "error: GreenCronJob nightly: this command ends"),
    ("no time", "", ["forecast", "GB", "--at", "noon"], 2, "error: --at noon: not a time"),
    ("no zone of time", "", ["forecast", "GB", "--at", "2022-05-11T15:00:00"], 2, "no time zone"),
    ("no duration", "", ["forecast", "GB", "--horizon", "2 days", *AT], 2, "error: --horizon: '2 days' is not a dura"),
    ("no provider", "", ["plan", *TRAIN, "--provider", "tea-leaves"], 2, "error: --provider tea-leaves:"),
    ("too late, told", LATE, ["plan", "-f", "job.yaml", *AT], 0, ""),
    ("too late, checked", LATE, ["plan", "-f", "job.yaml", *AT, "--check"], 3, ""),
    ("no such job", "", ["why", "nobody"], 4, "error: there is no GreenJob default/nobody"),
    ("no such job to hold", "", ["hold", "ml/nobody"], 4, "error: there is no GreenJob ml/nobody"),
    ("no such receipt", "", ["report", "--name", "nobody"], 4, "error: there is no ledger on this machine yet"),
    ("no cluster", "", ["list", "--cluster"], 5, "error: no cluster can be reached"),
    ("no cluster to apply to", "", ["apply", *TRAIN, "--cluster"], 5, "error: no cluster can be reached"),
    ("no forecast", "", ["forecast", "ATLANTIS", *AT], 5, "error: zone ATLANTIS: not held by trace:2022"),
    (
        "no such book",
        "",
        ["report", "--database", "sqlite:////nowhere/book.db"],
        5,
        "error: the ledger /nowhere/book.db cannot be opened",
    ),
]


@pytest.mark.parametrize(("manifest", "arguments", "code", "said"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_code_and_sentence(windward, tmp_path, monkeypatch, manifest, arguments, code, said):
    if "job.yaml" in arguments:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "job.yaml").write_text(manifest)
    told = windward(*arguments)
    assert told.code == code, told.err
    assert said in told.err
    assert "Traceback" not in told.err + told.out


def test_a_failed_job(windward):
    told = windward("run", "--name", "broken", "--", "sh", "-c", "exit 1")
    assert told.code == 1
    assert "failed: default/broken: " in told.err and "exit code 1" in told.err
    log = next(line for line in told.err.splitlines() if line.startswith("log:")).split(None, 1)[1]
    assert log.endswith("/log"), "where to read on"


def test_error_cause_and_fix_stand_on_lines_of_their_own(windward):
    lines = windward("plan", "-f", "nowhere.yaml").err.splitlines()
    assert lines == ["error: cannot read nowhere.yaml", "cause: No such file or directory", "fix:   check the path"]


BAD = [
    ("duration: 2h", "duraton: 2h", "spec.duraton: unknown field: did you mean duration?"),
    ("regions: [here]", "region: [here]", "spec.placement.region: unknown field: did you mean regions?"),
    ("duration: 2h", "duration: 2 hours", "spec.duration: '2 hours' is not a duration"),
    ("duration: 2h", "duration: 20h", "spec.duration: must not exceed spec.completeWithin: allow more time"),
    ("gridZone: GB", "gridZone: GB\n  pue: 1.1".replace("\n  ", ", "), 'spec.pue: write the number in quotes: "1.1"'),
    ("kind: GreenRegion", "kind: GreenReign", "kind: 'GreenReign' is not one of GreenJob, GreenCronJob, GreenRegion"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), BAD, ids=[b[1] for b in BAD])
def test_a_bad_manifest_is_told_field_by_field(windward, tmp_path, old, new, sentence):
    assert old in JOB
    file = tmp_path / "job.yaml"
    file.write_text(JOB.replace(old, new, 1))
    told = windward("plan", "-f", str(file), *AT)
    assert told.code == 2
    assert told.err.startswith(f"error: invalid manifest\ncause: {file}, object ")
    assert f": {sentence}" in told.err and "\nfix:   correct the field" in told.err


def test_a_misspelt_key_word_for_word(windward, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(JOB.replace("completeWithin: 12h", "completeWithn: 12h\n  deadline: '2022-05-12T15:00:00Z'"))
    assert windward("plan", "-f", str(file), *AT).err == (
        "error: invalid manifest\n"
        f"cause: {file}, object 1: spec.completeWithn: unknown field: did you mean completeWithin?\n"
        "fix:   correct the field\n"
    )
