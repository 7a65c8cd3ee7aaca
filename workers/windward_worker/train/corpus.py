"""Text to learn from, as one array of tokens, cached by its content."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from windward_api.workload import TrainData
from windward_worker.control import Refused, RunEnv, write_atomic
from windward_worker.model import END_OF_TEXT, learn_bpe

Tokens = npt.NDArray[np.uint16]

FORMAT = "1"  # of the cache; raise it when tokens would come out differently
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "turtledemo"}
LEARN_BYTES = 2_000_000  # of text, spread over all files, from which the encoding is learned
HELD_OUT = 50  # the last 1/50 of the tokens is never trained on


@dataclass(frozen=True, slots=True)
class Corpus:
    """Tokens of a text; `digest` names their content."""

    train: Tokens
    held_out: Tokens
    tokenizer: Tokenizer
    digest: str


def _files(data: TrainData, env: RunEnv) -> list[Path]:
    """The files of the text, in an order that depends on their names alone."""
    if data.path is not None:
        root = env.inside_storage(data.path)
        paths = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")] if root.is_dir() else [root]
    else:
        root = Path(sysconfig.get_path("stdlib"))
        paths = [p for p in root.rglob("*.py") if not SKIPPED.intersection(p.relative_to(root).parts)]
    files = sorted((p for p in paths if p.is_file()), key=lambda p: p.relative_to(root).as_posix())
    if data.path is not None:
        _refuse_links_out(files, root, data.path)
    return files


def _refuse_links_out(files: Sequence[Path], root: Path, name: str) -> None:
    """A data set is what lies in its folder: a link must not bring in what its author may not read.

    Raises:
        Refused: a file leads outside the folder.
    """
    for path in files:
        if not path.resolve().is_relative_to(root):
            inside = path.relative_to(root).as_posix()
            raise Refused(f"{inside!r} in {name!r} is a link out of that folder; copy the file into it")


def _read(files: Sequence[Path]) -> list[str]:
    """Their text, without empty files; bytes that are no UTF-8 become U+FFFD."""
    texts = [path.read_bytes().decode("utf-8", errors="replace") for path in files]
    return [text for text in texts if text.strip()]


def _sample(texts: Sequence[str]) -> list[str]:
    """Every n-th text, so that about LEARN_BYTES remain: the encoding needs a taste, not all."""
    stride = max(1, sum(map(len, texts)) // LEARN_BYTES)
    return list(texts[::stride])


def _encode(texts: Sequence[str], tokenizer: Tokenizer, check: Callable[[], None]) -> Tokens:
    end = tokenizer.token_to_id(END_OF_TEXT)
    parts = []
    for text in texts:
        check()
        parts.append(np.array([*tokenizer.encode(text).ids, end], dtype=np.uint16))
    return np.concatenate(parts)


def _prepare(texts: Sequence[str], vocabulary: int, folder: Path, check: Callable[[], None]) -> None:
    """Learn, encode and store; the array comes last, so that where it is, all is."""
    tokenizer = learn_bpe(_sample(texts), vocabulary)
    tokens = _encode(texts, tokenizer, check)
    write_atomic(folder / "tokenizer.json", tokenizer.to_str().encode())
    write_atomic(folder / "tokens.bin", tokens.astype("<u2").tobytes())


def open_corpus(
    data: TrainData,
    vocabulary: int,
    context: int,
    env: RunEnv,
    check: Callable[[], None] = lambda: None,
    begun: str | None = None,
) -> Corpus:
    """The text as tokens, from the cache under the storage where it is there, else made and cached first.

    The cache is named by the content and the vocabulary: it never goes stale, and jobs share it. `check` is called
    now and then while it is made, and may raise. `begun`: digest of the text that earlier steps read; a named corpus
    then comes from the cache as it was, whatever Python's patch release has made of it. Raises Refused where there is
    no text, or too little of it.
    """
    name = data.corpus or data.path
    if begun is not None and data.corpus is not None and (_cache(env, begun) / "tokens.bin").exists():
        return _cached(name, context, _cache(env, begun), begun)
    texts = _read(_files(data, env))
    if not texts:
        raise Refused(f"no text found in {name!r}; give a folder with text files, relative to the storage")
    sums = hashlib.sha256(f"{FORMAT} {vocabulary}".encode())
    for text in texts:
        sums.update(hashlib.sha256(text.encode()).digest())
    digest = sums.hexdigest()
    folder = _cache(env, digest)
    if not (folder / "tokens.bin").exists():
        _prepare(texts, vocabulary, folder, check)
    return _cached(name, context, folder, digest)


def _cache(env: RunEnv, digest: str) -> Path:
    return env.need_storage_dir() / "cache" / "text" / digest[:32]


def _cached(name: str | None, context: int, folder: Path, digest: str) -> Corpus:
    """What lies in the cache, split. Raises Refused where it is too little."""
    tokens: Tokens = np.memmap(folder / "tokens.bin", dtype="<u2", mode="r")
    tail = max(context + 1, len(tokens) // HELD_OUT)
    if len(tokens) < 2 * (context + 1) + tail:
        raise Refused(
            f"{name!r} has {len(tokens)} tokens, too few for a context of {context}; give more text or shorten it"
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Corpus(tokens[:-tail], tokens[-tail:], tokenizer, digest)


class Windows:
    """Training sequences in an order that is a function of seed and place alone, so a resume needs only the step.

    An epoch visits each window of `context` tokens once, in its own random order.
    """

    def __init__(self, tokens: Tokens, context: int, seed: int) -> None:
        self._tokens = tokens
        self._context = context
        self._seed = seed
        self._count = (len(tokens) - 1) // context
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def batch(self, first: int, size: int) -> npt.NDArray[np.int64]:
        """Windows number `first` to `first + size` since the very start: (size, context + 1)."""
        rows = [self._window(place) for place in range(first, first + size)]
        return np.stack(rows).astype(np.int64)

    def _window(self, place: int) -> Tokens:
        epoch, index = divmod(place, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.Generator(np.random.PCG64([self._seed, epoch])).permutation(self._count)
        begin = int(self._order[index]) * self._context
        return self._tokens[begin : begin + self._context + 1]
