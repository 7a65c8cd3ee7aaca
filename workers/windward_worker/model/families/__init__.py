"""The registry of model families: the one place that maps a file's words to how its models are read and built.

A new family is a module here with a `Family`, and its name in FAMILIES. No torch is imported until a block is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windward_worker.control import Refused
from windward_worker.model.config import ModelConfig
from windward_worker.model.families.family import Family, KVPages
from windward_worker.model.families.llama import LLAMA
from windward_worker.model.families.mistral import MISTRAL
from windward_worker.model.families.qwen import QWEN2, QWEN3

__all__ = [
    "FAMILIES",
    "Family",
    "KVPages",
    "family_of",
    "for_gguf",
    "for_model_type",
    "read_config",
    "tensor_shapes",
    "write_config",
]

FAMILIES: tuple[Family, ...] = (LLAMA, MISTRAL, QWEN2, QWEN3)


def for_model_type(model_type: object) -> Family:
    """The family of this name in `config.json`. Raises Refused, with the names that are known, where there is none."""
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise Refused(f"model_type {model_type!r} is not supported; give a model of type {known}")


def for_gguf(architecture: object) -> Family:
    """The family of this name in GGUF metadata. Raises Refused, with the names that are known, where there is none."""
    known = []
    for family in FAMILIES:
        if family.gguf_architecture is not None:
            if family.gguf_architecture == architecture:
                return family
            known.append(family.gguf_architecture)
    names = f"{', '.join(known[:-1])} or {known[-1]}"
    raise Refused(f"GGUF architecture {architecture!r} is not supported; use a model of architecture {names}")


def family_of(config: ModelConfig) -> Family:
    """The family that a shape belongs to. `ModelConfig` refuses shapes that belong to none."""
    return next(family for family in FAMILIES if family.describes(config))


def read_config(document: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> ModelConfig:
    """Read a `config.json`, and the end tokens of a `generation_config.json`, which go before its own.

    Raises Refused for an unknown `model_type`, and where it asks for something that its blocks do not compute.
    """
    return for_model_type(document.get("model_type")).read_config(document, generation or {})


def write_config(config: ModelConfig) -> dict[str, Any]:
    """`config.json` of transformers' model of this shape."""
    return family_of(config).write_config(config)


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a decoder of this shape has, by name."""
    return family_of(config).tensor_shapes(config)
