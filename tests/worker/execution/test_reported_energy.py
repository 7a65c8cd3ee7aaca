"""What a report says of its meters: whose they are, what they missed, what they saw beyond this work."""

import pytest
from worker.energy.fakes import FakeMeter

from windward_api.contract import Method, Outcome, Progress
from windward_worker.control import MeterError, PauseRequest, read_env, read_report
from windward_worker.energy import EnergyRecorder, MeterChoice
from windward_worker.execution import run as run_module
from windward_worker.execution.run import Run
from windward_worker.execution.supervise import _message, _report


def meter():
    """Half a joule is this work's; a reading of 1e9 J is no reading; its counter saw 7 J of others."""
    made = FakeMeter([0.5, 1e9], max_w=1e-6, method=Method.MODELLED)
    made.idle_j, made.others_j = 0.0, 7.0
    return made


def check(report, first):
    words = report.message.split("; ")
    assert words[0] == first and "gpu not counted: NVML: no driver" in words
    assert any("implausible readings were cut" in w for w in words) and any("not counted: gone" in w for w in words)
    assert report.progress.metrics == {"loss": 1.0, "energy_others_j": 7.0}


def meters():
    return meter(), FakeMeter([MeterError("gone")], "dram")


def test_our_own_work_reports_what_its_meters_missed(monkeypatch, tmp_path):
    choice = MeterChoice(meters(), (), ("gpu not counted: NVML: no driver",))
    monkeypatch.setattr(run_module, "choose_meter", lambda power_w: choice)
    env = read_env({"WINDWARD_REPORT_FILE": str(tmp_path / "report.json")})
    with Run(env, PauseRequest(), "step") as run:
        run.energy.sample()
        run.report_progress(0.5, 1, {"loss": 1.0})
        run.report(Outcome.FAILED, "out of luck")
    check(read_report(env.report_file), "out of luck")


def test_a_supervised_command_has_it_told(tmp_path):
    env = read_env({"WINDWARD_PROGRESS_FILE": str(tmp_path / "progress.json")})
    env.progress_file.write_text(Progress(fraction=0.1, metrics={"loss": 1.0}).model_dump_json())
    recorder = EnergyRecorder(meters()).start()
    recorder.sample()
    recorder.stop()
    check(_report(env, 3, False, recorder, ["gpu not counted: NVML: no driver"]), "exit code 3")


@pytest.mark.parametrize(
    ("first", "notes", "length"),
    [("", [], 0), ("a" * 9, [], 9), ("", ["b"], 1), ("a", ["b", "c"], 7), ("a" * 600, ["b" * 600], 512)],
)
def test_neither_words_nor_notes_crowd_out_the_other(first, notes, length):
    message = _message(first, notes)
    assert (
        len(message) == length and (not notes or message.endswith(notes[-1][:256])) and message.startswith(first[:254])
    )
