"""The folder `operator/` must never become a module: Python's own `operator` would be gone (STYLE.md, section 4)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ["operator", "crds", "workers", "kernels"]


@pytest.mark.parametrize("top", TOPS)
def test_no_module_stands_loose_in_a_top_folder(top):
    assert [p.name for p in (ROOT / top).glob("*.py*")] == []


def test_no_tests_under_operator():
    """pytest in importlib mode would replace sys.modules["operator"]."""
    found = [p for name in ("test_*.py", "*_test.py", "conftest.py") for p in (ROOT / "operator").rglob(name)]
    assert found == []


@pytest.mark.parametrize("flags", [[], ["-P"]], ids=["cwd on the path", "-P"])
def test_the_standard_library_wins_at_the_root(flags):
    code = (
        "import operator, collections; operator.attrgetter('x'); assert 'lib' in operator.__file__, operator.__file__"
    )
    done = subprocess.run([sys.executable, *flags, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_here_too():
    import operator

    assert callable(operator.attrgetter) and ROOT / "operator" not in Path(operator.__file__).parents
