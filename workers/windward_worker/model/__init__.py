"""Llama-style decoders: their shape, weights and tokens, from and to the formats that others read."""

from windward_worker.model.config import ModelConfig, shape
from windward_worker.model.decoder import Decoder, KVCache
from windward_worker.model.load import LoadedModel, load_gguf, load_path, package_file, save_folder
from windward_worker.model.tokenizer import END_OF_TEXT, learn_bpe, token_bytes

__all__ = [
    "END_OF_TEXT",
    "Decoder",
    "KVCache",
    "LoadedModel",
    "ModelConfig",
    "learn_bpe",
    "load_gguf",
    "load_path",
    "package_file",
    "save_folder",
    "shape",
    "token_bytes",
]
