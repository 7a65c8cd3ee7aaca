"""The command line as a user runs it: real processes, state in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WINDWARD = str(Path(sys.executable).parent / "windward")
PATIENCE_S = 240.0


def environment(home: Path, **more: str) -> dict[str, str]:
    """Ours, with Windward's state in `home`, no cluster and no colour."""
    dropped = ("KUBECONFIG", "FORCE_COLOR", "COLUMNS")
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith("WINDWARD_")}
    return kept | {"WINDWARD_HOME": str(home), "HOME": str(home), **more}


def windward(
    *arguments: str, home: Path, before: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `windward` to its end; `before` stands before it on the command line."""
    return subprocess.run(
        [*before, WINDWARD, *arguments],
        cwd=ROOT,
        env=environment(home, **(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
