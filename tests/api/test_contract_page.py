"""The page on the container contract is true: its examples pause, resume and finish; its variables and fields exist."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from windward_api import contract

PAGE = (Path(__file__).parents[2] / "docs" / "container-contract.md").read_text()
EXAMPLES = {"python": [sys.executable, "-c"], "sh": ["sh", "-c"]}


def example(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return [*EXAMPLES[language], code]


@pytest.mark.parametrize("language", EXAMPLES)
def test_the_example_pauses_and_goes_on_from_its_checkpoint(language, tmp_path):
    env = {"PATH": os.environ["PATH"], contract.ENV_CHECKPOINT_DIR: str(tmp_path)}
    first = subprocess.Popen(example(language), env=env)
    time.sleep(0.7)
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == contract.EXIT_PAUSED
    done = int((tmp_path / "step").read_text())
    assert 0 < done < 40
    assert subprocess.run(example(language), env=env, timeout=60, check=False).returncode == contract.EXIT_DONE
    assert int((tmp_path / "step").read_text()) == 40


def test_every_variable_of_the_page_is_one_of_the_contract():
    known = {value for name, value in vars(contract).items() if name.startswith("ENV_")}
    assert set(re.findall(r"`(WINDWARD_[A-Z_]+)`", PAGE)) <= known


def test_the_report_of_the_page_is_heard_whole():
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    heard = contract.heard(text)
    assert heard.set_aside == () and heard.report.outcome is contract.Outcome.PAUSED
    assert heard.report.progress.fraction == 0.4 and heard.report.progress.unit == "steps"
