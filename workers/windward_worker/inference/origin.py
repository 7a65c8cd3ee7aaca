"""What answers were made with, kept beside them: other answers to the same prompts are another's, not this run's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from windward_api.workload import InferSpec
from windward_worker.control import write_atomic
from windward_worker.control.identity import differences

WHOLE = 1 << 30  # bytes of a file that are all read; of larger ones, pieces
PIECES, PIECE = 4096, 1 << 16


def model_digest(path: Path) -> str:
    """Of a model's files, by name and content. Raises OSError.

    Of a file above a gibibyte, evenly spaced pieces (256 MiB) and its time of change stand for the rest.
    """
    digest = hashlib.blake2b(digest_size=24)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    for each in files:
        size = each.stat().st_size
        digest.update(f"{each.name} {size}\n".encode())
        with each.open("rb") as file:
            if size <= WHOLE:
                while piece := file.read(1 << 20):
                    digest.update(piece)
                continue
            digest.update(str(each.stat().st_mtime_ns).encode())
            for i in range(PIECES):
                file.seek((size - PIECE) * i // (PIECES - 1))
                digest.update(file.read(PIECE))
    return digest.hexdigest()


def origin(spec: InferSpec, digest: str) -> dict[str, Any]:
    """What decides an answer besides its prompt, by name."""
    names = ("max_tokens", "temperature_milli", "seed")
    return {"model": digest, **{name: getattr(spec, name) for name in names}}


DEFAULTS = {"max_tokens": 64, "temperature_milli": 0, "seed": 0}


class OriginFile:
    """The origin of an output, in a hidden file beside it."""

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f".{output.name}.origin.json")

    def differs(self, own: dict[str, Any]) -> list[str]:
        """What of it is another now, in words; nothing where there is no file, as before there were such files."""
        try:
            stored = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return []
        return differences(stored, own, DEFAULTS) if isinstance(stored, dict) else []

    def write(self, own: dict[str, Any]) -> None:
        """Raises OSError."""
        write_atomic(self.path, json.dumps(own).encode())
