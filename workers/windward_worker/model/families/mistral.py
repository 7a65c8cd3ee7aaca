"""Mistral: a sliding window in every layer. Its GGUF files call themselves llama."""

from windward_worker.model.families.dense import DenseFamily

MISTRAL = DenseFamily("mistral", window="always")
