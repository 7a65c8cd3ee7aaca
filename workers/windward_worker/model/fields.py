"""Numbers and flags as a model file gives them, checked one by one."""

from __future__ import annotations

from typing import Any


def whole(name: str, value: Any) -> int:
    """An integer as a file gives it. Raises ValueError for what is none: text, a fraction, true."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1 << 62:
        raise ValueError(f"{name} {value!r}, which is no integer")
    if int(value) != value:
        raise ValueError(f"{name} {value!r}, which is no integer")
    return int(value)


def real(name: str, value: Any) -> float:
    """A number as a file gives it. Raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} {value!r}, which is no number")
    return float(value)


def tokens(name: str, value: Any) -> tuple[int, ...]:
    """None, a token or a list of them; a negative one, as some write it, is none. Raises ValueError."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    ids = (whole(name, each) for each in listed)
    return tuple(dict.fromkeys(token for token in ids if token >= 0))


def flag(name: str, value: Any) -> bool:
    """true or false. Raises ValueError for anything else: `"false"` would be true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} {value!r}, which is neither true nor false")
    return value
