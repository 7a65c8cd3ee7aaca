"""Carbon data: providers behind one port, and the cache that the planner reads.

Imported here is what is quick to import; the live provider brings httpx and is loaded when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windward.grid.cache import Grid
from windward.grid.port import (
    Archive,
    ForecastInvalid,
    InvalidReason,
    NotEntitled,
    Provider,
    ProviderError,
    RateLimited,
    UnknownZone,
    Unreachable,
)
from windward.grid.trace import TraceProvider
from windward.grid.validate import is_flat

if TYPE_CHECKING:
    from windward.grid.neso import NesoProvider

__all__ = [
    "Archive",
    "ForecastInvalid",
    "Grid",
    "InvalidReason",
    "NesoProvider",
    "NotEntitled",
    "Provider",
    "ProviderError",
    "RateLimited",
    "TraceProvider",
    "UnknownZone",
    "Unreachable",
    "is_flat",
]


def __getattr__(name: str) -> Any:
    if name == "NesoProvider":
        from windward.grid.neso import NesoProvider

        return NesoProvider
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
