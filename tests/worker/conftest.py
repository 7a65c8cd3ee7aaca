"""A run's surroundings in a temporary folder, and ways to start one as a process of its own."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGES = [str(Path(__file__).parents[2] / top) for top in ("crds", "workers", "kernels")]
TEXT = "".join(f"def rule_{i}(wind, sun):\n    return wind * {i} + sun // {i % 7 + 1}\n\n" for i in range(160))


class World:
    """Folders, environment and processes of one run after another."""

    def __init__(self, root):
        self.root = root
        self.storage, self.checkpoints = root / "storage", root / "checkpoints"
        self.report_file, self.progress_file = root / "report.json", root / "progress.json"
        self.exit_file = root / "exit.json"
        (self.storage / "text").mkdir(parents=True)
        (self.storage / "text" / "rules.py").write_text(TEXT)
        self.environ = {
            "WINDWARD_JOB": "ns/job",
            "WINDWARD_RUN": "uid-1",
            "WINDWARD_CHECKPOINT_DIR": str(self.checkpoints),
            "WINDWARD_STORAGE_DIR": str(self.storage),
            "WINDWARD_REPORT_FILE": str(self.report_file),
            "WINDWARD_PROGRESS_FILE": str(self.progress_file),
            "OMP_WAIT_POLICY": "PASSIVE",
        }

    @property
    def report(self):
        from windward_worker.control import read_report

        return read_report(self.report_file)

    @property
    def env(self):
        from windward_worker.control import read_env

        return read_env(self.environ)

    def popen(self, *args, **environ):
        """`windward-worker` as a fresh interpreter."""
        path = os.pathsep.join(PACKAGES)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "windward_worker", *args],
            env={**os.environ, **self.environ, "PYTHONPATH": path, **environ},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.root,
        )

    def fork(self, *args, **environ):
        """`windward-worker` as a forked process: a real one for signals and files, without the seconds of imports."""
        child = multiprocessing.get_context("fork").Process(target=_main, args=(args, {**self.environ, **environ}))
        child.start()
        return child

    def run(self, *args, **environ):
        """Forked and waited for: its exit code."""
        child = self.fork(*args, **environ)
        child.join()
        return child.exitcode


def _main(args, environ):
    from windward_worker.cli import main

    os.environ.update(environ)
    sys.exit(main(list(args)))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def until():
    """Wait for a condition, failing after a time that no healthy machine needs."""

    def wait(condition, limit_s=120.0):
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    return wait


@pytest.fixture
def kill():
    def send(child):
        os.kill(child.pid, signal.SIGKILL)
        child.join()

    return send
