"""Which source of carbon data serves: chosen by name, in one place.

Credentials and addresses come from the environment of the operator or of the shell, never from a custom resource.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from windward.domain.clock import Clock
from windward.domain.series import Basis, Kind, Scope, Signal
from windward.grid.port import Provider

Environment = Mapping[str, str]

# Variables that each source reads; those that it cannot do without are required.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "trace": (),
    "neso": (),
    "electricitymaps": ("WINDWARD_ELECTRICITYMAPS_KEY",),
    "watttime": ("WINDWARD_WATTTIME_USER", "WINDWARD_WATTTIME_PASSWORD"),
    "energy-charts": (),
    "energinet": (),
    "eia-930": ("WINDWARD_EIA_KEY",),
    "carbon-aware-sdk": ("WINDWARD_CARBON_AWARE_SDK_URL", "WINDWARD_CARBON_AWARE_SDK_KIND"),
    "static": ("WINDWARD_STATIC_INTENSITY", "WINDWARD_STATIC_KIND"),
}
NAMES = tuple(VARIABLES)


def provider_of(name: str, clock: Clock, trace: Path | None = None, environment: Environment | None = None) -> Provider:
    """The provider called `name`; several, joined by commas, serve in that order (`FirstOf`).

    Args:
        name: of `NAMES`.
        trace: file or folder of the recording, for `trace`; without it the bundled demonstration year.
        environment: where keys and addresses stand (`VARIABLES`); the process's own unless given.

    Raises:
        ValueError: there is no such provider, a variable is missing, or kinds would be mixed.
    """
    env = os.environ if environment is None else environment
    made = [_one(n.strip(), clock, trace, env) for n in name.split(",") if n.strip()]
    if len(made) == 1:
        return made[0]
    from windward.grid.first_of import FirstOf

    return FirstOf(made, across_kinds=env.get("WINDWARD_FALLBACK_ACROSS_KINDS", "").lower() == "true")


def _one(name: str, clock: Clock, trace: Path | None, env: Environment) -> Provider:
    if name not in VARIABLES:
        raise ValueError(f"there is no provider {name!r}: choose one of {', '.join(NAMES)}")
    missing = [v for v in VARIABLES[name] if not env.get(v)]
    if missing:
        raise ValueError(f"provider {name} needs {' and '.join(missing)} in the environment")
    return _MAKERS[name](clock, trace, env)


def _trace(_: Clock, trace: Path | None, __: Environment) -> Provider:
    from windward.grid.trace import TraceProvider

    return TraceProvider.open(trace) if trace is not None else TraceProvider.bundled()


def _neso(clock: Clock, _: Path | None, __: Environment) -> Provider:
    from windward.grid.neso import NesoProvider

    return NesoProvider(clock)


def _electricity_maps(clock: Clock, _: Path | None, env: Environment) -> Provider:
    from windward.grid.electricity_maps import ElectricityMapsProvider

    sandbox = env.get("WINDWARD_ELECTRICITYMAPS_SANDBOX", "").lower() == "true"
    return ElectricityMapsProvider(clock, env["WINDWARD_ELECTRICITYMAPS_KEY"], sandbox=sandbox)


def _watttime(clock: Clock, _: Path | None, env: Environment) -> Provider:
    from windward.grid.watttime import WattTimeProvider

    user, password = (env[v] for v in VARIABLES["watttime"])
    return WattTimeProvider(clock, user, password, regions=_pairs(env, "WINDWARD_WATTTIME_REGIONS", "ZONE=REGION"))


def _energy_charts(clock: Clock, _: Path | None, __: Environment) -> Provider:
    from windward.grid.energy_charts import EnergyChartsProvider

    return EnergyChartsProvider(clock)


def _energinet(clock: Clock, _: Path | None, __: Environment) -> Provider:
    from windward.grid.energinet import EnerginetProvider

    return EnerginetProvider(clock)


def _eia(clock: Clock, _: Path | None, env: Environment) -> Provider:
    from windward.grid.eia import EiaProvider

    return EiaProvider(clock, env["WINDWARD_EIA_KEY"])


def _carbon_aware_sdk(clock: Clock, _: Path | None, env: Environment) -> Provider:
    from windward.grid.carbon_aware_sdk import CarbonAwareSdkProvider

    kind = kind_of(env["WINDWARD_CARBON_AWARE_SDK_KIND"], "WINDWARD_CARBON_AWARE_SDK_KIND")
    return CarbonAwareSdkProvider(clock, env["WINDWARD_CARBON_AWARE_SDK_URL"], kind)


def _static(_: Clock, __: Path | None, env: Environment) -> Provider:
    from windward.grid.static import StaticProvider

    pairs = _pairs(env, "WINDWARD_STATIC_INTENSITY", "ZONE=g/kWh")
    try:
        values = {zone: float(value) for zone, value in pairs.items()}
    except ValueError as e:
        raise ValueError(f"WINDWARD_STATIC_INTENSITY: {e}; write DE=380,FR=60") from e
    return StaticProvider(values, kind_of(env["WINDWARD_STATIC_KIND"], "WINDWARD_STATIC_KIND"))


def kind_of(words: str, variable: str) -> Kind:
    """`Average/LifeCycle/Consumption` as a kind; it is declared, never guessed.

    Raises:
        ValueError: it reads otherwise.
    """
    parts = words.split("/")
    try:
        signal, scope, basis = parts
        return Kind(Signal(signal), Scope(scope), Basis(basis))
    except ValueError as e:
        raise ValueError(
            f"{variable}={words!r}: write Average or Marginal, LifeCycle or Direct, Consumption or Production, "
            "as Average/LifeCycle/Consumption"
        ) from e


def _pairs(env: Environment, variable: str, form: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for word in filter(None, env.get(variable, "").split(",")):
        name, equals, value = word.strip().partition("=")
        if not equals or not name or not value:
            raise ValueError(f"{variable}: {word!r} is not {form}")
        out[name] = value
    return out


_MAKERS: Mapping[str, Callable[[Clock, Path | None, Environment], Provider]] = {
    "trace": _trace,
    "neso": _neso,
    "electricitymaps": _electricity_maps,
    "watttime": _watttime,
    "energy-charts": _energy_charts,
    "energinet": _energinet,
    "eia-930": _eia,
    "carbon-aware-sdk": _carbon_aware_sdk,
    "static": _static,
}
