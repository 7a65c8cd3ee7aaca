"""`exec`: any command under the contract, as a real process."""

import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from windward_api.contract import EnergyComponent, EnergySeries, Method, Outcome, Progress, Report

PAUSES = """
import signal, sys, time, pathlib
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path("ready").touch()
time.sleep(60)
"""
TREE = """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
pathlib.Path("ready").write_text(str(child.pid))
time.sleep(60)
"""


def says(report, code=0):
    return f"import os, sys; open(os.environ['WINDWARD_REPORT_FILE'], 'w').write({report!r}); sys.exit({code})"


def python(code):
    return ("exec", "--", sys.executable, "-c", code)


@pytest.mark.parametrize(
    ("code", "outcome", "fraction", "words"),
    [
        (0, Outcome.SUCCEEDED, 1.0, ""),
        (75, Outcome.PAUSED, None, ""),  # it said nothing of its progress, so nothing is claimed for it
        (3, Outcome.FAILED, None, "exit code 3"),
        (-9, Outcome.FAILED, None, "signal 9"),
    ],
)
def test_exit_codes_become_outcomes(world, code, outcome, fraction, words):
    ends = f"import os, sys; os.kill(os.getpid(), {-code}) if {code} < 0 else sys.exit({code})"
    expected = 128 - code if code < 0 else code
    assert world.run(*python(ends), WINDWARD_EXIT_FILE=str(world.exit_file)) == expected
    report = world.report
    assert report.outcome == outcome and words in report.message
    assert (report.progress.fraction if report.progress is not None else None) == fraction
    assert report.energy.total_j > 0
    left = json.loads(world.exit_file.read_text())
    started, finished = (datetime.fromisoformat(left[k]) for k in ("started_at", "finished_at"))
    assert left["exit_code"] == expected and started <= finished


def test_a_pause_is_passed_on(world, until):
    child = world.popen(*python(PAUSES))
    until((world.root / "ready").exists)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 75
    assert world.report.outcome == Outcome.PAUSED


def test_a_command_that_does_not_honour_the_contract_is_told_so(world, until):
    child = world.popen(*python(TREE), WINDWARD_EXIT_FILE=str(world.exit_file))
    until(lambda: (world.root / "ready").exists() and (world.root / "ready").read_text())
    grandchild = int((world.root / "ready").read_text())
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 143
    assert world.report.outcome == Outcome.FAILED
    assert "does not honour the pause contract" in world.report.message
    assert json.loads(world.exit_file.read_text())["exit_code"] == 143
    until(lambda: not alive(grandchild))  # the whole group was asked, not the child alone


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_child_dies_with_its_supervisor(world, until):
    code = "import os, pathlib, time; pathlib.Path('ready').write_text(str(os.getpid())); time.sleep(60)"
    child = world.popen(*python(code))
    until(lambda: (world.root / "ready").exists() and (world.root / "ready").read_text())
    child.kill()
    child.wait()
    until(lambda: not alive(int((world.root / "ready").read_text())))


def test_the_childs_own_report_is_kept_and_metered(world):
    said = Report(outcome=Outcome.SUCCEEDED, progress=Progress(fraction=1, units_done=7, unit="step"), checkpoint="c7")
    assert world.run(*python(says(said.model_dump_json()))) == 0
    kept = world.report
    assert kept.progress.units_done == 7 and kept.checkpoint == "c7" and kept.energy.total_j > 0


OWN = EnergySeries(
    start="2026-03-01T00:00:00Z",
    step_s=9,
    components=(EnergyComponent(name="gpu", method=Method.MEASURED, source="wall-meter", joules=(9e8, 1e8)),),
)


def test_what_the_child_says_of_its_energy_stands_beside_ours(world):
    """Larger and called measured, it still is its own word."""
    progress = Progress(fraction=1, energy_j=5e8, metrics={"loss": 1.5})
    world.run(*python(says(Report(outcome=Outcome.SUCCEEDED, progress=progress, energy=OWN).model_dump_json())))
    report = world.report
    assert [c.name for c in report.energy.components] == ["cpu"] and 0 < report.energy.total_j < 1e6
    assert report.progress.energy_j == pytest.approx(report.energy.total_j)
    told = report.progress.metrics
    assert told["reported_energy_j gpu measured wall-meter"] == 1e9 and told["reported_energy_j progress"] == 5e8
    assert told["loss"] == 1.5


def test_it_is_told_in_words_where_there_is_no_progress(world):
    said = Report(outcome=Outcome.SUCCEEDED, energy=OWN, message="mine")
    world.run(*python(says(said.model_dump_json())))
    assert world.report.progress is None and 0 < world.report.energy.total_j < 1e6
    assert world.report.message == "mine; reported_energy_j gpu measured wall-meter: 1e+09, not counted"


def test_the_childs_own_progress_does_not_replace_a_meter(world):
    code = f"open({str(world.progress_file)!r}, 'w').write('{{\"fraction\": 0.4, \"energy_j\": 1e9}}'); exit(75)"
    world.run(*python(code))
    progress = world.report.progress
    assert progress.energy_j == pytest.approx(world.report.energy.total_j) and progress.energy_j < 1e6
    assert progress.metrics["reported_energy_j progress"] == 1e9


def test_an_orphan_stays_in_the_account(world):
    """Its parent ends at once, unwaited; it uses CPU time of its own, and ends before the run does."""
    burn = "import time; e = time.process_time() + 1.2\nwhile time.process_time() < e: pass"
    spawn = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {spawn!r}]); time.sleep(4)"
    world.run(*python(code))
    assert world.report.energy.total_j >= 1.2 * 3.5


def test_the_exit_code_outweighs_the_report(world):
    said = Report(outcome=Outcome.SUCCEEDED, progress=Progress(fraction=1))
    assert world.run(*python(says(said.model_dump_json(), code=1))) == 1
    assert world.report.outcome == Outcome.FAILED and "exit code 1" in world.report.message


def test_garbage_and_stale_reports_are_not_taken_for_news(world):
    world.report_file.write_text(Report(outcome=Outcome.PAUSED, progress=Progress(fraction=0.9)).model_dump_json())
    world.run(*python("pass"))
    assert world.report.outcome == Outcome.SUCCEEDED and world.report.message == ""
    world.run(*python(says("no json")))
    assert world.report.outcome == Outcome.SUCCEEDED


def test_progress_that_the_child_left_is_reported(world):
    code = f"open({str(world.progress_file)!r}, 'w').write('{{\"fraction\": 0.4, \"units_done\": 12}}'); exit(75)"
    world.run(*python(code))
    assert world.report.progress.fraction == 0.4 and world.report.progress.units_done == 12


def test_declared_watts_times_time(world):
    started_s = time.monotonic()
    world.run(*python("import time; time.sleep(0.5)"), WINDWARD_POWER_WATTS="200")
    wall_s = time.monotonic() - started_s
    (component,) = world.report.energy.components
    assert (component.source, component.method) == ("declared watts x time", Method.ESTIMATED)
    assert 0.5 * 200 <= sum(component.joules) <= wall_s * 200


def test_a_command_that_cannot_start(world):
    assert world.run("exec", "--", "no-such-command", WINDWARD_EXIT_FILE=str(world.exit_file)) == 127
    assert world.report.outcome == Outcome.FAILED and "no-such-command" in world.report.message
    assert json.loads(world.exit_file.read_text())["exit_code"] == 127


def test_the_exit_file_is_not_the_childs_to_write(world):
    code = "import os, sys; sys.exit('WINDWARD_EXIT_FILE' in os.environ)"
    assert world.run(*python(code), WINDWARD_EXIT_FILE=str(world.exit_file)) == 0


def test_without_a_report_file_it_still_runs(world):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WINDWARD_")}
    world.environ = {}
    assert world.popen(*python("pass"), **environ).wait() == 0
