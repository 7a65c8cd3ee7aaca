"""Two workers share the tests so that a cluster, a model or a server is started once."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBE = """
import os, pytest
@pytest.mark.parametrize("n", range(20))
def test_where(n):
    with open(r"{log}", "a") as log:
        log.write(__file__ + " " + os.environ["PYTEST_XDIST_WORKER"] + "\\n")
"""


def test_tests_of_a_file_and_all_of_the_cluster_run_on_one_worker(tmp_path):
    """In a tree of its own with our conftest: each group of files is seen on one worker alone."""
    log, tests = tmp_path / "log", tmp_path / "tests"
    for name in ("cluster/test_a", "cluster/test_b", "api/test_c", "api/test_d", "zoo/test_e"):
        file = tests / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PROBE.format(log=log))
    (tests / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\nmarkers = needs\n")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "-p", "no:cacheprovider"]
    env = {"PYTHONPATH": str(ROOT / "tests"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*command, "tests"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    workers = {}
    for line in log.read_text().splitlines():
        path, worker = line.split()
        group = "cluster" if "/cluster/" in path else path
        workers.setdefault(group, set()).add(worker)
    assert len(workers) == 4 and all(len(seen) == 1 for seen in workers.values()), workers
    assert set.union(*workers.values()) == {"gw0", "gw1"}
