"""Nothing is skipped but by tests/skips.py, and nothing at all where skipping is forbidden."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from skips import TABLE

TESTS = Path(__file__).resolve().parents[1]
ANY_SKIP = re.compile(
    r"\b(?:pytest\s*\.\s*(?:skip|importorskip)\b|mark\s*\.\s*skip|skipif\b|importorskip\b|SkipTest\b|unittest\s*\.\s*skip"
    r"|from pytest import[^\n]*\b(?:skip|importorskip)\b)"
)


def test_no_other_file_skips():
    found = [
        f"{path.relative_to(TESTS)}:{n}"
        for path in sorted(TESTS.rglob("*.py"))
        if path not in (TESTS / "skips.py", Path(__file__).resolve())
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if ANY_SKIP.search(line)
    ]
    assert found == [], "name what is lacking in tests/skips.py and ask there"


@pytest.mark.parametrize(
    "line",
    ["pytest.skip('x')", "@pytest.mark.skip", "pytest.mark.skipif(True)", "pa = pytest.importorskip('a')",
     "from pytest import skip", "raise unittest.SkipTest", "@unittest.skipUnless(x)"],
)  # fmt: skip
def test_every_way_to_skip_is_seen(line):
    assert ANY_SKIP.search(line)


def test_each_need_of_the_table_is_asked_for():
    text = "\n".join(p.read_text() for p in TESTS.rglob("*.py") if p.name not in ("skips.py", "test_skips.py"))
    asked = set(re.findall(r'"([^"\n]+)"', " ".join(re.findall(r"\b(?:needs?|unavailable)\(([^)]*)\)", text))))
    assert asked >= set(TABLE), "a line that nobody asks for"


LACKING = """
import pytest, skips
skips.TABLE["unicorn"] = skips.Need("breed one", lambda: "none was seen")

@skips.needs("unicorn")
def test_marked(): pass

def test_asked(): skips.need("unicorn")

def test_tried(): skips.unavailable("cluster", "it broke")
"""


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [({}, "3 skipped"), ({"CI": "false"}, "3 skipped"), ({"CI": "true"}, "2 failed, 1 error"),
     ({"CI": "1"}, "2 failed, 1 error"), ({"WINDWARD_NO_SKIP": "1"}, "2 failed, 1 error")],
    ids=str,
)  # fmt: skip
def test_what_is_lacking_is_skipped_or_where_that_is_forbidden_fails(tmp_path, environment, outcome):
    (tmp_path / "test_lacking.py").write_text(LACKING)
    clean = {k: v for k, v in os.environ.items() if k not in ("CI", "WINDWARD_NO_SKIP")}
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "skips", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        env={**clean, **environment, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert outcome in done.stdout, done.stdout + done.stderr
