"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from datetime import timedelta

_MOST_DOUBLINGS = 16


def backoff(times: int, first: timedelta, most: timedelta) -> timedelta:
    """Returns the delay after `times` failures in a row: `first`, doubling with each, at most `most`."""
    return min(first * (1 << min(max(times - 1, 0), _MOST_DOUBLINGS)), most)
