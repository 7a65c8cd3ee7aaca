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
    return {(line["op"], line["path"]): line for line in run_fuzz(str(SHAPES))}


def run_fuzz(*arguments, **environ):
    """The lines that fuzz.py prints on a CPU."""
    usual = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}
    usual.pop("WINDWARD_KERNELS", None)
    command = [sys.executable, "-P", str(HERE / "fuzz.py"), *arguments]
    done = subprocess.run(command, env={**usual, **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("name", "path"), TORCH_PATHS)
def test_path_equals_definition(fuzzed, name, path):
    found = fuzzed[name, path]
    assert "failed" not in found, found
    if "fault" in found:  # this processor's library is wrong: then the suite shows that nobody runs it
        op = kernels.REGISTRY[name]
        (fast,) = (p for p in op.fast_paths if p.name == path)
        assert op.fault(fast) and op.path()[0] != path, found
        return
    assert found["shapes"] == SHAPES and set(found["worst"]) == {"float32", "bfloat16"}
    assert found["empty"] > 0 or name not in MAY_BE_EMPTY
    print(found)


CLASSES = {
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX-512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX-512 with VNNI": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX-512 with bfloat16": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
}


@pytest.mark.parametrize("processor", CLASSES)
def test_what_a_call_runs_is_right_on_every_class_of_processor(processor):
    """As if on each class that this one can be: the libraries are told to use no more."""
    lines = run_fuzz("60", "chosen", **CLASSES[processor])
    assert {line["op"] for line in lines} == {name for name, _ in TORCH_PATHS} - {"fp8_linear"}  # CUDA's alone
    assert not [line for line in lines if "failed" in line], lines
    assert next(line["path"] for line in lines if line["op"] == "attention") == "torch-sdpa", "not all are definitions"


def test_an_integer_product_of_one_column_is_right():
    """torch 2.11 on a CPU with VNNI: garbage where the inner size is 1, in 28 of 4,000 random shapes."""
    import torch

    op = kernels.w8a8_linear
    for rows, outputs in ((1, 1), (2, 17), (33, 64)):
        x, weight = torch.randn(rows, 1), kernels.RowWeight.of(torch.randn(outputs, 1))
        for path in op.fast_paths:
            torch.testing.assert_close(path.run(x, weight), op.reference(x, weight), rtol=1e-6, atol=1e-6)


def test_every_op_with_a_foreign_path_has_probes_of_degenerate_shapes():
    """And they can be moved to a device as they are: `meta` stands for it."""
    import torch

    from windward_kernels.registry import on_device

    for name, op in kernels.REGISTRY.items():
        if not any(path.foreign for path in op.fast_paths):
            continue
        calls = list(op.probe())
        tensors = [x for args, _ in calls for x in args if isinstance(x, torch.Tensor)]
        assert 1 in {n for x in tensors for n in x.shape} and not all(x.is_contiguous() for x in tensors), name
        assert any(not x.numel() for x in tensors) or name == "paged_decode", name
        for args, options in calls[:9]:
            for x in (*on_device(args, "meta"), *on_device(options, "meta").values()):
                assert not isinstance(x, torch.Tensor) or x.device.type == "meta"


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
