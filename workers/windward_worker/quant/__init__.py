"""Quantising a trained model, and choosing among its variants: rtn, gptq, awq, smoothquant, mixed; the frontier.

Names are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windward_worker.quant.grid import Quantised, round_to_nearest
    from windward_worker.quant.pareto import Point, pareto
    from windward_worker.quant.perplexity import perplexity
    from windward_worker.quant.ptq import QuantisationResult, Scheme, quantise
    from windward_worker.quant.run import QuantizeRequest, quantize

_HOMES = {
    "QuantisationResult": "ptq",
    "Point": "pareto",
    "QuantizeRequest": "run",
    "Quantised": "grid",
    "Scheme": "ptq",
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
