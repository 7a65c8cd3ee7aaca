"""What a run's row, files and process say together."""

from datetime import UTC, datetime, timedelta

import pytest

from windward.cluster import run_files
from windward.cluster.local_runs import GRACE, LocalRuns
from windward.cluster.run_table import RunRow
from windward.domain.clock import FixedClock
from windward.domain.run import Phase

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
EXIT = '{"exit_code": %d, "finished_at": "2026-03-02T07:00:00+00:00", "started_at": "2026-03-02T06:00:05+00:00"}'


class Supervisors:
    """One supervisor that lives or not; `ends` is what it does when somebody looks whether it lives."""

    def __init__(self, lives=True, ends=lambda: None):
        self.lives, self.ends, self.calls = lives, ends, []

    def living(self, row):
        self.ends()
        return 42 if self.lives else None

    def __getattr__(self, name):
        def call(row):
            self.calls.append(name)
            return T0 + timedelta(hours=2) if name == "last_alive" else row

        return call


def row(folder, asked=None, scale=1.0):
    return RunRow("night-1", "u", 1, "here", "u-1", folder, scale, T0, T0, 42, "x", asked, "slow", None, 0)


def observed(folder, supervisors, now=T0 + timedelta(hours=3), **more):
    return LocalRuns(supervisors, FixedClock(now)).observe(row(folder, **more))


def test_a_supervisor_that_lives_is_a_run_that_goes_on(tmp_path):
    supervisors = Supervisors()
    run = observed(tmp_path, supervisors)
    assert (run.phase, run.exit_code, run.finished_at, run.level) == (Phase.RUNNING, None, None, "slow")
    assert supervisors.calls == ["note_seen"]


def test_what_ends_while_it_is_looked_at_is_not_lost(tmp_path):
    """Its exit file came after the first look, and its end before the second."""
    run = observed(tmp_path, Supervisors(False, lambda: (tmp_path / run_files.EXIT).write_text(EXIT % 0)))
    assert (run.phase, run.exit_code) == (Phase.SUCCEEDED, 0)


@pytest.mark.parametrize(("asked", "phase"), [(None, Phase.LOST), (T0, Phase.PAUSED)])
def test_a_dead_supervisor_that_left_no_word_is_cleared_after(tmp_path, asked, phase):
    supervisors = Supervisors(False)
    run = observed(tmp_path, supervisors, asked=asked)
    assert (run.phase, run.exit_code, run.finished_at) == (phase, None, T0 + timedelta(hours=2))
    assert supervisors.calls == ["clear_once", "last_alive"]


@pytest.mark.parametrize(("code", "phase", "message"), [(75, Phase.PAUSED, ""), (137, Phase.PAUSED, "does not honour"),
                                                        (3, Phase.FAILED, ""), (0, Phase.SUCCEEDED, "")])  # fmt: skip
def test_a_run_that_was_asked_to_pause_ends_as_its_code_says(tmp_path, code, phase, message):
    (tmp_path / run_files.EXIT).write_text(EXIT % code)
    run = observed(tmp_path, Supervisors(False), asked=T0)
    assert run.phase is phase and message in run.message and run.pause_requested and bool(run.message) is bool(message)


@pytest.mark.parametrize(("after", "killed"), [(GRACE, False), (GRACE + timedelta(seconds=1), True)])
def test_a_pause_that_is_ignored_ends_after_the_grace_period(tmp_path, after, killed):
    supervisors = Supervisors()
    run = observed(tmp_path, supervisors, now=T0 + after, asked=T0)
    assert run.phase is Phase.STOPPING and ("kill" in supervisors.calls) is killed


def test_planned_times_run_as_fast_as_they_were_planned(tmp_path):
    (tmp_path / run_files.EXIT).write_text(EXIT % 0)
    run = observed(tmp_path, Supervisors(False), scale=60.0)
    assert run.started_real == T0 + timedelta(seconds=5) and run.started_at == T0 + timedelta(minutes=5)
    assert run.finished_at == run.started_at + 60 * timedelta(minutes=59, seconds=55)
