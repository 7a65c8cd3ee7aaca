"""Building the extension with the system's compiler, once for each source, processor and compiler.

The library lies in the user's cache, under a name made of those three, and appears there by a rename: builders that
run side by side do not disturb each other. A library that was built ahead (a container's image: `python -m
windward_kernels.cpp FOLDER`) is taken from the folder that WINDWARD_KERNELS_DIR names.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENV_COMPILER, ENV_FOLDER = "CXX", "WINDWARD_KERNELS_DIR"
FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-ffp-contract=fast",  # fused multiply-add wherever the processor has it
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
NEEDS = {"WW_SKIP_AVX2": {"avx2", "fma", "f16c"}, "WW_SKIP_AVX512": {"avx512_vnni", "avx512bw", "avx512vl", "avx512dq"}}
LIMIT_S = 300


class Unavailable(RuntimeError):
    """There is no extension here; the message says why, and what would change it."""


def _processor_flags() -> frozenset[str]:
    """What this processor can do, as Linux tells it; empty where nobody tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def compiler() -> str:
    """Path of a C++ compiler. Raises Unavailable."""
    for name in (os.environ.get(ENV_COMPILER), "g++", "c++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise Unavailable(f"no C++ compiler found (g++, c++, clang++ or ${ENV_COMPILER}); install one for the fast kernels")


def cache_folder() -> Path:
    """Where libraries are kept: the user's cache, or a private folder under the temporary one without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "windward" / "kernels"
    try:
        return Path.home() / ".cache" / "windward" / "kernels"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"windward-kernels-{os.getuid()}"


def _defines(every: bool) -> list[str]:
    flags = _processor_flags()
    known = not every and platform.machine() == "x86_64" and bool(flags)
    return [f"-D{name}" for name, needed in NEEDS.items() if known and not needed <= flags]


def _digest(parts: Sequence[str]) -> str:
    """Of the sources and of what decides how they are built."""
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.cpp"), *HERE.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for part in (*FLAGS, *parts, platform.machine()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:20]


def library_name() -> str:
    """Name of the library without regard to the compiler: what a folder built ahead holds."""
    return f"windward-{_digest(['ahead'])}.so"


def _compile(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr.strip() or "no message").splitlines()
        raise Unavailable(
            f"the C++ compiler {command[0]} failed: {lines[0]}; is it complete (g++, libc headers)?"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the C++ compiler {command[0]} could not run: {error}") from error


def build(into: Path, defines: Sequence[str]) -> Path:
    """Compile to `into`, complete or absent. Raises Unavailable, OSError."""
    tool = compiler()
    into.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".build-") as folder:
        sources = sorted(HERE.glob("*.cpp"), key=lambda path: not path.name.startswith("isa_"))
        objects = [str(Path(folder) / f"{path.stem}.o") for path in sources]
        commands = [
            [tool, *FLAGS, *defines, "-c", str(source), "-o", compiled]
            for source, compiled in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as workers:
            list(workers.map(_compile, commands))
        library = Path(folder) / into.name
        _compile([tool, "-shared", "-pthread", *objects, "-o", str(library)])
        library.chmod(0o755)  # whatever the umask: what others could write is never loaded
        library.replace(into)
    return into


def refuse_foreign(path: Path) -> None:
    """Refuse to load what somebody else could have written: code of ours runs with the rights of the user.

    Raises:
        Unavailable: the library or its folder belongs to another user (root may), or others may write to it.
    """
    real = path.resolve()
    for at in (real, real.parent):
        status = at.stat()
        if status.st_uid not in (os.getuid(), 0):
            raise Unavailable(f"{at} belongs to another user: remove it, or name a folder of yours in ${ENV_FOLDER}")
        if status.st_mode & 0o022:
            raise Unavailable(f"{at} may be written by others: run chmod go-w {at}, or remove it")


def _safe(path: Path) -> Path:
    refuse_foreign(path)
    return path


@functools.cache
def library_path() -> Path:
    """The built library, built now where it is missing. Raises Unavailable."""
    ahead = os.environ.get(ENV_FOLDER)
    if ahead and (Path(ahead) / library_name()).is_file():
        return _safe(Path(ahead) / library_name())
    tool = compiler()
    try:
        version = subprocess.run([tool, "-dumpfullversion"], capture_output=True, text=True, timeout=LIMIT_S).stdout
        defines = _defines(every=False)
        path = cache_folder() / f"windward-{_digest([tool, version.strip(), *defines])}.so"
        return _safe(path if path.is_file() else build(path, defines))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the extension cannot be built: {error}; give ${ENV_FOLDER} or a writable cache") from error
