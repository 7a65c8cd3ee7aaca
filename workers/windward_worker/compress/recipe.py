"""What a recipe decides when a decoder is quantised: bits of each layer, scales moved before, how codes are chosen.

`quantise` walks the blocks and asks the recipe; a new recipe is a module in `recipes` with its name in the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from windward_worker.compress.calibrate import InputStatistics
from windward_worker.compress.grid import Quantised, round_to_nearest
from windward_worker.model.decoder import Decoder
from windward_worker.model.layers import Block

Rounding = Callable[[Tensor, int, int], Quantised]  # weight (F, C), bits, columns of a group


@dataclass(frozen=True, slots=True)
class Scheme:
    """How to quantise. `budget`: mean stored bits a weight of the blocks that `mixed` may spend."""

    method: str
    bits: int = 4
    group: int = 32
    budget: float = 6.0


@dataclass(slots=True)
class QuantisationResult:
    """The quantised matrices by name, each one's relative output error, and the names of those left in float."""

    matrices: dict[str, Quantised] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    layer_bits: dict[int, int] = field(default_factory=dict)

    @property
    def mean_bits(self) -> float:
        """Stored bits a quantised weight of the blocks, scales included."""
        inner = [m for n, m in self.matrices.items() if n.startswith("layers.")]
        return 8 * sum(m.nbytes for m in inner) / max(1, sum(m.codes.numel() for m in inner))


class Recipe:
    """A way to quantise a decoder after training. This one rounds every weight to the nearest code; others override.

    Attributes:
        name: what the command line and `config.json` call it.
        default_bits: where none are given.
        chooses_bits: it sets the bits of each layer itself, within a budget.
    """

    name = "rtn"
    default_bits = 4
    chooses_bits = False

    def check(self, scheme: Scheme) -> None:
        """Raises Refused, naming the option, for a scheme that this recipe cannot follow."""

    def layer_bits(self, decoder: Decoder, windows: Tensor, scheme: Scheme) -> dict[int, int]:
        """Bits of each layer. windows (N, T): calibration tokens."""
        return dict.fromkeys(range(decoder.config.num_hidden_layers), scheme.bits)

    def prepare(self, decoder: Decoder, block: Block, inputs: dict[str, InputStatistics], scheme: Scheme) -> None:
        """Change a block, in place, so that it computes the same and rounds better; `inputs` then describe it."""

    def rounding(self, inputs: InputStatistics) -> Rounding:
        """How the matrices that share these inputs are rounded."""
        return round_to_nearest

    def describe(self, scheme: Scheme, result: QuantisationResult) -> dict[str, Any]:
        """What `config.json` says of it beside name, bits and group size."""
        return {}
