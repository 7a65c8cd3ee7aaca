"""Launch options: where they come from, and what tuning keeps. In the interpreter: no GPU's figures, the same code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"


def child(*command):
    environ = {**os.environ, "PYTHONPATH": str(KERNELS), "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, "-P", *command], env=environ, capture_output=True, text=True)


TUNED = """
import json, sys, torch
from pathlib import Path
import windward_kernels as k
from windward_kernels.triton import flash, launch, tune

print("none", launch.gpu() == "", launch.tuned("flash", 64, {"TILE_Q": 64}) == {"TILE_Q": 64})
launch.gpu = lambda: "Test GPU"
launch.table = lambda: {"Test GPU": {"flash": {"8": {"TILE_K": 16, "num_warps": 8}}}}
expected = {"TILE_Q": 128, "TILE_K": 16, "num_warps": 8}
print("table", flash._tiles(8, 300) == expected, flash._tiles(16, 20)["TILE_K"] == 64)

def inputs():
    ends = torch.tensor([0, 20, 33], dtype=torch.int32)
    return torch.randn(33, 2, 8), torch.randn(33, 1, 8), torch.randn(33, 1, 8), ends, ends

asked, right = [], flash.ragged_attention
def run(*args):
    tiles = flash._tiles(8, 33)
    asked.append((tiles["TILE_Q"], tiles["TILE_K"]))
    return right(*args) * (1.5 if tiles["TILE_K"] == 64 else 1)

def timer(call):  # wider is quicker, and no trial at all is slowest
    call()
    return 100.0 if "flash" not in launch._trial else 1 / sum(launch._trial["flash"].values())

trial = tune.Trial("flash", 8, k.ragged_attention, run, inputs, {"TILE_Q": (16, 32), "TILE_K": (16, 32, 64)})
path = Path(sys.argv[1])
entry = tune.tune("Test GPU", [trial], timer, path)
print("kept", entry == {"flash": {"8": {"TILE_Q": 32, "TILE_K": 32}}}, launch._trial == {}, len(set(asked)) == 7)
never = tune.tune("Slow GPU", [trial], lambda call: 1.0, path)
print("nothing", never == {})
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    path = tmp_path_factory.mktemp("tuned") / "tuned.json"
    path.write_text('{"about": "test", "gpus": {"Other GPU": {"flash": {}}}}')
    done = child("-c", TUNED, str(path))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    return {**{line[0]: line[1:] for line in lines}, "path": path, "err": done.stderr}


def test_without_an_entry_a_kernel_keeps_its_own_choice(said):
    assert said["none"] == ["True", "True"]


def test_an_entry_of_this_gpu_replaces_and_adds(said):
    assert said["table"] == ["True", "True"]


def test_the_quickest_right_options_are_kept(said):
    """The widest tile was quicker still, and wrong."""
    assert said["kept"] == ["True", "True", "True"] and said["nothing"] == ["True"]
    assert "is passed over: its error" in said["err"]


def test_other_gpus_entries_stay(said):
    document = json.loads(said["path"].read_text())
    assert set(document["gpus"]) == {"Other GPU", "Test GPU", "Slow GPU"} and document["about"] == "test"


def test_the_committed_table_can_be_read():
    code = (
        "from windward_kernels.triton import launch; "
        "print(all(isinstance(o, dict) for g in launch.table().values() for s in g.values() for o in s.values()))"
    )
    assert child("-c", code).stdout.split() == ["True"]
