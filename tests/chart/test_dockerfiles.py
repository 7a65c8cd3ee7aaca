"""The two image recipes. No engine runs here: what can be known without one is tested."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from skips import need

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = {
    "operator/Dockerfile": ("requirements/operator.txt", "windward-operator"),
    "workers/Dockerfile": ("requirements/worker.txt", "windward-worker"),
}
everyone = pytest.mark.parametrize("recipe", RECIPES)


def lines(recipe: str) -> list[str]:
    """Instructions, continued lines joined, comments gone."""
    text = re.sub(r"\\\n\s*", " ", (REPOSITORY / recipe).read_text())
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def copied(recipe: str) -> list[str]:
    """What it takes from the repository."""
    words = [line.split()[1:-1] for line in lines(recipe) if line.startswith("COPY ")]
    return [word for one in words if not one[0].startswith("--from=") for word in one]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps the path out: the last pattern that fits decides."""
    out = False
    for pattern in (REPOSITORY / ".dockerignore").read_text().split("\n"):
        if not pattern or pattern.startswith("#"):
            continue
        body = pattern.removeprefix("!")
        expression = "/".join(re.escape(part).replace(r"\*", "[^/]*") for part in body.split("/"))
        expression = expression.replace("[^/]*[^/]*/", "(?:.*/)?")
        if re.fullmatch(f"{expression}(?:/.*)?", path):
            out = not pattern.startswith("!")
    return out


@everyone
def test_every_file_it_copies_is_here_and_not_ignored(recipe: str) -> None:
    assert copied(recipe)
    for path in copied(recipe):
        assert (REPOSITORY / path).exists(), path
        assert not ignored(path), path


def test_nothing_else_is_sent_to_the_builder() -> None:
    for path in (".git/config", ".venv/bin/python", "tests/conftest.py", "charts/windward/Chart.yaml", "book.db"):
        assert ignored(path), path
    assert ignored("operator/windward/__pycache__/a.pyc")
    assert not ignored("operator/windward/service/main.py")


@everyone
def test_every_requirement_has_its_hash(recipe: str) -> None:
    for path in ("requirements/build.txt", RECIPES[recipe][0]):
        assert path in copied(recipe)
        text = re.sub(r"\\\n\s*", " ", (REPOSITORY / path).read_text())
        wanted = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "-"))]
        assert wanted
        for line in wanted:
            assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", line), line
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


@everyone
def test_every_installation_is_checked(recipe: str) -> None:
    """By hashes; our own wheel is built from what was copied, by the checked build tool."""
    installs = re.findall(r"pip install (.*?)(?: && |$)", "\n".join(lines(recipe)), re.MULTILINE)
    assert len(installs) == 3
    for words in installs:
        assert "--require-hashes" in words or words.strip() == "--no-deps --no-build-isolation ."


@everyone
def test_it_runs_as_nobody_and_imports_nothing_from_where_it_stands(recipe: str) -> None:
    last = lines(recipe)[max(i for i, line in enumerate(lines(recipe)) if line.startswith("FROM ")) :]
    assert "USER 65532:65532" in last
    assert "PYTHONSAFEPATH=1" in " ".join(last)
    assert last[-1] == f'ENTRYPOINT ["{RECIPES[recipe][1]}"]'
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert RECIPES[recipe][1] in project["scripts"]


def test_the_worker_finds_the_kernels_that_were_built_for_it() -> None:
    """Its pods have no compiler; that what is built ahead suffices there, tests/kernels/test_cpp.py says."""
    (folder,) = re.findall(r"-m windward_kernels\.cpp (\S+)", "\n".join(lines("workers/Dockerfile")))
    last = lines("workers/Dockerfile")
    last = last[max(i for i, line in enumerate(last) if line.startswith("FROM ")) :]
    assert f"COPY --from=kernels {folder} {folder}" in last
    assert f"WINDWARD_KERNELS_DIR={folder}" in " ".join(last)
    assert not any("g++" in line for line in last)


@everyone
def test_what_it_copies_is_enough_for_the_wheel(recipe: str, tmp_path: Path) -> None:
    need("hatchling")
    for path in copied(recipe):
        source, target = REPOSITORY / path, tmp_path / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "out"]
    subprocess.run(build, cwd=tmp_path / "src", check=True, capture_output=True)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in ("windward_api", "windward", "windward_worker", "windward_kernels"):
        ours = REPOSITORY / next(path for path in copied(recipe) if path.endswith(f"/{package}"))
        modules = {str(file.relative_to(ours.parent)) for file in ours.rglob("*.py")}
        assert modules <= set(names), package
