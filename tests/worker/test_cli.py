"""The command line says what is wrong, and asks for no more than a command needs."""

import json
import os
import subprocess
import sys

import pytest
from worker.conftest import PACKAGES

from windward_api.contract import Outcome


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train", "--spec", "{"], ["no valid TrainSpec", "Invalid JSON"]),
        (["train", "--spec", '{"steps": 5, "stepz": 1}'], ["stepz", "known here", "checkpointEvery"]),
        (["train", "--spec", '{"steps": 5, "model": {"widht": 64}}'], ["model.widht", "layers, width, vocabulary"]),
        (["train", "--spec", '{"steps": 0}'], ["steps", "greater than or equal to 1"]),
        (["train", "--spec", '{"steps": 5, "data": {}}'], ["set either corpus or path"]),
        (["infer", "--spec", '{"prompts": ["a"]}'], ["no valid InferSpec", "model", "required"]),
        (["infer", "--spec", '{"model": {"job": "a"}}'], ["set exactly one of input, prompts"]),
        (["exec"], ["no command given", "after --"]),
    ],
)
def test_a_bad_request_is_explained(world, capfd, argv, words):
    assert world.run(*argv) == 2
    said = capfd.readouterr().err
    for word in words:
        assert word in said
    assert world.report.outcome == Outcome.FAILED and world.report.message in " ".join(said.split())


def test_a_bad_environment_is_explained(world, capfd):
    assert world.run("exec", "--", "true", WINDWARD_POWER_WATTS="lots") == 2
    assert "WINDWARD_POWER_WATTS" in capfd.readouterr().err


def loaded(code):
    """Names of the modules that a fresh interpreter has after running some code."""
    program = f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PACKAGES)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "code",
    [
        "import windward_worker.control, windward_worker.execution.run, windward_worker.execution.supervise",
        "import windward_worker.energy; windward_worker.energy.choose_meter()",
        "from windward_worker.cli import main; main(['exec', '--', 'true'])",
    ],
)
def test_contract_and_meters_load_no_torch(code):
    names = loaded(code)
    assert "windward_worker" in names and not names & {"torch", "numpy", "transformers", "windward", "windward_kernels"}


def test_a_resume_does_not_load_the_compiler():
    """torch's compiler costs seconds at each start; nothing here may pull it in."""
    program = (
        "import sys, torch, windward_worker.train, windward_worker.inference\n"
        "from windward_worker.model import Decoder, decoder_config\n"
        "from windward_worker.train.optimiser import AdamW\n"
        "d = Decoder(decoder_config(1, 32, 300, 16, 0)); d.initialise(0)\n"
        "d(torch.tensor([[1, 2]])).sum().backward(); AdamW(list(d.parameters())).step(1, 0.1)\n"
        "assert 'torch._dynamo' not in sys.modules and 'torch._inductor' not in sys.modules"
    )
    assert "torch" in loaded(program)


def test_kernels_know_nothing_else_of_ours():
    assert not loaded("import windward_kernels") & {"windward_api", "windward_worker", "windward"}
