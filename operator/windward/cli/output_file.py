"""Files that a command writes its result to: refused before minutes are spent on it; one that is there is replaced."""

from __future__ import annotations

import os
from pathlib import Path

from windward.cli.errors import usage_error


def check_output_file(option: str, path: Path, *, example: str) -> None:
    """Refuse a path that no file can be written to.

    Raises:
        CliError: it is a folder, or its parent is none that the user may write.
    """
    parent = path.resolve().parent
    if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        cause = "it is a folder" if path.is_dir() else f"{parent} is no folder that you may write"
        fix = f"name a file in a folder of yours, as in {option} {example}"
        raise usage_error(f"{option} {path} cannot be written", cause=cause, fix=fix)
