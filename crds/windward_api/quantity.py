"""Kubernetes resource quantities, by their full grammar (k8s.io/apimachinery `resource.Quantity`).

    quantity = signed number + suffix
    number   = digits | digits.digits | digits. | .digits
    suffix   = Ki Mi Gi Ti Pi Ei | n u m "" k M G T P E | e exponent | E exponent

`1E` is an exa, `1E3` a thousand.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

MOST = Decimal(2**63 - 1)  # beyond it the API server caps a quantity

_GRAMMAR = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,9})?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse_quantity(value: Any) -> Decimal:
    """Returns a quantity of a pod spec as a number of base units (cores, bytes, pieces).

    Args:
        value: text, or a JSON number, which the API server takes too.

    Raises:
        ValueError: no quantity, negative, or more than 2^63 - 1 units.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not a quantity: write a number with a unit, such as 500m or 2Gi")
    text = str(value)
    match = _GRAMMAR.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise ValueError(f"{text[:64]!r} is not a quantity: write a number with a unit, such as 500m or 2Gi")
    amount = _scaled(match["number"], match["suffix"] or "")
    if amount < 0:
        raise ValueError(f"{text!r} is negative: a request is zero or more")
    if amount > MOST:
        raise ValueError(f"{text!r} is more than Kubernetes counts (2^63 - 1): state what the container needs")
    return amount


def _scaled(number: str, suffix: str) -> Decimal:
    try:
        amount = Decimal(number)
        if suffix in _BINARY:
            return amount * Decimal(2 ** _BINARY[suffix])
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:] or 0) if suffix else 0
        return amount.scaleb(max(-40, min(exponent, 40)))  # far beyond both bounds; scaleb refuses more than it holds
    except InvalidOperation as e:
        raise ValueError(f"{number}{suffix} is not a quantity") from e
