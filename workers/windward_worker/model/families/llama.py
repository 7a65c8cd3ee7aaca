"""Llama, and the many that are built like it: SmolLM, TinyLlama."""

from windward_worker.model.families.dense import DenseFamily

LLAMA = DenseFamily("llama", gguf_architecture="llama", gguf_adjacent_pairs=True, gguf_window=True)
