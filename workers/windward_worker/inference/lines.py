"""JSON lines in, JSON lines out: which prompts there are, and which are already answered."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windward_api.workload import InferSpec
from windward_worker.control import Refused, RunEnv, sync_folder

OPENING = b'{"index":'


def read_prompts(spec: InferSpec, env: RunEnv) -> list[str]:
    """The prompts of a spec, blank lines left out. Raises Refused, naming the line that is wrong."""
    if spec.prompts is not None:
        return list(spec.prompts)
    assert spec.input is not None, "InferSpec has exactly one of input, prompts"
    path = env.inside_storage(spec.input)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise Refused(f"input {spec.input!r}: {error.strerror}; put the file under the storage first") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refused(f'input {spec.input!r}, line {number}: not {{"prompt": "..."}}; correct it') from error
        if not isinstance(prompt, str):
            raise Refused(f"input {spec.input!r}, line {number}: prompt is no text; correct it")
        prompts.append(prompt)
    return prompts


class Answers:
    """The output file: line i answers prompt i. Append-only and synced, so a kill loses at most the line in the making.

    Opening it cuts what a kill left torn, and what two overlapping processes wrote twice; a file that holds anything
    else than answers to these prompts is refused, never touched.
    """

    def __init__(self, path: Path, prompts: Sequence[str]) -> None:
        """Raises Refused, OSError."""
        self.path = path
        self.count = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        good = 0
        if path.exists():
            data = path.read_bytes()
            good = self._sound(data, prompts)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(handle, good)
        os.fsync(handle)
        self._file = os.fdopen(handle, "ab")
        sync_folder(path.parent)

    def _sound(self, data: bytes, prompts: Sequence[str]) -> int:
        """Bytes of the lines that answer prompt 0, 1, 2, ... without a gap; counts them."""
        good = 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                if OPENING.startswith(line[: len(OPENING)]):
                    break  # torn by a kill
                raise self._foreign()
            try:
                found = json.loads(line)
                index, prompt = int(found["index"]), found["prompt"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise self._foreign() from error
            if not 0 <= index < len(prompts) or prompts[index] != prompt:
                raise self._foreign()
            if index != self.count:
                break  # doubled by a process that had lost its claim
            self.count += 1
            good += len(line)
        return good

    def _foreign(self) -> Refused:
        return Refused(f"output {self.path.name} holds other things than answers to these prompts; name another")

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add answers, durably. Raises OSError."""
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.count += len(lines)

    def close(self) -> None:
        self._file.close()
