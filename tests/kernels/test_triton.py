"""Triton's kernels on 200 random shapes an operation, in the interpreter (no GPU; float32 and float16).

Triton reads its variable when it is imported, so the shapes run in a process of their own, all operations in one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import needs

pytestmark = [
    needs("linux"),
]
SHAPES = 200
HERE = Path(__file__).parent
PATHS = os.pathsep.join([str(HERE.parents[1] / "kernels")])
OPS = (
    "attention", "ragged_attention", "block_sparse_attention", "paged_decode", "kv_append",
    "rms_norm", "residual_rms_norm", "rope", "swiglu", "grouped_linear", "w8a8_linear", "sample",
)  # fmt: skip


def child(*command, **environ):
    environ = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", **environ}
    environ.pop("WINDWARD_KERNELS", None)
    return subprocess.run([sys.executable, "-P", *command], env=environ, capture_output=True, text=True)


@pytest.fixture(scope="module")
def fuzzed():
    """Operation -> what became of its shapes."""
    done = child(str(HERE / "fuzz.py"), str(SHAPES), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-2000:]
    return {line["op"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", OPS)
def test_kernel_equals_definition(fuzzed, name):
    found = fuzzed[name]
    assert "failed" not in found, found
    assert (found["path"], found["shapes"]) == ("triton", SHAPES) and set(found["worst"]) == {"float32", "float16"}
    print(found)


def test_every_kernel_is_fuzzed(fuzzed):
    code = (
        "import windward_kernels as k; print(*(n for n, o in k.REGISTRY.items()"
        " if any(p.name == 'triton' for p in o.fast_paths)))"
    )
    done = child("-c", code, TRITON_INTERPRET="1")
    assert set(done.stdout.split()) == set(OPS) == set(fuzzed)


def test_without_gpu_and_variable_triton_is_never_imported():
    code = (
        "import sys, torch, windward_kernels as k; assert k.device() in ('cpu', 'cuda')\n"
        "k.rms_norm(torch.ones(1, 4), torch.ones(4), 1e-5)\n"
        "print(torch.cuda.is_available() or not {'triton', 'windward_kernels.triton'} & set(sys.modules))"
    )
    assert child("-c", code, TRITON_INTERPRET="0").stdout.split() == ["True"]


ASKED = """
import logging, torch, windward_kernels as k
from windward_kernels.triton import paths
logging.basicConfig(format="%(message)s")

q, w = torch.randn(1, 2, 3, 8, requires_grad=True), torch.ones(8, requires_grad=True)
k.rms_norm(k.attention(q, q, q), w, 1e-5).sum().backward()
print("gradients", k.device(), q.grad.isfinite().all().item(), w.grad.abs().sum().item() > 0)

def breaks(gate, up):
    raise RuntimeError("no such instruction")

case = lambda: (torch.ones(2, 3), torch.ones(2, 3))
tried = (k.swiglu.reference, lambda g, u: g * 0.7, lambda g, u: g / 0, breaks)
print("proven", *(paths.proven(k.swiglu, run, case) for run in tried))

q = torch.randn(1, 2, 20, 16).bfloat16()
error = (k.attention(q, q, q).double() - k.attention.reference(*[q.double()] * 3)).abs().max()
print("bfloat16", k.attention.path()[0], float(error) < 3e-2)

try:
    k.attention(torch.zeros(1, 3, 2, 4), torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 4))
except ValueError as refused:
    print("shapes", "do not fit" in str(refused))
"""


@pytest.fixture(scope="module")
def asked():
    """What a process with the interpreter said, by its first word; its warnings under `said`."""
    done = child("-c", ASKED, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-2000:]
    return {**{line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}, "said": done.stderr}


def test_training_goes_to_a_path_that_has_gradients(asked):
    assert asked["gradients"] == ["interpreter", "True", "True"]


def test_a_kernel_that_is_wrong_or_breaks_is_passed_over(asked):
    assert asked["proven"] == ["True", "False", "False", "False"]
    assert "no such instruction" in asked["said"] and "its error of" in asked["said"]


def test_bfloat16_is_widened_for_the_interpreter(asked):
    assert asked["bfloat16"] == ["triton", "True"]


def test_shapes_that_do_not_fit_are_named(asked):
    assert asked["shapes"] == ["True"]
