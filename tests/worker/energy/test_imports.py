"""Meters stand alone: a node agent imports them without torch, kernels or the worker's runtime."""

import subprocess
import sys

from worker.conftest import PACKAGES

RUNTIME = ("checkpoint", "compress", "execution", "inference", "model", "serve", "train")


def test_meters_are_imported_with_torch_and_the_runtime_blocked():
    program = f"""
import sys
sys.path[:0] = {PACKAGES!r}
blocked = {{"torch", "triton", "windward_kernels", *(f"windward_worker.{{name}}" for name in {RUNTIME!r})}}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in blocked):
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
from windward_worker.energy import CpuModelMeter, EnergyRecorder, choose_meter
with EnergyRecorder([CpuModelMeter()], period_s=60.0) as recorder:
    sum(range(200_000))
assert recorder.total_j >= 0 and choose_meter().meters
assert not blocked & set(sys.modules), blocked & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
