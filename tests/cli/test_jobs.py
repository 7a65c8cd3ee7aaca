"""A job on this machine by the commands around it: list, why, hold, release, run-now, report."""

import csv
import io
from datetime import UTC, datetime

import pytest

from windward.cluster.locks import Locks
from windward.service.local import LocalController
from windward.service.submissions import Submission

START = datetime(2022, 5, 11, 20, tzinfo=UTC)
WARPED = ("--start", "2022-05-11T15:00:00Z", "--speed", "3600")
REGION = {
    "apiVersion": "windward.dev/v1alpha1",
    "kind": "GreenRegion",
    "metadata": {"name": "here"},
    "spec": {"gridZone": "DE"},
}
LATER = {
    "apiVersion": "windward.dev/v1alpha1",
    "kind": "GreenJob",
    "metadata": {"name": "later", "namespace": "default"},
    "spec": {
        "completeWithin": "18h",
        "duration": "2h",
        "placement": {"regions": ["here"]},
        "template": {"spec": {"containers": [{"name": "later", "image": "none", "command": ["true"]}]}},
    },
}


@pytest.fixture
def later(home):
    """A job that waits for a cleaner hour, driven by another command; calling it turns the controller, once or to the
    end."""
    driver = Locks(home / "locks")

    def turn(*, to_the_end: bool = False) -> None:
        driver.release()
        world = LocalController.open(home, start=START, speed=3600.0)
        try:
            uids = world.admit(Submission((LATER,), (REGION,), "windward run -f later.yaml", "/work"))
            world.drive(uids, stop=lambda: not to_the_end)
        finally:
            world.close()
        assert all(driver.take(uid) for uid in uids)

    turn()
    yield turn
    driver.release()


def state(windward, name="later"):
    job = next(j for j in windward("list", "-o", "json").json()["items"] if j["name"] == name)
    summary = job["status"]["summary"]
    return summary["state"], summary["reason"]


def test_a_waiting_job_says_why_since_when_and_how_to_skip(windward, later):
    assert state(windward) == ("Waiting", "CleanerWindow")
    head, row = windward("list").out.splitlines()
    assert head.split()[:4] == ["NAMESPACE", "NAME", "STATUS", "WHY"]
    assert row.split()[:4] == ["default", "later", "Waiting", "CleanerWindow"]
    story = windward("why", "later").out
    for line in (
        "default/later  Waiting (CleanerWindow)",
        "because   ",
        "plan      ",
        "latest    ",
        "CONDITION",
        "EVENT",
    ):
        assert line in story
    assert "skip      windward run-now later\n" in story
    told = windward("why", "default/later", "-o", "json").json()
    assert told["status"]["plan"]["windows"] and told["events"][0]["reason"] == "Planned"


def test_hold_and_release(windward, later):
    told = windward("hold", "later")
    assert (told.code, told.out, told.err) == (0, "", "default/later is held; to undo: windward release later\n")
    later()
    assert state(windward) == ("Held", "PausedByUser")
    assert windward("release", "later").err == "default/later goes on as planned\n"
    later()
    assert state(windward) == ("Waiting", "CleanerWindow")


def test_run_now_skips_the_wait(windward, later):
    assert windward("run-now", "later").err == "default/later starts at the next look\n"
    later(to_the_end=True)
    told = windward("why", "later", "-o", "json").json()
    assert told["status"]["summary"]["state"] == "Complete"
    assert told["status"]["runs"][0]["startedAt"] < "2022-05-11T21"
    assert "UserForced" in windward("why", "later").out


@pytest.mark.parametrize("word", ["hold", "release", "run-now"])
def test_a_word_to_a_job_that_has_ended_changes_nothing(windward, word):
    assert windward("run", "--name", "over", "--", "true").code == 0
    told = windward(word, "over")
    assert (told.code, told.err) == (1, "error: default/over has ended\nfix:   windward why over says how\n")


def test_without_a_zone_a_command_starts_at_once_and_says_so(windward):
    told = windward("run", "--", "true")
    assert told.code == 0
    assert told.err.startswith("no --zone given: starts at once, and grams stay unknown\n")
    assert "true: starts in here\n" in told.err
    assert told.out.startswith("RECEIPT   default/true") and "carbon    unknown" in told.out
    assert state(windward, "true") == ("Complete", "Succeeded")


CODES = [("exit 3", 3), ("exit 0", 0), ("exit 75", 75), ("kill -9 $$", 137)]


@pytest.mark.parametrize(("script", "code"), CODES, ids=[c[0] for c in CODES])
def test_the_commands_exit_code_is_ours(windward, script, code):
    assert windward("run", "--", "sh", "-c", script).code == code


def test_a_command_that_does_not_exist(windward):
    assert windward("run", "--", "no-such-command").code == 127


def test_the_same_name_again_is_a_new_job_and_both_stay_in_the_book(windward):
    for _ in range(2):
        assert windward("run", "--name", "again", "--", "true").code == 0
    assert len(windward("list", "-o", "json").json()["items"]) == 1
    assert len(windward("report", "-o", "json").json()["items"]) == 2


def test_demonstrations_are_left_out_of_reports_unless_asked_for(windward):
    run = ("--zone", "GB", "--duration", "1h", "--deadline", "2h", *WARPED)
    assert windward("run", *run, "--name", "shown", "--", "true").code == 0
    told = windward("report")
    assert told.out == ""
    assert "1 demonstration left out; --include-demo shows them, marked\n" in told.err
    assert windward("report", "-o", "json").json()["totals"] == []
    (item,) = windward("report", "--include-demo", "-o", "json").json()["items"]
    assert (item["name"], item["demo"]) == ("shown", True)
    assert windward("report", "--include-demo").out.count(" DEMONSTRATION ") == 2, "the row and its total"


def test_every_row_of_a_receipt_computes_again(windward):
    run = ("--zone", "DE", "--duration", "4h", "--deadline", "5h", "--watts", "300", *WARPED)
    assert windward("run", *run, "--name", "worked", "--", "sleep", "3").code == 0
    receipt = windward("report", "--name", "worked", "-o", "json").json()
    assert receipt["formula"].startswith("grams = joules / 3.6e6 x intensity")
    rows = list(csv.DictReader(io.StringIO(windward("report", "--name", "worked", "-o", "csv").out)))
    assert len(rows) == len(receipt["intervals"]) > 0
    grams = 0.0
    for row in rows:
        mine = float(row["joules"]) / 3.6e6 * float(row["intensityGramsPerKwh"]) * float(row["pue"])
        assert float(row["emissionsGrams"]) == pytest.approx(mine, rel=1e-9)
        grams += mine
    assert receipt["emissionsGrams"] == pytest.approx(grams, rel=1e-9)
    table = windward("report", "--name", "worked").out
    assert receipt["formula"] in table and "G/KWH" in table and "DEMO DATA" in table


def test_what_is_not_known_is_not_called_nothing(windward):
    assert windward("run", "--name", "dark", "--", "true").code == 0
    total = windward("report").out.splitlines()[-1]
    assert total.startswith("total") and total.count("unknown") == 3 and "1 provisional" in total
    (totals,) = windward("report", "-o", "json").json()["totals"]
    assert (totals["jobs"], totals["jobsWithoutEmissions"], totals["jobsWithoutBaseline"]) == (1, 1, 1)


def test_json_of_a_run_is_its_receipt(windward):
    told = windward("run", "--name", "piped", "-o", "json", "--", "echo", "not on our stdout")
    (item,) = told.json()["items"]
    assert item["job"]["name"] == "piped" and len(item["sha256"]) == 64
    assert windward("report", "--name", "piped", "-o", "json").json()["sha256"] == item["sha256"]


def test_why_tells_the_duration_its_source_and_the_number_of_runs_it_rests_on(windward, home):
    def drive(name, *, to_the_end):
        spec = {k: v for k, v in LATER["spec"].items() if k != "duration"} | {"profile": "etl"}
        body = LATER | {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        world = LocalController.open(home, start=START)
        try:
            uids = world.admit(Submission((body,), (REGION,), "windward run -f x.yaml", "/work"))
            world.drive(uids, stop=lambda: not to_the_end)
        finally:
            world.close()

    drive("first", to_the_end=True)
    assert "duration  unknown: no successful run of profile etl yet, 1h assumed" in windward("why", "first").out
    drive("second", to_the_end=False)
    story = windward("why", "second").out
    assert "second  " in story and "nine of ten, learned from 1 past run of profile etl" in story
    item = windward("why", "second", "-o", "json").json()
    assert item["status"]["duration"]["source"] == "Learned" and item["status"]["duration"]["runs"] == 1
