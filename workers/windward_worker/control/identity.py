"""Whether stored work is of the same kind as what is asked for now: named facts, compared one by one.

Not one sum over everything: a field that a later version adds, or one that changes nothing of what is stored, must not
orphan work that stands on a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots."""
    flattened: dict[str, Any] = {}
    for name, value in values.items():
        flattened |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flattened


def differences(stored: Mapping[str, Any], own: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """What differs, in words. Only the names of `own` count; one that is not stored had its default then."""
    changes = []
    for name, value in own.items():
        before = stored.get(name, defaults.get(name, value))
        if before != value:
            long = isinstance(value, str) and len(value) > 32  # a digest tells nobody anything
            changes.append(f"{name} changed" if long else f"{name} was {before} and is {value}")
    return changes
