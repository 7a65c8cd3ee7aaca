"""How GGUF files of dense decoders name and order their tensors, and which of their metadata is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from windward_worker.control import Refused
from windward_worker.model.config import ModelConfig

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
GGUF_WHOLE = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
GGUF_ENDS = ("eos", "eot", "eom")  # tokens that end a text, a turn, a message


def tensor_names(layers: int) -> dict[str, str]:
    """GGUF's name of each of our tensors, of all dense families."""
    names = {f"{ours}.weight": f"{theirs}.weight" for theirs, ours in GGUF_WHOLE.items()}
    for layer in range(layers):
        for theirs, ours in GGUF_LAYER.items():
            for part in ("weight", "bias"):
                names[f"layers.{layer}.{ours}.{part}"] = f"blk.{layer}.{theirs}.{part}"
    return names


def adjacent_pairs_order(name: str, rows: int, config: ModelConfig) -> npt.NDArray[np.int32] | None:
    """Which row of the file's query or key matrix is row r of ours; None for other matrices."""
    for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
        if part in name:
            return half_split_order(rows, heads)
    return None


def refuse_unknown(kind: str | None, metadata: Mapping[str, Any]) -> None:
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


def half_split_order(rows: int, heads: int) -> npt.NDArray[np.int32]:
    """Which row of an adjacent-pair (GGUF) query or key matrix is row r of a half-split (Hugging Face) one."""
    pairs = np.arange(rows, dtype=np.int32).reshape(heads, rows // heads // 2, 2)  # (H, D/2, 2)
    return np.ascontiguousarray(pairs.transpose(0, 2, 1).reshape(rows))
