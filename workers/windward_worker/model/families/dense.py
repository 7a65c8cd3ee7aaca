"""Dense decoders: grouped-query attention, RMSNorm, rotary positions, SwiGLU. Llama, Mistral, Qwen 2 and Qwen 3.

They differ in a bias or norm of queries and keys, in a sliding window, and in how GGUF files order some rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from windward_worker.control import Refused
from windward_worker.model.config import LARGEST, ModelConfig
from windward_worker.model.families.dense_gguf import GGUF_ENDS, adjacent_pairs_order, refuse_unknown, tensor_names
from windward_worker.model.families.family import KVPages
from windward_worker.model.fields import flag, real, tokens, whole

if TYPE_CHECKING:
    from windward_worker.model.layers import Block


@dataclass(frozen=True, slots=True)
class DenseFamily:
    """A `Family` of dense decoders.

    Attributes:
        window: a sliding window in `config.json` is refused (`never`), in all layers (`always`), or there but to be
            switched on by `use_sliding_window`, which is refused (`switched off`).
        gguf_adjacent_pairs: the writer of such files permuted query and key rows, as llama.cpp rotates adjacent pairs.
        gguf_window: a window in such a file counts: it is Mistral's, whose files call themselves llama.
    """

    model_type: str
    gguf_architecture: str | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    window: Literal["never", "always", "switched off"] = "never"
    gguf_adjacent_pairs: bool = False
    gguf_window: bool = False
    min_tensors_per_layer: int = 9

    def describes(self, config: ModelConfig) -> bool:
        own = self.qkv_bias, self.qk_norm, self.window == "always"
        return own == (config.qkv_bias, config.qk_norm, config.sliding_window is not None)

    def read_config(self, document: Mapping[str, Any], generation: Mapping[str, Any]) -> ModelConfig:
        rope = document.get("rope_parameters") or document.get("rope_scaling") or {}
        if not isinstance(rope, Mapping):
            raise Refused(f"config.json lacks or garbles rope_parameters {rope!r}; export the model again")
        window = self._window(document, rope)
        try:
            heads, width = (whole(n, document[n]) for n in ("num_attention_heads", "hidden_size"))
            bos = tokens("bos_token_id", document.get("bos_token_id"))
            eos = tokens("eos_token_id", generation.get("eos_token_id", document.get("eos_token_id")))

            def size(name: str, default: int) -> int:
                value = document.get(name)
                return default if value is None else whole(name, value)

            return ModelConfig(
                vocab_size=whole("vocab_size", document["vocab_size"]),
                hidden_size=width,
                num_hidden_layers=whole("num_hidden_layers", document["num_hidden_layers"]),
                num_attention_heads=heads,
                num_key_value_heads=size("num_key_value_heads", heads),
                head_dim=size("head_dim", width // heads),
                intermediate_size=whole("intermediate_size", document["intermediate_size"]),
                max_position_embeddings=min(LARGEST, size("max_position_embeddings", 2048)),
                rope_theta=real("rope_theta", document.get("rope_theta") or rope.get("rope_theta", 10000.0)),
                rms_norm_eps=real("rms_norm_eps", document.get("rms_norm_eps", 1e-6)),
                tie_word_embeddings=flag("tie_word_embeddings", document.get("tie_word_embeddings") or False),
                bos_token_id=bos[0] if bos else None,
                eos_token_id=eos[0] if eos else None,
                extra_eos_token_ids=eos[1:],
                sliding_window=None if window is None else whole("sliding_window", window),
                qkv_bias=self.qkv_bias,
                qk_norm=self.qk_norm,
            )
        except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise Refused(f"config.json lacks or garbles {error}; export the model again") from error

    def _window(self, document: Mapping[str, Any], rope: Mapping[str, Any]) -> Any:
        """The sliding window as the file gives it. Raises Refused for what the blocks do not compute."""
        unsupported = [
            name
            for name, plain in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False))
            if document.get(name, plain) != plain
        ]
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            unsupported.append("rope scaling")
        window = document.get("sliding_window")
        if self.window == "switched off":
            if document.get("use_sliding_window"):
                unsupported.append("use_sliding_window in part of the layers")
            window = None  # named in the file, but switched off
        elif window is not None and self.window == "never":
            unsupported.append("sliding_window")
        if unsupported:
            raise Refused(
                f"config.json sets {', '.join(unsupported)}, which this decoder does not compute; use another model"
            )
        return window

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """transformers 5's words; 4.x reads `rope_theta`, kept beside."""
        return {
            "architectures": [f"{self.model_type.title()}ForCausalLM"],
            "model_type": self.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "intermediate_size": config.intermediate_size,
            "max_position_embeddings": config.max_position_embeddings,
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
            "rope_theta": config.rope_theta,
            "rms_norm_eps": config.rms_norm_eps,
            "tie_word_embeddings": config.tie_word_embeddings,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": [config.eos_token_id, *config.extra_eos_token_ids]
            if config.extra_eos_token_ids
            else config.eos_token_id,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "dtype": "float32",
            **({"sliding_window": config.sliding_window} if config.sliding_window is not None else {}),
        }

    def read_gguf(self, metadata: Mapping[str, Any], *, tied: bool) -> ModelConfig:
        kind = self.gguf_architecture

        def get(name: str, *default: Any) -> Any:
            return metadata.get(f"{kind}.{name}", *default) if default else metadata[f"{kind}.{name}"]

        refuse_unknown(kind, metadata)
        try:
            heads, width = (whole(n, get(n)) for n in ("attention.head_count", "embedding_length"))
            head_dim = whole("key_length", get("attention.key_length", width // heads))
            window = whole("sliding_window", get("attention.sliding_window", 0))
            ends = [e for n in GGUF_ENDS for e in tokens(n, metadata.get(f"tokenizer.ggml.{n}_token_id"))]
            bos = tokens("bos_token_id", metadata.get("tokenizer.ggml.bos_token_id"))
            for name in ("attention.value_length", "rope.dimension_count"):
                if whole(name, get(name, head_dim)) != head_dim:
                    raise Refused(
                        f"GGUF metadata sets {name} {get(name)} with heads of {head_dim}: not computed here; "
                        "use another"
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
                sliding_window=window if window > 0 and self.gguf_window else None,
                qkv_bias=self.qkv_bias,
                qk_norm=self.qk_norm,
            )
        except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise Refused(f"GGUF metadata lacks or garbles {error}; fetch the file again") from error

    def tensor_shapes(self, config: ModelConfig) -> dict[str, tuple[int, ...]]:
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
                shapes |= {
                    f"{at}self_attn.{p}_proj.bias": (n,) for p, n in (("q", inner), ("k", shared), ("v", shared))
                }
            if config.qk_norm:
                shapes |= {f"{at}self_attn.{p}_norm.weight": (config.head_dim,) for p in "qk"}
        shapes["norm.weight"] = (config.hidden_size,)
        if not config.tie_word_embeddings:
            shapes["lm_head.weight"] = (config.vocab_size, config.hidden_size)
        return shapes

    def gguf_names(self, config: ModelConfig) -> dict[str, str]:
        return tensor_names(config.num_hidden_layers)

    def gguf_row_order(self, name: str, rows: int, config: ModelConfig) -> npt.NDArray[np.int32] | None:
        return adjacent_pairs_order(name, rows, config) if self.gguf_adjacent_pairs else None

    def state(self, config: ModelConfig) -> KVPages:
        return KVPages(config.num_hidden_layers, config.num_key_value_heads, config.head_dim)

    def block(self, config: ModelConfig) -> Block:
        from windward_worker.model.layers import Block

        return Block(config)
