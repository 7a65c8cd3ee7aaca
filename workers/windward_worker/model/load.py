"""Bringing a model in and out: a Hugging Face folder, a GGUF file, a Python package."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from windward_worker.control import Refused, sync_folder, write_atomic
from windward_worker.model.config import ModelConfig
from windward_worker.model.decoder import Decoder
from windward_worker.model.families import tensor_shapes, write_config
from windward_worker.model.stored import (
    CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    FolderModel,
    GgufModel,
    ModelFile,
    open_model,
)


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


def load_file(file: ModelFile, context: int | None = None) -> LoadedModel:
    """All weights of an opened model as float32. `context`: most tokens of a sequence, if less than the model's."""
    weights = {name: torch.from_numpy(np.array(file.get(name).floats())) for name in tensor_shapes(file.config)}
    config = replace(
        file.config,
        max_position_embeddings=min(
            context or file.config.max_position_embeddings, file.config.max_position_embeddings
        ),
    )
    return LoadedModel(_build(config, weights, file.name), file.tokenizer())


def load_folder(folder: Path) -> LoadedModel:
    """A folder of config.json, safetensors and tokenizer.json. Raises Refused."""
    return load_file(FolderModel(folder))


def save_folder(decoder: Decoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in Hugging Face's layout: transformers opens it. Complete or absent; replaces an older one."""
    weights = {k: v.detach().float().contiguous().cpu() for k, v in decoder.state_dict().items()}
    write_folder(weights, decoder.config, tokenizer, folder)


def write_folder(
    weights: dict[str, Tensor],
    config: ModelConfig,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    more: dict[str, Any] | None = None,
    template: str | None = None,
) -> None:
    """Write these tensors (our names) with config, tokenizer and chat template; `more` goes into config.json."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_hf_names(weights), temporary / WEIGHTS, metadata={"format": "pt"})
    with (temporary / WEIGHTS).open("rb") as file:
        os.fsync(file.fileno())
    write_atomic(temporary / CONFIG, json.dumps({**write_config(config), **(more or {})}, indent=2).encode())
    write_atomic(temporary / TOKENIZER, tokenizer.to_str().encode())
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
    }
    if config.eos_token_id is not None:
        settings["eos_token"] = tokenizer.id_to_token(config.eos_token_id)
    if template is not None:
        settings["chat_template"] = template
    write_atomic(temporary / TOKENIZER_CONFIG, json.dumps(settings, indent=2).encode())
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load_gguf(path: Path) -> LoadedModel:
    """A .gguf file, dequantised to float32. Raises Refused."""
    return load_file(GgufModel(path))


def load_path(path: Path) -> LoadedModel:
    """A .gguf file or a model folder. Raises Refused where it is neither."""
    return load_file(open_model(path))
