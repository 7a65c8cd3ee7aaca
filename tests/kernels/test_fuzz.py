"""torch's paths on 200 random shapes an operation, against the definitions in float64 (float32 and bfloat16)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import windward_kernels as kernels

SHAPES = 200
HERE = Path(__file__).parent
TORCH_PATHS = (
    ("attention", "torch-sdpa"),
    ("ragged_attention", "torch-sdpa"),
    ("block_sparse_attention", "torch-gather"),
    ("paged_decode", "torch-sdpa"),
    ("rms_norm", "torch-fused"),
    ("residual_rms_norm", "torch-fused"),
    ("swiglu", "torch-silu"),
    ("linear", "torch-linear"),
    ("w8a8_linear", "torch-float"),
    ("w8a8_linear", "torch-int-mm"),
    ("fp8_linear", "torch-scaled-mm"),
)
MAY_BE_EMPTY = {"attention", "ragged_attention", "rms_norm", "swiglu", "linear", "w8a8_linear", "fp8_linear"}


@pytest.fixture(scope="module")
def fuzzed():
    """(Operation, path) -> what became of its shapes. A process of its own: it shares the script with Triton's."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}
    environ.pop("WINDWARD_KERNELS", None)
    command = [sys.executable, "-P", str(HERE / "fuzz.py"), str(SHAPES)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {(line["op"], line["path"]): line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize(("name", "path"), TORCH_PATHS)
def test_path_equals_definition(fuzzed, name, path):
    found = fuzzed[name, path]
    assert "failed" not in found, found
    assert found["shapes"] == SHAPES and set(found["worst"]) == {"float32", "bfloat16"}
    assert found["empty"] > 0 or name not in MAY_BE_EMPTY
    print(found)


def test_every_path_is_fuzzed():
    """torch's here, Triton's in test_triton.py, the compiled ones in test_cpp.py."""
    paths = {(name, path.name) for name, op in kernels.REGISTRY.items() for path in op.fast_paths}
    compiled = {("packed_linear", "cpp"), ("paged_attention", "cpp")}
    assert {p for p in paths if p[1] != "triton"} == set(TORCH_PATHS) | compiled


def test_fp8_waits_for_hardware(monkeypatch):
    """The path is there, and ready only where a GPU of Ada's age or later is."""
    import torch

    from windward_kernels import products

    (path,) = kernels.fp8_linear.fast_paths
    assert path.devices == {"cuda"}
    for found, capability, ready in ((False, (9, 0), False), (True, (8, 0), False), (True, (8, 9), True)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert path.ready() is products.fp8_here() is ready
