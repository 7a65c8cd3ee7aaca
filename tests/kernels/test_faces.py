"""What Python hands to the compiled kernels: hostile arguments are named, and the kernels stay inside their memory.

Each runs in a process of its own, as the fault that it looks for is a killed process (hostile.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from windward_kernels import cpp
from windward_kernels.cpp import build

from .hostile import HOSTILE

HERE = Path(__file__).parent
needs = pytest.mark.skipif(not cpp.available(), reason=f"no extension: {cpp.why_not()}")


def run(script, *arguments, **environ):
    """The JSON lines that a script prints; it must end by itself."""
    command = [sys.executable, "-P", str(script), *arguments]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"exit {done.returncode} after {done.stdout[-200:]}\n{done.stderr[-4000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def told():
    """Case -> what its error said."""
    return {line["case"]: line["told"] for line in run(HERE / "hostile.py", "0")[:-1]}


@needs
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_argument_is_named(told, case):
    kind, _, words = told[case].partition(": ")
    assert kind == "ValueError" and HOSTILE[case][0] in words.replace(":", " ").split(), told[case]


@pytest.fixture(scope="module")
def sanitised(tmp_path_factory):
    """The environment in which the extension is built with AddressSanitizer and UndefinedBehaviorSanitizer."""
    runtime = [
        subprocess.run([build.compiler(), f"-print-file-name={n}"], capture_output=True, text=True).stdout.strip()
        for n in ("libasan.so", "libubsan.so")
    ]
    if not all(Path(path).is_file() for path in runtime):
        strict = os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("WINDWARD_NO_SKIP")
        (pytest.fail if strict else pytest.skip)("the compiler has no sanitisers: apt-get install g++")
    folder = tmp_path_factory.mktemp("sanitised")
    flags = ["-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    build.build(folder / build.library_name(), flags)
    options = "detect_leaks=0:handle_segv=1:allocator_may_return_null=1"  # Python's own leaks are not ours
    environ = {"WINDWARD_KERNELS_DIR": str(folder), "LD_PRELOAD": " ".join(runtime), "ASAN_OPTIONS": options}
    assert run_line("from windward_kernels.cpp.build import library_path; print(library_path())", environ) == str(
        folder / build.library_name()
    )
    return environ


def run_line(code, environ):
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True).stdout.strip()


@needs
def test_the_sanitisers_see_a_write_beside_the_memory(sanitised):
    """They are there and strict: a wrong pointer past our checks is what kills a process."""
    code = """
import ctypes, numpy as np
from windward_kernels.cpp import library, pack
weight = pack("F32", np.zeros(64, np.uint8), 4, 4)
into = np.zeros(4, np.float32)
library().ww_row(ctypes.byref(weight.as_c()), 1 << 16, into.ctypes.data)
"""
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env={**os.environ, **sanitised}, capture_output=True, text=True)
    assert done.returncode != 0 and "AddressSanitizer" in done.stderr, done.stderr[-1000:]


@needs
@pytest.mark.parametrize("isa", ["", "plain"])
def test_kernels_stay_in_their_memory(sanitised, isa):
    """Seconds of sound and spoilt calls: no read or write beside what they were given, no empty conversion."""
    *_, last = run(HERE / "hostile.py", os.environ.get("WINDWARD_FUZZ_S", "2"), **sanitised, WINDWARD_ISA=isa)
    assert last["drawn"] > 100 and last["refused"] > 10, last


@needs
def test_a_model_from_outside_stays_in_its_memory(sanitised, tmp_path):
    """Mutated model files, opened and run on the sanitised kernels."""
    script = HERE.parent / "worker" / "model" / "mutate.py"
    *_, counts = run(script, os.environ.get("WINDWARD_FUZZ_S", "3"), str(tmp_path), **sanitised)
    assert counts["refused"] > 5 and counts["runs"] > 5, counts
