"""What the live providers share: reading times and rows that nobody vouches for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from windward.domain.clock import utc
from windward.grid.port import ForecastInvalid, InvalidReason

Row = dict[str, Any]
_NOWHERE = float("nan")


def epoch_s(stamp: object, *, zoneless_utc: bool = False) -> float:
    """A time stamp as epoch seconds; NaN for what is none, so that the validator refuses it.

    Args:
        zoneless_utc: the format documents UTC without writing it; else a time without a zone is refused, not guessed.
    """
    if not isinstance(stamp, str):
        return _NOWHERE
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return _NOWHERE
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp() if zoneless_utc else _NOWHERE
    return moment.timestamp()


def rows_at(zone: str, body: Any, *names: str) -> list[Row]:
    """The list of objects under the first of `names` that the answer has.

    Raises:
        ForecastInvalid: MALFORMED where the shape is another, EMPTY where nothing is in it.
    """
    if not isinstance(body, dict):
        raise ForecastInvalid(zone, InvalidReason.MALFORMED, f"the answer is not {{{names[0]}: [...]}}")
    return rows(zone, next((body[n] for n in names if n in body), []))


def rows(zone: str, answer: Any) -> list[Row]:
    """`answer` as a list of objects; see `rows_at`."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise ForecastInvalid(zone, InvalidReason.MALFORMED, "the answer is not a list of objects")
    if not answer:
        raise ForecastInvalid(zone, InvalidReason.EMPTY, "the answer holds no value")
    return answer


def not_over(zone: str, starts: Sequence[float], step_s: float, now: datetime) -> slice:
    """The rows from the period that contains `now` on. Rows without a readable time stay in: the validator shall
    refuse them, not this filter hide them.

    Raises:
        ForecastInvalid: PAST_ONLY.
    """
    now_s = utc(now).timestamp()
    first = next((i for i, t in enumerate(starts) if not t + step_s <= now_s), None)
    if first is None:
        raise ForecastInvalid(zone, InvalidReason.PAST_ONLY, f"{len(starts)} values, all of them over")
    return slice(first, None)


def chunks(start: datetime, end: datetime, span: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """[start, end) in pieces of at most `span`."""
    a = utc(start)
    while a < utc(end):
        b = min(a + span, utc(end))
        yield a, b
        a = b


def gathered(
    start: datetime,
    end: datetime,
    span: timedelta,
    ask: Callable[[datetime, datetime], list[Row]],
    start_of: Callable[[Row], float],
) -> list[Row]:
    """Rows of [start, end), asked for in pieces of at most `span`; a piece without any row costs only itself.

    Services differ in whether the ends of a range belong to it, so a row is taken from the piece in which its period
    starts: no period comes twice. Rows without a readable time stay in, for the validator to refuse.

    Args:
        ask: the rows of one piece.
        start_of: when a row's period starts, epoch seconds or NaN.

    Raises:
        ForecastInvalid: as `ask`, except EMPTY.
    """
    pieces = list(chunks(start, end, span))
    collected: list[Row] = []
    for i, (a, b) in enumerate(pieces):
        try:
            piece = ask(a, b)
        except ForecastInvalid as refusal:
            if refusal.reason is not InvalidReason.EMPTY:
                raise
            continue
        after = a.timestamp() if i > 0 else float("-inf")
        before = b.timestamp() if i < len(pieces) - 1 else float("inf")
        collected += [row for row in piece if not (start_of(row) < after or start_of(row) >= before)]
    return collected


def past_periods(
    zone: str,
    answer: Sequence[Row],
    starts: Sequence[float],
    step_s: float,
    start: datetime,
    end: datetime,
    now: datetime,
) -> tuple[list[Row], list[float]]:
    """Rows, with their starts, of the whole periods that overlap [start, end) and are over at `now`, in order of time.

    Equal rows, as from adjoining requests, are one row. Two rows of one period with different values stay, and so do
    rows without a readable time, for the validator to refuse.

    Raises:
        ForecastInvalid: EMPTY.
    """
    a, b, now_s = utc(start).timestamp(), utc(end).timestamp(), utc(now).timestamp()
    kept: list[int] = []
    for i in sorted(range(len(answer)), key=lambda i: (starts[i] != starts[i], starts[i])):
        outside = starts[i] + step_s <= a or starts[i] >= b or starts[i] + step_s > now_s
        if not outside and not (kept and starts[kept[-1]] == starts[i] and answer[kept[-1]] == answer[i]):
            kept.append(i)
    if not kept:
        raise nothing_from(zone, start, end)
    return [answer[i] for i in kept], [starts[i] for i in kept]


def nothing_from(zone: str, start: datetime, end: datetime) -> ForecastInvalid:
    """The refusal of a history without any period."""
    return ForecastInvalid(zone, InvalidReason.EMPTY, f"nothing from {iso(start)} to {iso(end)}")


def issued(stamp: object, now: datetime) -> datetime:
    """The provider's own issue time where it gives one that is not in the future, else the time of asking."""
    t = epoch_s(stamp)
    return datetime.fromtimestamp(t, UTC) if t == t and t <= utc(now).timestamp() + 300 else utc(now)


def iso(moment: datetime) -> str:
    """`2026-11-21T09:20Z`."""
    return utc(moment).strftime("%Y-%m-%dT%H:%MZ")
