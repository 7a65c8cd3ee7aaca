"""What is chosen is honoured: sources, schedules, options; real work does not wait on a demonstration; what a command
suggests works as it is printed."""
# ruff: noqa: E501  (tables are read row by row)

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli.waiting import recording

AT = ("--at", "2022-05-11T15:00:00Z")
REHEARSE = ("--start", "2022-05-11T15:00:00Z", "--speed", "3600")
GB = ("--zone", "GB", "--duration", "1h", "--deadline", "12h")
JOB = """
apiVersion: windward.dev/v1alpha1
kind: GreenJob
metadata: {name: night, namespace: %s}
spec:
  %s
  duration: 2h
  placement: {regions: [here]}
  power: {watts: 300}
  train: {steps: 10}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: DE}
"""
CRON = """
apiVersion: windward.dev/v1alpha1
kind: GreenCronJob
metadata: {name: nightly}
spec:
  schedule: "0 19 * * 1-5"
  timeZone: Europe/Berlin
  window: 12h
  jobTemplate: {spec: {duration: 3h, placement: {regions: [here]}, power: {watts: 300}, train: {steps: 10}}}
---
apiVersion: windward.dev/v1alpha1
kind: GreenRegion
metadata: {name: here}
spec: {gridZone: DE}
"""


@pytest.mark.parametrize("form", ["table", "json"])
def test_real_work_does_not_wait_on_a_demonstration(windward, form):
    told = windward("run", *GB, "--name", "real", "-o", form, "--", "true")
    assert told.code == 0
    assert told.err.startswith(
        "no live source of carbon data, only the DEMO TRACE 2022, which real work does not wait on"
    )
    assert "fix:   --provider neso" in told.err and "FallbackNoForecast: No usable forecast: runs now" in told.err
    receipt = windward("report", "--name", "real", "-o", "json").json()
    assert receipt["emissionsGrams"] is None and receipt["energyJoules"] > 0
    assert "real" in windward("report").out, "real energy is in the report, and no demonstration's grams"
    assert "DEMO" in windward("why", "real").out


def test_a_rehearsal_waits_and_is_marked_everywhere(windward):
    longer = ("run", "--zone", "GB", "--duration", "1h", "--deadline", "30h", *REHEARSE)
    told = windward(*longer, "--name", "shown", "--", "true")
    assert "CleanerWindow" in told.err and "starts in here-gb at " in told.err
    for line in told.err.splitlines():
        assert "g/kWh" not in line or "DEMO TRACE" in line
    assert (
        "DEMO" in windward("list").out.splitlines()[1] and "DEMO TRACE" in windward("why", "shown").out.splitlines()[0]
    )
    assert windward("list", "-o", "json").json()["items"][0]["demo"] is True


def test_ones_own_recording_is_no_demonstration(windward, tmp_path):
    trace = recording(tmp_path / "trace")
    told = windward("run", "--zone", "GB", "--duration", "1m", "--deadline", "2m", "--trace", str(trace), "--", "true")
    assert told.code == 0 and "DEMO" not in told.err + told.out and "no live source" not in told.err
    assert windward("report", "-o", "json").json()["items"][0]["emissionsGrams"] is not None


def test_a_source_may_be_chosen_for_good(windward, monkeypatch):
    monkeypatch.setenv("WINDWARD_PROVIDER", "static")
    monkeypatch.setenv("WINDWARD_STATIC_INTENSITY", "GB=100")
    monkeypatch.setenv("WINDWARD_STATIC_KIND", "Average/LifeCycle/Consumption")
    told = windward("run", *GB, "--", "true")
    assert told.code == 0 and "no live source" not in told.err and " at 100 g/kWh" in told.err


def test_plan_of_a_schedule_names_its_next_tick(windward, tmp_path):
    file = tmp_path / "cron.yaml"
    file.write_text(CRON)
    told = windward("plan", "-f", str(file), *AT)
    assert told.code == 0, told.err
    head, job, *_ = told.out.splitlines()
    assert head == "NEXT    GreenCronJob nightly: its next window opens Wed 11 May 17:00Z (in 2h)"
    assert job.startswith("GreenJob default/nightly-") and "finish by Thu 12 May 05:00Z" in job
    (item,) = windward("plan", "-f", str(file), *AT, "-o", "json").json()["items"]
    assert (item["cronJob"], item["tick"]) == ("nightly", "2022-05-11T17:00:00Z")
    start = datetime.fromisoformat(item["windows"][0]["start"])
    assert datetime(2022, 5, 11, 17, tzinfo=UTC) <= start <= datetime(2022, 5, 12, 2, tzinfo=UTC)
    friday = windward("plan", "-f", str(file), "--at", "2022-05-13T18:00:00Z").out
    assert "opens Mon 16 May 17:00Z" in friday, "no window at the weekend"


def test_backtest_of_a_schedule_submits_at_its_ticks(windward, tmp_path):
    file = tmp_path / "cron.yaml"
    file.write_text(CRON.replace("0 19 * * 1-5", "0 19 1 * *"))
    told = windward("backtest", "-f", str(file), "--policy", "run-now,windward", "--foresight", "perfect")
    assert told.code == 0, told.err
    assert "nightly: 11 submissions in 2022, at each tick" in told.out
    moved = windward("backtest", "-f", str(file), "--zone", "FR", "--policy", "run-now", "--foresight", "perfect")
    assert moved.code == 0 and "11 submissions" in moved.out


def test_a_schedule_is_not_submitted_every_so_often(windward, tmp_path):
    file = tmp_path / "cron.yaml"
    file.write_text(CRON)
    told = windward("backtest", "-f", str(file), "--every", "60d")
    assert told.code == 2 and "error: --every is for GreenJobs" in told.err


def test_why_there_is_no_forecast_is_said(windward, tmp_path):
    """A recording that is over: the work starts at once, and the reason is not swallowed."""
    trace = tmp_path / "trace"
    trace.mkdir()
    rows = "".join(f"GB,2022-01-01T{h:02}:00:00Z,200\n" for h in range(24))
    (trace / "own.csv").write_text("zone,timestamp_utc,carbon_intensity_gco2_kwh\n" + rows)
    (trace / "trace.json").write_text('{"signal": "Average", "scope": "LifeCycle", "basis": "Consumption"}')
    told = windward("run", *GB, "--trace", str(trace / "own.csv"), "--", "true")
    assert told.code == 0 and "FallbackNoForecast" in told.err and "ends at 2022-01-02T00:00Z" in told.err


def test_a_zone_without_a_duration_says_that_it_does_not_wait(windward):
    told = windward("run", "--zone", "GB", "--", "true")
    assert "no --duration given: starts at once" in told.err


def test_why_not_names_each_place_and_day_once(windward):
    for example in ("train", "levels"):
        out = windward("plan", "-f", f"examples/{example}.yaml", *AT).out
        block = re.findall(r"^(?:WHY NOT|       ) (\S.*? \w{3} \d\d \w{3}) \d\d:\d\dZ: [+-]", out, re.MULTILINE)
        assert block and len(block) == len(set(block)), out
        planned = re.search(r"^PLAN\s+(\w{3} \d\d \w{3}) .*?Z  (\S+)  ", out, re.MULTILINE)
        level = re.search(r"level ([\w-]+)\)", out)
        place = planned[2] + (f" at {level[1]}" if level else "")
        assert f"{place} {planned[1]}" not in block, "a few minutes later is no alternative"


@pytest.mark.parametrize("when", ["deadline: 2022-05-12T09:00:00Z", "deadline: 2022-05-12 09:00:00+00:00",
                                  'deadline: "2022-05-12T11:00:00+02:00"'])  # fmt: skip
def test_an_unquoted_time_is_a_time(windward, tmp_path, when):
    file = tmp_path / "job.yaml"
    file.write_text(JOB % ("default", when))
    told = windward("plan", "-f", str(file), *AT)
    assert told.code == 0 and "finish by Thu 12 May 09:00Z" in told.out, told.err


SENTENCES = [
    (JOB % ("default", "deadline: 2030-01-01"), "has no time zone: end it with Z or an offset"),
    (JOB.replace("DE", "NO") % ("default", "completeWithin: 9h"), 'reads the unquoted word as false: write it in quotes, as in "NO"'),
    (JOB.replace("DE", "1.5") % ("default", "completeWithin: 9h"), 'YAML reads it as a number: write it in quotes: "1.5"'),
    (JOB.replace("  duration: 2h", "  duration: 2h\n  duration: 3h") % ("default", "completeWithin: 9h"), "the key 'duration' is given twice"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), SENTENCES, ids=["date", "norway", "number", "twice"])
def test_what_yaml_makes_of_a_word_is_told(windward, tmp_path, body, said):
    file = tmp_path / "job.yaml"
    file.write_text(body)
    told = windward("plan", "-f", str(file), *AT)
    assert told.code == 2 and said in told.err


def test_objects_of_others_are_left_to_kubectl(windward, tmp_path):
    file = tmp_path / "all.yaml"
    others = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ml}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---"
    file.write_text(others + JOB % ("ml", "completeWithin: 18h"))
    told = windward("plan", "-f", str(file), *AT)
    assert told.code == 0 and "GreenJob ml/night" in told.out
    assert told.err == "note: skipped Namespace ml, Deployment web: not Windward's, kubectl applies it\n"
    whole = {"apiVersion": "v1", "kind": "List", "items": json.loads(json.dumps([]))}
    file.write_text(json.dumps(whole))
    assert windward("plan", "-f", str(file), *AT).code == 2


@pytest.mark.parametrize(
    ("zone", "near"), [("UK", "GB"), ("gb", "GB"), ("DEU", "DE"), ("NO-NO1", "--provider"), ("SE-SE9", "SE-SE3")]
)
def test_a_zone_that_is_not_held_is_refused_with_what_is_near(windward, home, zone, near):
    told = windward("run", "--zone", zone, "--duration", "2h", "--deadline", "12h", "--", "true")
    assert told.code == 2 and f"error: zone {zone}: not held by trace:2022" in told.err
    assert near in told.err.split("fix:")[1] and not home.exists()


JSON = [
    ("plan", "-f", "examples/nightly.yaml", *AT), ("forecast", "GB", *AT), ("list",), ("why", "one"), ("hold", "one"), ("release", "one"),
    ("run-now", "one"), ("cancel", "one"), ("report",), ("report", "--name", "two"), ("providers", "list"),
    ("providers", "test", "trace"), ("zones", "search", "aws"), ("doctor",), ("crd",), ("version",),
    ("run", "--name", "three", "--", "true"),
    ("simulate", "--jobs", "3", "--days", "1", "--zones", "DE", "--policy", "run-now", "--foresight", "perfect"),
    ("backtest", "-f", "examples/train.yaml", "--every", "90d", "--policy", "run-now", "--foresight", "perfect"),
]  # fmt: skip


@pytest.fixture
def jobs(home, windward):
    """`one` waits, driven by nobody, in namespace ml; `two` has ended."""
    from windward.service.local import LocalController
    from windward.service.submissions import Submission

    world = LocalController.open(home, start=datetime(2022, 5, 11, 20, tzinfo=UTC), speed=3600.0)
    spec = {"completeWithin": "18h", "duration": "2h", "placement": {"regions": ["here"]}, "train": {"steps": 1}}
    for namespace in ("default", "ml"):
        job = {
            "apiVersion": "windward.dev/v1alpha1",
            "kind": "GreenJob",
            "metadata": {"name": "one", "namespace": namespace},
            "spec": spec,
        }
        region = {
            "apiVersion": "windward.dev/v1alpha1",
            "kind": "GreenRegion",
            "metadata": {"name": "here"},
            "spec": {"gridZone": "DE"},
        }
        uids = world.admit(Submission((job,), (region,), "windward list", "/"))
        world.drive(uids, stop=lambda: True)
    world.close()
    assert windward("run", "--name", "two", "--", "true").code == 0


@pytest.mark.parametrize("command", JSON, ids=lambda c: " ".join(c[:3]))
def test_json_is_honoured_everywhere(windward, jobs, command):
    before, dashes, after = (
        (*command, "--")[: (*command, "--").index("--")],
        "--",
        command[command.index("--") + 1 :] if "--" in command else (),
    )
    told = windward(*before, "-o", "json", *((dashes, *after) if after else ()))
    assert told.code in (0, 1), told.err
    assert isinstance(told.json(), dict)


def test_horizon_and_duration_count_in_json_too(windward):
    short = windward("forecast", "GB", "--horizon", "6h", "--duration", "2h", *AT, "-o", "json").json()["items"][0]
    assert (
        short["edgesEpochSeconds"][-2]
        < datetime(2022, 5, 11, 21, tzinfo=UTC).timestamp()
        <= short["edgesEpochSeconds"][-1]
    )
    best = short["bestWindow"]
    assert datetime.fromisoformat(best["end"]) - datetime.fromisoformat(best["start"]) == datetime(
        2022, 1, 1, 2
    ) - datetime(2022, 1, 1)


# Prose that may follow a command in a sentence.
AFTER = r"(?: (?:says|shows|makes|checks|finds|lists|undoes|goes|begins)\b.*|[;`,)].*|: .*| \|.*)?$"
PLACEHOLDERS = {"CMD": "true", "NAME": "two", "PLACE": "frankfurt", "PATH": "nowhere"}


def suggested(told) -> list[str]:
    out = []
    for line in (told.out + told.err).splitlines():
        for found in re.finditer(r"(?<![\w-])windward (?=[a-z])", line):
            command = re.sub(AFTER, "", line[found.start() :])
            command = re.split(r"\s{2,}| (?:says|shows|makes|checks|finds|lists)\b|[;`,)]", command)[0].strip()
            out.append(re.sub(r"\b(CMD|NAME|PLACE)\b", lambda m: PLACEHOLDERS[m[1]], command))
    return out


SAYS = [
    ("list",), ("why", "one"), ("why", "one", "-n", "ml"), ("why", "ml/one"), ("hold", "one"), ("hold", "ml/one"), ("release", "one"),
    ("run-now", "two"), ("run-now", "ml/one"), ("why", "nobody"), ("report", "--name", "two"), ("report", "--name", "nobody"),
    ("run",), ("forecast", "XX", *AT), ("zones", "search", "atlantis"), ("forecast", "GB", "--provider", "tea"), ("forcast",),
    ("run", "--zone", "gb", "--", "true"), ("plan",), ("list", "--bogus"), ("demo", "--plain", "--keep", "/dev/null"),
]  # fmt: skip


@pytest.mark.parametrize("command", SAYS, ids=lambda c: " ".join(c[:4]))
def test_what_is_suggested_works_as_it_is_printed(windward, jobs, command):
    told = windward(*command)
    for line in suggested(told):
        again = windward(*shlex.split(line)[1:])
        assert again.code not in (2, 4), (line, again.err)


def test_suggestions_name_the_namespace(windward, jobs):
    assert "skip" not in windward("why", "ml/one").out or "-n ml" in windward("why", "ml/one").out
    assert "to undo: windward release one -n ml" in windward("hold", "ml/one").err
    assert "windward run-now one -n ml" in windward("why", "one", "-n", "ml").out


def test_suggestions_name_the_cluster():
    from windward.cli.worlds import Target

    target = Target(False, "", "prod", Path("/k/config"))
    assert (
        target.command("run-now", "ml", "x")
        == "windward run-now x -n ml --cluster --context prod --kubeconfig /k/config"
    )
    assert Target().command("why", "default", "x") == "windward why x"


@pytest.mark.parametrize(
    "command", ["list", "why x", "run-now x", "hold x", "release x", "cancel x", "apply -f examples/train.yaml"]
)
def test_every_command_that_talks_to_a_cluster_takes_the_words_of_kubectl(windward, tmp_path, command):
    told = windward(*command.split()[:1], "--help").out
    assert all(option in told for option in ("--namespace", "--context", "--kubeconfig"))
    gone = tmp_path / "config"
    told = windward(*command.split(), "--cluster", "-n", "ml", "--context", "a", "--kubeconfig", str(gone))
    assert told.code == 5 and "error: no cluster can be reached" in told.err


def test_what_a_command_prints_is_passed_on_and_its_log_named(windward):
    told = windward("run", "--name", "loud", "--", "sh", "-c", "echo out; echo err >&2; printf last")
    lines = told.err.splitlines()
    assert [x for x in lines if x in ("out", "err", "last")] == ["out", "err", "last"]
    (log,) = (shlex.split(x)[1] for x in lines if x.startswith("log:"))
    assert Path(log).read_text() == "out\nerr\nlast"
    assert "out" not in told.out.splitlines()
