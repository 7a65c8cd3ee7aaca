"""Llama-style decoders: their shape, weights and tokens, from and to the formats that others read.

Names are imported when first used: opening and packing a model needs no torch, and must not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.model.cache import KVCache
    from windward_worker.model.chat import ChatTemplate
    from windward_worker.model.config import ModelConfig, decoder_config
    from windward_worker.model.decoder import Decoder
    from windward_worker.model.load import LoadedModel, load_gguf, load_path, save_folder
    from windward_worker.model.packed import PackedModel
    from windward_worker.model.stored import ModelFile, open_model, package_file
    from windward_worker.model.tokenizer import END_OF_TEXT, learn_bpe, token_bytes

_HOMES = {
    "ChatTemplate": "chat",
    "ModelConfig": "config",
    "decoder_config": "config",
    "Decoder": "decoder",
    "KVCache": "cache",
    "LoadedModel": "load",
    "load_gguf": "load",
    "load_path": "load",
    "save_folder": "load",
    "PackedModel": "packed",
    "ModelFile": "stored",
    "open_model": "stored",
    "package_file": "stored",
    "END_OF_TEXT": "tokenizer",
    "learn_bpe": "tokenizer",
    "token_bytes": "tokenizer",
}

__all__ = [
    "END_OF_TEXT",
    "ChatTemplate",
    "Decoder",
    "KVCache",
    "LoadedModel",
    "ModelConfig",
    "ModelFile",
    "PackedModel",
    "decoder_config",
    "learn_bpe",
    "load_gguf",
    "load_path",
    "open_model",
    "package_file",
    "save_folder",
    "token_bytes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
