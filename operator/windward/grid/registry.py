"""The registry of carbon data providers: the one list of them. Each declares itself in its module's `SPEC`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from windward.grid.provider_spec import ProviderSpec

# Name -> module of this package, in the order in which they are listed. A module is imported when it is first asked
# for: those of live sources bring httpx, which takes longer to import than all the rest.
_MODULES: Mapping[str, str] = {
    "trace": "trace",
    "neso": "neso",
    "electricitymaps": "electricity_maps",
    "watttime": "watttime",
    "energy-charts": "energy_charts",
    "energinet": "energinet",
    "eia-930": "eia",
    "carbon-aware-sdk": "carbon_aware_sdk",
    "static": "static",
}
NAMES = tuple(_MODULES)


def spec_of(name: str) -> ProviderSpec:
    """Returns what the provider called `name` declares.

    Raises:
        ValueError: there is no such provider; the message names those that there are.
    """
    if name not in _MODULES:
        raise ValueError(f"there is no provider {name!r}: choose one of {', '.join(NAMES)}")
    spec: ProviderSpec = import_module(f"windward.grid.{_MODULES[name]}").SPEC
    return spec


def all_specs() -> tuple[ProviderSpec, ...]:
    """Returns what every provider declares, in the order of `NAMES`."""
    return tuple(spec_of(name) for name in NAMES)
