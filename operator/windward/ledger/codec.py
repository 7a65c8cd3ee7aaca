"""Canonical forms: the same content gives the same bytes, hence the same sha256, today and in ten years.

Canonical JSON here: keys sorted, no spaces, ASCII only, floats as Python's shortest exact text; NaN is refused.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from windward.domain.clock import utc
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal


def canonical(body: Mapping[str, Any]) -> str:
    """`body` as canonical JSON.

    Raises:
        ValueError: it holds something that is not JSON (NaN, a time, a set, a key that is no text).
    """
    _refuse_odd_keys(body)
    try:
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def sha256(text: str) -> str:
    """The hash of a canonical text, hex."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def encode(series: Series) -> str:
    """All of `series` but its fetch time, as canonical JSON; its sha256 is the vintage."""
    return canonical(
        {
            "attribution": series.attribution,
            "basis": series.kind.basis.value,
            "demo": series.demo,
            "edges_s": series.edges.tolist(),
            "intensity_g_per_kwh": series.intensity_g_per_kwh.tolist(),
            "issued_at": utc(series.issued_at).isoformat(),
            "quality": [quality.value for quality in series.quality],
            "scope": series.kind.scope.value,
            "signal": series.kind.signal.value,
            "source": series.source,
            "zone": series.zone,
        }
    )


def decode(text: str, fetched_at: datetime) -> Series:
    """The series that `encode` was given."""
    fields = json.loads(text)
    return Series(
        zone=fields["zone"],
        kind=Kind(Signal(fields["signal"]), Scope(fields["scope"]), Basis(fields["basis"])),
        edges=np.array(fields["edges_s"], dtype=np.float64),
        intensity_g_per_kwh=np.array(fields["intensity_g_per_kwh"], dtype=np.float64),
        quality=tuple(Quality(word) for word in fields["quality"]),
        source=fields["source"],
        issued_at=datetime.fromisoformat(fields["issued_at"]).astimezone(UTC),
        fetched_at=fetched_at,
        attribution=fields["attribution"],
        demo=fields["demo"],
    )


def pack(text: str) -> bytes:
    """A canonical text as it is stored: compressed."""
    return zlib.compress(text.encode("ascii"), 6)


def unpack(payload: bytes) -> str:
    """What `pack` stored."""
    return zlib.decompress(payload).decode("ascii")


_LEAVES = (str, float, int, bool, type(None))  # by exact type: most of a body, and nothing to look into


def _refuse_odd_keys(value: object) -> None:
    """`json` would turn the key 1 into "1" and True into "true": two bodies, one text."""
    children: Iterable[object] = ()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"not JSON: the key {key!r} is no text")
        children = value.values()
    elif isinstance(value, list | tuple):
        children = value
    for child in children:
        if type(child) not in _LEAVES:
            _refuse_odd_keys(child)
