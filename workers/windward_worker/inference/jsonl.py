"""JSON lines in, JSON lines out: which prompts there are, and which are already answered."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windward_api.workload import InferSpec
from windward_worker.control import Refused, RunEnv, sync_folder, write_atomic

OPENING = b'{"index":'
QUOTED = 200  # characters of a line that is no prompt, in the output
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell what UTF-8 cannot


@dataclass(frozen=True, slots=True)
class Prompt:
    """A line of the input. `fault`: why it is no prompt, in words; `text` then is what stands there."""

    text: str
    fault: str | None = None


def read_prompts(spec: InferSpec, env: RunEnv) -> list[Prompt]:
    """The prompts of a spec, blank lines left out; a line that is none is kept with its fault. Raises Refused."""
    if spec.prompts is not None:
        return [_checked(f"prompt {n}", text, text) for n, text in enumerate(spec.prompts, 1)]
    assert spec.input is not None, "InferSpec has exactly one of input, prompts"
    path = env.inside_storage(spec.input)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise Refused(f"input {spec.input!r}: {error.strerror}; put the file under the storage first") from error
    return [_prompt(f"input {spec.input!r}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()]


def _prompt(where: str, line: bytes) -> Prompt:
    raw = line[: 4 * QUOTED].decode(errors="replace")
    try:
        text = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _faulty(where, 'not {"prompt": "..."}', raw)
    return _checked(where, text, raw)


def _checked(where: str, text: Any, raw: str) -> Prompt:
    if not isinstance(text, str):
        return _faulty(where, "prompt is no text", raw)
    if SURROGATE.search(text):
        return _faulty(where, "prompt has half a surrogate pair, which is no character", raw)
    return Prompt(text)


def _faulty(where: str, fault: str, raw: str) -> Prompt:
    quoted = SURROGATE.sub("\ufffd", raw)[:QUOTED]
    return Prompt(quoted, f"{where}: {fault}; correct it and run again")


class AnswerFile:
    """The output file: line i answers prompt i, or says why it could not. Append-only and synced, so a kill loses at
    most the line in the making; lines that failed are replaced, all at once, when they are tried again.

    Opening it cuts what a kill left torn, and what two overlapping processes wrote twice; a file that holds anything
    else than answers to these prompts is refused, never touched.
    """

    def __init__(self, path: Path, prompts: Sequence[Prompt], *, anew: bool = False) -> None:
        """`anew`: answers that are there are of no use any more, and go. Raises Refused, OSError."""
        self.path = path
        self.count = 0  # lines, those that failed among them
        self.failed: set[int] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        good = self._sound(path.read_bytes(), prompts) if path.exists() else 0
        if anew:
            good, self.count, self.failed = 0, 0, set()
        self._open(good)

    def _open(self, good: int) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(handle, good)
        os.fsync(handle)
        self._file = os.fdopen(handle, "ab")
        sync_folder(self.path.parent)

    @property
    def done(self) -> int:
        """Prompts that have an answer."""
        return self.count - len(self.failed)

    def _sound(self, data: bytes, prompts: Sequence[Prompt]) -> int:
        """Bytes of the lines that answer prompt 0, 1, 2, ... without a gap; counts them."""
        good = 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                if OPENING.startswith(line[: len(OPENING)]):
                    break  # torn by a kill
                raise self._foreign()
            try:
                document = json.loads(line)
                index, prompt = int(document["index"]), document["prompt"]
                failed = "error" in document
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise self._foreign() from error
            if not 0 <= index < len(prompts) or (prompts[index].text != prompt and not failed):
                raise self._foreign()
            if index != self.count:
                break  # doubled by a process that had lost its claim
            if failed:
                self.failed.add(index)
            self.count += 1
            good += len(line)
        return good

    def _foreign(self) -> Refused:
        return Refused(f"output {self.path.name} holds other things than answers to these prompts; name another")

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines, durably. Raises OSError."""
        listed = list(lines)
        self._file.write(b"".join(_encoded(line) for line in listed))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.failed |= {int(line["index"]) for line in listed if "error" in line}
        self.count += len(listed)

    def replace(self, lines: Mapping[int, Mapping[str, Any]]) -> None:
        """Put other lines in the places of some that failed; complete or not at all. Raises OSError."""
        data = self.path.read_bytes().splitlines(keepends=True)
        for index, line in lines.items():
            data[index] = _encoded(line)
            self.failed.discard(index)
            if "error" in line:
                self.failed.add(index)
        self._file.close()
        whole = b"".join(data)
        write_atomic(self.path, whole)
        self._open(len(whole))

    def close(self) -> None:
        self._file.close()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
