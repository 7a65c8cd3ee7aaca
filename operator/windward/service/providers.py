"""Which source of carbon data serves: chosen by name, in one place."""

from __future__ import annotations

from pathlib import Path

from windward.domain.clock import Clock
from windward.grid.port import Provider

NAMES = ("trace", "neso")


def provider_of(name: str, clock: Clock, trace: Path | None = None) -> Provider:
    """The provider called `name`.

    Args:
        name: `trace` (a recording; the bundled demonstration trace unless `trace` names another) or `neso`
            (National Energy System Operator, Great Britain, live, no key).
        trace: file or folder of the recording.

    Raises:
        ValueError: there is no such provider.
    """
    if name == "trace":
        from windward.grid.trace import TraceProvider

        return TraceProvider.open(trace) if trace is not None else TraceProvider.bundled()
    if name == "neso":
        from windward.grid.neso import NesoProvider

        return NesoProvider(clock)
    raise ValueError(f"there is no provider {name!r}: choose one of {', '.join(NAMES)}")
