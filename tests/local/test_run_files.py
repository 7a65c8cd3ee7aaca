"""What lies in a run's folder is foreign: it is read where it makes sense, and counts as absent where it does not."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from windward.cluster import run_files

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
EXIT = {"exit_code": 75, "finished_at": "2026-03-02T07:00:00+00:00", "started_at": "2026-03-02T06:00:00+00:00"}


def written(folder, name, text):
    (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))


def test_an_empty_folder_says_nothing(tmp_path):
    assert run_files.read_exit(tmp_path) is None and not run_files.has_exit(tmp_path)
    assert run_files.read_progress(tmp_path) is None and run_files.last_sign(tmp_path) is None
    assert run_files.read_report(tmp_path).report is None


def test_an_exit_names_code_and_times(tmp_path):
    written(tmp_path, run_files.EXIT, EXIT)
    ended = run_files.read_exit(tmp_path)
    assert (ended.code, ended.started, ended.finished) == (75, T0, T0 + timedelta(hours=1))
    written(tmp_path, run_files.EXIT, {k: v for k, v in EXIT.items() if k != "started_at"})
    assert run_files.read_exit(tmp_path).started is None


@pytest.mark.parametrize(
    "change",
    [
        {"finished_at": "2026-03-02T07:00:00"}, {"finished_at": "soon"}, {"finished_at": 7}, {"exit_code": None},
        {"exit_code": "x"}, {"started_at": "2026-03-02T08:00:00+00:00"}, {"started_at": "2026-03-02T06:00:00"},
    ],
)  # fmt: skip
def test_an_exit_that_cannot_be_is_there_and_says_nothing(tmp_path, change):
    written(tmp_path, run_files.EXIT, {**EXIT, **change})
    assert run_files.read_exit(tmp_path) is None and run_files.has_exit(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "no json", '{"exit_code": 0}', "\0"])
def test_an_exit_of_any_text_is_read_without_harm(tmp_path, text):
    written(tmp_path, run_files.EXIT, text)
    assert run_files.read_exit(tmp_path) is None


@pytest.mark.parametrize(("body", "fraction"), [({"fraction": 0.5}, 0.5), ({"fraction": 7}, None), ("soon", None)])
def test_progress_is_a_fraction(tmp_path, body, fraction):
    written(tmp_path, run_files.PROGRESS, body)
    progress = run_files.read_progress(tmp_path)
    assert (progress.fraction if progress is not None else None) == fraction


def test_the_last_sign_is_the_newest_of_all_files(tmp_path):
    for name, hours in ((run_files.LOG, 1), (run_files.PROGRESS, 3), ("alive", 2), (run_files.REPORT, 9)):
        written(tmp_path, name, "{}")
        os.utime(tmp_path / name, (0, (T0 + timedelta(hours=hours)).timestamp()))
    assert run_files.last_sign(tmp_path) == T0 + timedelta(hours=3)


def test_the_environment_names_the_files_that_are_read(tmp_path):
    from windward_api import contract

    env = run_files.file_environment(tmp_path)
    assert env[contract.ENV_EXIT_FILE] == str(tmp_path / run_files.EXIT) and len(env) == 3
