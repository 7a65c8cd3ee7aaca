"""Reading GGUF: metadata and tensors, dequantised to float32.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian). Every length is
checked against the file before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windward_worker.control import Refused

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
COUNT_LIMIT = 1 << 24
LENGTH = struct.Struct("<Q")


def _scale(blocks: Bytes, at: int) -> Floats:
    """A float16 of each block, (N, 1), at byte `at`."""
    scale: Floats = blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)
    return scale


def _nibbles(packed: Bytes) -> Floats:
    """(N, 16) bytes to (N, 32) values: low halves first, then high halves."""
    values: Floats = np.concatenate((packed & 0x0F, packed >> 4), axis=1).astype(np.float32)
    return values


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _q8_0(blocks: Bytes) -> Floats:
    """x = d q; block: float16 d, 32 int8 q."""
    return _scale(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    """x = d (q - 8); block: float16 d, 16 bytes of nibbles."""
    return _scale(blocks, 0) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    """x = d q + m; block: float16 d, float16 m, 16 bytes of nibbles."""
    return _scale(blocks, 0) * _nibbles(blocks[:, 4:]) + _scale(blocks, 2)


def _six_bits(blocks: Bytes) -> tuple[Bytes, Bytes]:
    """Scales and minima of the eight groups of Q4_K blocks, (N, 8) each, in 0..63, from 12 packed bytes."""
    part = blocks[:, 4:16]
    low, high, both = part[:, :4], part[:, 4:8], part[:, 8:]
    scale = np.concatenate((low & 63, both & 15 | low >> 6 << 4), axis=1)
    minimum = np.concatenate((high & 63, both >> 4 | high >> 6 << 4), axis=1)
    return scale, minimum


def _q4_k(blocks: Bytes) -> Floats:
    """x = d s q - e m; block of 256: float16 d, e, 12 bytes of 6-bit s and m for groups of 32, 128 bytes of nibbles."""
    scale, minimum = _six_bits(blocks)
    pairs = blocks[:, 16:].reshape(-1, 4, 32)  # low nibbles: group 2i, high: group 2i + 1
    codes = np.stack((pairs & 15, pairs >> 4), axis=2).reshape(-1, 8, 32).astype(np.float32)
    values: Floats = (_scale(blocks, 0) * scale)[..., None] * codes - (_scale(blocks, 2) * minimum)[..., None]
    return values


def q4_k_as_q4_1(raw: Bytes) -> Bytes:
    """The bytes of Q4_K as Q4_1: the same codes; the products d s and e m rounded to float16 (2^-11 of themselves)."""
    blocks = raw.reshape(-1, 144)
    scale, minimum = _six_bits(blocks)
    pairs = blocks[:, 16:].reshape(-1, 4, 32)
    codes = np.stack((pairs & 15, pairs >> 4), axis=2).reshape(-1, 32)  # (8 N, 32)
    halves = [
        np.ascontiguousarray((_scale(blocks, at) * six * sign).reshape(-1, 1).astype("<f2")).view(np.uint8)
        for at, six, sign in ((0, scale, 1.0), (2, minimum, -1.0))
    ]
    converted: Bytes = np.concatenate((*halves, codes[:, :16] | codes[:, 16:] << 4), axis=1).reshape(-1)
    return converted


@dataclass(frozen=True, slots=True)
class TensorEncoding:
    """How values are stored: values and bytes of a block, and the way back."""

    name: str
    values: int
    bytes: int
    decode: Callable[[Bytes], Floats]


ENCODINGS = {
    0: TensorEncoding("F32", 1, 4, _f32),
    1: TensorEncoding("F16", 1, 2, _f16),
    2: TensorEncoding("Q4_0", 32, 18, _q4_0),
    3: TensorEncoding("Q4_1", 32, 20, _q4_1),
    8: TensorEncoding("Q8_0", 32, 34, _q8_0),
    12: TensorEncoding("Q4_K", 256, 144, _q4_k),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. `shape` is outermost first, as numpy has it; GGUF writes it the other way round."""

    shape: tuple[int, ...]
    encoding: TensorEncoding
    offset: int  # from the file's begin
    size: int  # bytes


class GgufFile:
    """A GGUF file, opened and checked; tensors are decoded when asked for."""

    def __init__(self, path: Path) -> None:
        """Raises Refused where the file is damaged or of another kind; OSError."""
        self.name = path.name
        self._data: Bytes = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
        self._place = 0
        try:
            self.metadata, self.tensors = self._parse()
        except (struct.error, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise Refused(f"{path.name}: not a readable GGUF file: {error}; fetch it again") from error

    def _parse(self) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
        if bytes(self._take(4)) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, tensors, pairs = self._number("<I"), self._number("<Q"), self._number("<Q")
        if version not in (2, 3) or max(tensors, pairs) > COUNT_LIMIT:
            raise ValueError(f"version {version} with {tensors} tensors and {pairs} entries")
        metadata = {}
        for _ in range(pairs):
            key = self._string()
            metadata[key] = self._value(self._number("<I"))
        infos = [self._info() for _ in range(tensors)]
        align = int(metadata.get("general.alignment", 32))
        if align < 1 or align > 1 << 16:
            raise ValueError(f"alignment {align}")
        base = -(-self._place // align) * align
        placed = {}
        for name, shape, encoding, offset in infos:
            size = math.prod(shape) // encoding.values * encoding.bytes
            if shape[-1] % encoding.values or base + offset + size > len(self._data):
                raise ValueError(f"tensor {name} of shape {shape} lies outside the file or splits a block")
            placed[name] = TensorInfo(shape, encoding, base + offset, size)
        return metadata, placed

    def _take(self, count: int) -> Bytes:
        if count > len(self._data) - self._place:
            raise ValueError(f"{count} bytes wanted at {self._place} of {len(self._data)}")
        self._place += count
        return self._data[self._place - count : self._place]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, bytes(self._take(struct.calcsize(form))))[0]

    def _string(self) -> str:
        return bytes(self._take(self._number("<Q"))).decode()

    def _strings(self, count: int) -> list[str]:
        """A vocabulary has a hundred thousand: read without an array for each."""
        view, place, size = memoryview(self._data.data), self._place, len(self._data)
        strings = []
        for _ in range(count):
            if place + 8 > size:
                raise ValueError(f"a string is cut at {place} of {size}")
            begin = place + 8
            place = begin + LENGTH.unpack_from(view, place)[0]
            if place > size:
                raise ValueError(f"a string at {begin} is longer than the file")
            strings.append(str(view[begin:place], "utf-8"))
        self._place = place
        return strings

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            inner, count = self._number("<I"), self._number("<Q")
            if inner == ARRAY or count > COUNT_LIMIT:
                raise ValueError(f"an array of {count} values of type {inner}")
            if inner in SCALARS:
                raw = self._take(count * struct.calcsize(SCALARS[inner]))
                return np.frombuffer(raw.tobytes(), dtype=np.dtype(SCALARS[inner])).tolist()
            if inner == STRING:
                return self._strings(count)
            raise ValueError(f"an array of values of unknown type {inner}")
        if kind not in SCALARS:
            raise ValueError(f"a value of unknown type {kind}")
        return self._number(SCALARS[kind])

    def _info(self) -> tuple[str, tuple[int, ...], TensorEncoding, int]:
        name, dims = self._string(), self._number("<I")
        if not 1 <= dims <= 4:
            raise ValueError(f"tensor {name} has {dims} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dims))[::-1]
        kind, offset = self._number("<I"), self._number("<Q")
        if kind not in ENCODINGS:
            known = ", ".join(e.name for e in ENCODINGS.values())
            raise ValueError(f"tensor {name} is stored as type {kind}; known are {known}")
        return name, shape, ENCODINGS[kind], offset

    def raw(self, name: str) -> tuple[TensorInfo, Bytes]:
        """A tensor's place and its bytes as they lie. Raises Refused where there is none of this name."""
        info = self.tensors.get(name)
        if info is None:
            raise Refused(f"{self.name} holds no tensor {name}; it is not a Llama-style model; use another file")
        return info, np.asarray(self._data[info.offset : info.offset + info.size])

    def tensor(self, name: str) -> Floats:
        """A tensor as float32. Raises Refused where there is none of this name."""
        info, raw = self.raw(name)
        return info.encoding.decode(raw.reshape(-1, info.encoding.bytes)).reshape(info.shape)
