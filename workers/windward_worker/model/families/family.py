"""What the runtime asks of a model family. A family is a value without weights; only its blocks need torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from windward_worker.model.config import ModelConfig

if TYPE_CHECKING:
    from windward_worker.model.layers import Block


@dataclass(frozen=True, slots=True)
class KVPages:
    """The state that a sequence keeps between steps: keys and values of its tokens, in pages.

    `heads` and `head_dim` are those of keys, for each of `layers` layers; values have as many.
    """

    layers: int
    heads: int
    head_dim: int

    @property
    def numbers_per_token(self) -> int:
        """Keys and values of one token, over all layers."""
        return 2 * self.layers * self.heads * self.head_dim


class Family(Protocol):
    """Reads, names, builds and sizes the models of one `model_type`.

    All methods are pure. Reading raises Refused, in words that name the field, for what the blocks do not compute.
    """

    @property
    def model_type(self) -> str:
        """transformers' name, as in `config.json`."""

    @property
    def gguf_architecture(self) -> str | None:
        """GGUF's name, as in `general.architecture`; None where no GGUF file names this family."""

    @property
    def min_tensors_per_layer(self) -> int:
        """Tensors that each layer has at least: a bound that is checked before anything of a config's size is made."""

    def describes(self, config: ModelConfig) -> bool:
        """Whether a model of this shape belongs to this family; true for one family at most."""

    def read_config(self, document: Mapping[str, Any], generation: Mapping[str, Any]) -> ModelConfig:
        """From `config.json`, and the end tokens of `generation_config.json`, which go before its own."""

    def write_config(self, config: ModelConfig) -> dict[str, Any]:
        """`config.json` of transformers' model of this family; `read_config` takes it back."""

    def read_gguf(self, metadata: Mapping[str, Any], *, tied: bool) -> ModelConfig:
        """From GGUF metadata; `tied`: the file holds no output matrix of its own."""

    def tensor_shapes(self, config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Every tensor of such a model, by our name: transformers' without the leading `model.`."""

    def gguf_names(self, config: ModelConfig) -> dict[str, str]:
        """GGUF's name of each of our tensors, and of some that only sister families have."""

    def gguf_row_order(self, name: str, rows: int, config: ModelConfig) -> npt.NDArray[np.int32] | None:
        """Which row of the file's matrix is row r of ours; None where they lie in our order."""

    def state(self, config: ModelConfig) -> KVPages:
        """The kind and size of the state that a sequence keeps between steps."""

    def block(self, config: ModelConfig) -> Block:
        """One residual block, its weights unset."""
