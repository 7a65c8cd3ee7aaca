"""Who may come: told by who came (docs/planning.md 7).

A plan that knows only the work that is there fills the cleanest hours with it, and what comes in an hour finds them
taken. Work like that of the day before, a day later, holds them open; it is placed and priced, and never runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import blake2b

from windward.domain.fleet import Work

DAY = timedelta(days=1)
KNOWN = DAY / 2  # of arrivals, before they say anything
SHARE = 0.8  # of them that are expected again: room kept for nobody is lost, and days differ
MARK = "expected:"  # no key of a job holds a colon


def expected(arrived: Iterable[Work], now: datetime) -> tuple[Work, ...]:
    """Work that may come in the next day: a drawn share of what came in the last, at its hour, with its own slack.

    Args:
        arrived: as it was when it was submitted.
    """
    seen = sorted((w for w in arrived if now - DAY < w.submitted <= now), key=lambda w: w.key)
    if not seen or now - min(w.submitted for w in seen) < KNOWN:
        return ()
    return tuple(_a_day_later(w) for w in seen if _drawn(w.key) < SHARE)


def _a_day_later(work: Work) -> Work:
    return replace(
        work,
        key=MARK + work.key,
        earliest=work.earliest + DAY,
        submitted=work.submitted + DAY,
        finish_by=work.finish_by + DAY,
        asap=False,
    )


def _drawn(key: str) -> float:
    """A number in [0, 1), always the same for a key: what is expected does not change from one plan to the next."""
    return int.from_bytes(blake2b(key.encode(), digest_size=6).digest(), "big") / 2**48
