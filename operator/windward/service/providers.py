"""Opens the providers of carbon data that are chosen by name, in order of trust.

Credentials and addresses come from the environment of the operator or of the shell, never from a custom resource.
"""

from __future__ import annotations

import os
from pathlib import Path

from windward.domain.clock import Clock
from windward.grid.port import Provider
from windward.grid.provider_spec import Environment, flag
from windward.grid.registry import spec_of

ACROSS_KINDS = "WINDWARD_FALLBACK_ACROSS_KINDS"


def provider_of(name: str, clock: Clock, trace: Path | None = None, environment: Environment | None = None) -> Provider:
    """Returns the provider called `name`; several, joined by commas, serve in that order (`FirstOf`).

    Args:
        name: of `grid.registry.NAMES`.
        trace: file or folder of the recording, for `trace`; without it the bundled demonstration year.
        environment: where keys and addresses stand (`ProviderSpec.variables`); the process's own unless given.

    Raises:
        ValueError: there is no such provider, a variable is missing, or kinds would be mixed.
    """
    env = os.environ if environment is None else environment
    providers = [_opened(part.strip(), clock, trace, env) for part in name.split(",") if part.strip()]
    if len(providers) == 1:
        return providers[0]
    from windward.grid.first_of import FirstOf

    return FirstOf(providers, across_kinds=flag(env, ACROSS_KINDS))


def _opened(name: str, clock: Clock, trace: Path | None, env: Environment) -> Provider:
    spec = spec_of(name)
    if missing := spec.missing(env):
        raise ValueError(f"provider {name} needs {' and '.join(missing)} in the environment")
    return spec.open(clock, trace, env)
