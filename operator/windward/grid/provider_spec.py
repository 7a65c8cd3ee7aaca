"""What a provider of carbon data declares of itself, beside its class, and how it reads what is declared to it.

`windward.grid.registry` lists the modules whose `SPEC` this is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from windward.domain.clock import Clock
from windward.domain.series import Basis, Kind, Scope, Signal
from windward.grid.port import Provider

Environment = Mapping[str, str]


class Key(StrEnum):
    """Whether its service asks for an account, as README's table writes it."""

    NONE = "none"
    FREE = "free"
    YES = "yes"


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """One provider, as it is chosen, listed and opened.

    Attributes:
        name: what `--provider` and the chart's `provider.name` call it.
        about: what it covers, in one line of `windward providers list`.
        open: builds it from a clock, a recording's path (None: the bundled year) and an environment that has each of
            `required`; raises ValueError where a variable reads otherwise than it must.
        kind: what its values count; None where whoever installs or records them declares it.
        required, optional: environment variables that it cannot do without, and those that change what it does.
        live: whether it tells of the present; a recording or a declared number does not.
    """

    name: str
    about: str
    open: Callable[[Clock, Path | None, Environment], Provider]
    kind: Kind | None
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    key: Key = Key.NONE
    live: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self.required, *self.optional)

    def missing(self, env: Environment) -> list[str]:
        """Returns the required variables that `env` lacks."""
        return [variable for variable in self.required if not env.get(variable)]


def flag(env: Environment, variable: str) -> bool:
    """Returns whether a variable reads `true`."""
    return env.get(variable, "").lower() == "true"


def declared_kind(env: Environment, variable: str) -> Kind:
    """Returns what `Average/LifeCycle/Consumption` in a variable names; a kind is declared, never guessed.

    Raises:
        ValueError: it reads otherwise.
    """
    words = env[variable]
    try:
        signal, scope, basis = words.split("/")
        return Kind(Signal(signal), Scope(scope), Basis(basis))
    except ValueError as e:
        raise ValueError(
            f"{variable}={words!r}: write Average or Marginal, LifeCycle or Direct, Consumption or Production, "
            "as Average/LifeCycle/Consumption"
        ) from e


def declared_pairs(env: Environment, variable: str, form: str) -> dict[str, str]:
    """Returns `DE=380,FR=60` in a variable as a mapping; empty where the variable is.

    Args:
        form: how one pair is written, for the error.

    Raises:
        ValueError: a pair lacks its name or its value.
    """
    out: dict[str, str] = {}
    for word in filter(None, env.get(variable, "").split(",")):
        name, equals, value = word.strip().partition("=")
        if not equals or not name or not value:
            raise ValueError(f"{variable}: {word!r} is not {form}")
        out[name] = value
    return out
