"""Qwen 2 (a bias of q, k and v) and Qwen 3 (a norm of each query and key head)."""

from windward_worker.model.families.dense import DenseFamily

QWEN2 = DenseFamily("qwen2", gguf_architecture="qwen2", qkv_bias=True, window="switched off")
QWEN3 = DenseFamily("qwen3", gguf_architecture="qwen3", qk_norm=True, window="switched off")
