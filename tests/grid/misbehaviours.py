"""Every way in which a carbon data service has answered wrongly or may: name, body, and what must come of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from grid.services import GONE, Answer, Service

from windward.grid import ForecastInvalid, InvalidReason, NotEntitled, RateLimited, UnknownZone, Unreachable

R = InvalidReason
FINE = "fine"
HOLE = "a hole, and nothing else lost"


@dataclass(frozen=True)
class Case:
    """`expect`: reasons of a refusal, an error class, FINE or HOLE."""

    name: str
    answer: Callable[[Service, object], Answer]
    expect: object
    only: Callable[[Service], bool] = lambda s: True


def _raw(body: bytes | str, status: int = 200, **headers: str) -> Callable[[Service, object], Answer]:
    data = body if isinstance(body, bytes) else body.encode()
    return lambda service, now: Answer(data, status, {k.replace("_", "-"): v for k, v in headers.items()})


def _rows(change, *, zone: str | None = None) -> Callable[[Service, object], Answer]:
    def made(service: Service, now: object) -> Answer:
        rows = change([replace(r) for r in service.rows(now)])
        body = service.forecast if service.forecasts else service.history
        return Answer(json.dumps(body(rows, zone or service.wire_zone)).encode())

    return made


def _set(i: int, **what):
    def change(rows):
        for name, value in what.items():
            setattr(rows[i], name, value)
        return rows

    return change


def _all(value):
    return lambda rows: [replace(r, value=value) for r in rows]


def _shift(by):
    return lambda rows: [replace(r, start=r.start + by) for r in rows]


def _clocks_back(rows):
    """Local stamps sold as UTC on the night when clocks go back: one hour comes twice."""
    step = rows[1].start - rows[0].start
    n = max(1, int(timedelta(hours=1) / step))
    return rows[: 2 * n] + [replace(r, start=r.start - n * step) for r in rows[2 * n :]]


def _clocks_forward(rows):
    """...and when they go forward: an hour is missing."""
    step = rows[1].start - rows[0].start
    n = max(1, int(timedelta(hours=1) / step))
    return rows[: 2 * n] + [replace(r, start=r.start + n * step) for r in rows[2 * n :]]


def average(s: Service) -> bool:
    return not s.marginal and not s.computed


def plain(s: Service) -> bool:
    return not s.computed


def lifecycle(s: Service) -> bool:
    return average(s) and s.name not in ("neso", "energinet")


CASES = [
    Case("as it should be", _rows(lambda rows: rows), FINE),
    Case("a short horizon", _rows(lambda rows: rows[:5]), FINE),
    Case("nulls at the end", _rows(lambda rows: rows[:-2] + [replace(r, value=None) for r in rows[-2:]]), FINE, plain),
    Case("the same all the time", _rows(_all(180)), FINE),
    Case("200 {}", _raw("{}"), {R.EMPTY, R.MALFORMED}),
    Case("200 []", _raw("[]"), {R.EMPTY, R.MALFORMED}),
    Case("200 null", _raw("null"), {R.MALFORMED}),
    Case("200 with a number", _raw("42"), {R.MALFORMED}),
    Case("200 with text", _raw('"ok"'), {R.MALFORMED}),
    Case("200 with a list of numbers", _raw("[1,2,3]"), {R.MALFORMED}),
    Case("every list null", _raw('{"data":null,"forecast":null,"records":null,"unix_seconds":null,"response":null}'),
         {R.MALFORMED}),
    Case("every list empty",
         _raw('{"data":[],"forecast":[],"records":[],"unix_seconds":[],"response":{"data":[]},"meta":{}}'),
         {R.EMPTY, R.MALFORMED}),
    Case("an error told with 200", _raw('{"error":{"code":"500","message":"oops"}}'), {R.EMPTY, R.MALFORMED}),
    Case("an HTML page", _raw("<!doctype html><h1>We are down</h1>"), {R.NOT_JSON}),
    Case("nothing", _raw(""), {R.NOT_JSON}),
    Case("half an answer", lambda s, n: Answer(_rows(lambda r: r)(s, n).body[:700]), {R.NOT_JSON}),
    Case("not UTF-8", _raw(b'{"data":"\xff\xfe\xfa"}'), {R.NOT_JSON}),
    Case("nested too deep", _raw("[" * 40 + "]" * 40), {R.TOO_DEEP}),
    Case("nested beyond the parser", _raw("[" * 150_000), {R.TOO_DEEP}),
    Case("a number of 5000 digits", _raw('{"data":[' + "9" * 5000 + "]}"), {R.NOT_JSON, R.MALFORMED}),
    Case("2 MB and more", _raw('{"data":"' + "x" * 2_200_000 + '"}'), {R.TOO_LARGE}),
    Case("only nulls", _rows(_all(None)), {R.EMPTY}),
    Case("a null inside", _rows(_set(5, value=None)), HOLE, plain),
    Case("NaN inside", _rows(_set(5, value=float("nan"))), HOLE),
    Case("infinity inside", _rows(_set(5, value=float("inf"))), {R.NOT_A_NUMBER}),
    Case("words inside", _rows(_set(5, value="high")), {R.NOT_A_NUMBER}),
    Case("true inside", _rows(_set(5, value=True)), {R.NOT_A_NUMBER}),
    Case("a list inside", _rows(_set(5, value=[200])), {R.NOT_A_NUMBER}),
    Case("negative", _rows(_set(5, value=-20)), {R.NEGATIVE}, plain),
    Case("-1 for unknown", _rows(_set(5, value=-1)), HOLE, plain),
    Case("1e9", _rows(_set(5, value=1e9)), {R.IMPLAUSIBLE}),
    Case("a missing hour read as 0", _rows(_set(5, value=0)), HOLE, average),
    Case("0 all the time", _rows(_all(0)), {R.ZERO}, average),
    Case("kg/kWh", _rows(_all(0.2)), {R.WRONG_UNIT}, average),
    Case("newest first", _rows(lambda rows: rows[::-1]), {R.UNSORTED}, lambda s: s.forecasts),
    Case("two periods swapped", _rows(lambda rows: [*rows[:4], rows[5], rows[4], *rows[6:]]), {R.UNSORTED},
         lambda s: s.forecasts),
    Case("a period twice", _rows(lambda rows: rows[:5] + rows[4:]), {R.DOUBLED}),
    Case("a period missing", _rows(lambda rows: rows[:5] + rows[6:]), HOLE),
    Case("the night of 25 hours", _rows(_clocks_back), {R.DOUBLED, R.UNSORTED}),
    Case("the night of 23 hours", _rows(_clocks_forward), HOLE),
    Case("past only", _rows(_shift(-timedelta(days=9))), {R.PAST_ONLY}, lambda s: s.forecasts),
    Case("tomorrow only", _rows(_shift(timedelta(days=1, hours=2))), {R.STARTS_LATE}, lambda s: s.forecasts),
    Case("a time without a zone", _rows(_set(3, start="2026-11-21T12:00:00")), {R.BAD_TIME}, lambda s: s.stamps),
    Case("no time", _rows(_set(3, start=GONE)), {R.BAD_TIME}),
    Case("a time that is none", _rows(_set(3, start="soon")), {R.BAD_TIME}),
    Case("another zone", _rows(lambda rows: rows, zone="XX-YY"), {R.WRONG_ZONE}, lambda s: s.names_zone),
    Case("400", _raw('{"message":"bad"}', 400), {R.MALFORMED}),
    Case("401: not in your plan", _raw('{"message":"Request unauthorized: zone not in your plan"}', 401), NotEntitled),
    Case("403", _raw("forbidden", 403), NotEntitled),
    Case("404", _raw("{}", 404), UnknownZone),
    Case("429, and for how long", _raw("{}", 429, Retry_After="120"), RateLimited),
    Case("429 without a word", _raw("slow down", 429), RateLimited),
    Case("500", _raw("{}", 500), Unreachable),
    Case("503 as a page", _raw("<h1>503</h1>", 503), Unreachable),
    Case("a redirect", _raw("", 302, Location="http://169.254.169.254/latest/meta-data"), {R.REDIRECTED}),
    Case("compressed though not asked for", _raw(b"\x1f\x8b\x08", 200, Content_Encoding="gzip"), {R.MALFORMED}),
]  # fmt: skip


def judged(case: Case, error: BaseException | None) -> str | None:
    """What is wrong with the outcome, or None."""
    if case.expect in (FINE, HOLE):
        return None if error is None else f"refused: {error}"
    if isinstance(case.expect, set):
        if not isinstance(error, ForecastInvalid):
            return f"gave {error!r} instead of a refusal"
        return None if error.reason in case.expect else f"refused as {error.reason}: {error}"
    assert isinstance(case.expect, type)
    return None if type(error) is case.expect else f"gave {error!r} instead of {case.expect.__name__}"
