"""Making a trained model cheaper, and choosing among its variants.

recipe.py is what a recipe decides, recipes/ has one module for each; ptq.py walks a decoder with one; pareto.py
measures variants side by side.

Names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.compress.grid import Quantised, round_to_nearest
    from windward_worker.compress.pareto import Point, pareto
    from windward_worker.compress.perplexity import perplexity
    from windward_worker.compress.ptq import quantise
    from windward_worker.compress.recipe import QuantisationResult, Recipe, Scheme
    from windward_worker.compress.run import QuantizeRequest, quantize

_HOMES = {
    "QuantisationResult": "recipe",
    "Point": "pareto",
    "QuantizeRequest": "run",
    "Quantised": "grid",
    "Recipe": "recipe",
    "Scheme": "recipe",
    "pareto": "pareto",
    "perplexity": "perplexity",
    "quantise": "ptq",
    "quantize": "run",
    "round_to_nearest": "grid",
}

__all__ = [
    "Point",
    "QuantisationResult",
    "Quantised",
    "QuantizeRequest",
    "Recipe",
    "Scheme",
    "pareto",
    "perplexity",
    "quantise",
    "quantize",
    "round_to_nearest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    globals().update({each: getattr(module, each) for each, at in _HOMES.items() if at == _HOMES[name]})
    return globals()[name]
