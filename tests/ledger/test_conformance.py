"""One conformance suite: the promise of `ledger.port.Ledger`, on a file, in memory, on PostgreSQL and without SQL."""

import hashlib
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from ledger.conftest import DATABASES, empty

from windward.domain.energy import EnergyInterval
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.ledger import MemoryLedger, open_ledger
from windward.ledger.tables import energy

KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
MARGINAL = Kind(Signal.MARGINAL, Scope.DIRECT, Basis.PRODUCTION)
T0 = datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC)  # a second before European clocks jump
HOUR = timedelta(hours=1)
NEW_YORK_SUMMER = timezone(timedelta(hours=-4))


def issue(start=T0, zone="DE", kind=KIND, count=3, **changes):
    series = Series.regular(
        zone, kind, start, HOUR, [100 + k for k in range(count)],
        quality=Quality.FORECAST, source="test", issued_at=start, fetched_at=start + HOUR,
    )  # fmt: skip
    return replace(series, **changes)


def interval(**changes):
    row = EnergyInterval("u1", 1, "p1", "gpu", T0, T0 + HOUR, 1234.5, "measured", "nvml", "north", "SE-SE3", 1.1, 1.0)
    return replace(row, **changes)


@pytest.fixture(params=[*DATABASES, "no database"])
def book(request, tmp_path):
    plain = request.param == "no database"
    ledger = MemoryLedger() if plain else open_ledger(empty(request.param, request, tmp_path))
    yield ledger
    ledger.close()


# -- issues ----------------------------------------------------------------------------------------------------------

SERIES = {
    "plain": issue(),
    "awkward floats": issue(count=4, intensity_g_per_kwh=np.array([0.1 + 0.2, 5e-324, 1 / 3, 1.7976931348623157e308])),
    "mixed steps": Series("GB", KIND, np.array([0.0, 300, 3900.25]), np.array([1.0, 2]),
                          (Quality.MEASURED, Quality.ESTIMATED), "s", T0, T0),
    "all words": issue(attribution="Übertragungsnetz ☂ 'x'; \"y\"", demo=True, source="a\\b\nc"),
    "marginal": issue(kind=MARGINAL),
}  # fmt: skip


@pytest.mark.parametrize("name", SERIES)
def test_an_issue_comes_back_exactly(book, name):
    series = SERIES[name]
    vintage = book.archive(series)
    assert book.issue(vintage) == series  # bit for bit
    assert book.issue(vintage).issued_at.utcoffset() == timedelta(0)


def test_a_vintage_is_the_sha256_of_what_was_said(book):
    vintage = book.archive(issue())
    said = {
        "attribution": "", "basis": "Consumption", "demo": False, "edges_s": issue().edges.tolist(),
        "intensity_g_per_kwh": [100.0, 101.0, 102.0], "issued_at": "2026-03-29T00:59:59.999999+00:00",
        "quality": ["forecast"] * 3, "scope": "Direct", "signal": "Average", "source": "test", "zone": "DE",
    }  # fmt: skip
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    assert vintage == hashlib.sha256(text.encode()).hexdigest()


def test_an_issue_fetched_twice_is_kept_once(book):
    first = book.archive(issue())
    assert book.archive(issue(fetched_at=T0 + 9 * HOUR)) == first
    assert book.issue(first).fetched_at == T0 + HOUR
    assert len(book.issues("DE", KIND, T0, T0 + HOUR)) == 1


def test_any_difference_is_another_vintage(book):
    changes = [
        {}, {"zone": "FR"}, {"kind": MARGINAL}, {"source": "other"}, {"issued_at": T0 + HOUR}, {"demo": True},
        {"attribution": "x"}, {"quality": (Quality.ESTIMATED,) * 3}, {"edges": issue().edges + 1},
        {"intensity_g_per_kwh": np.nextafter(issue().intensity_g_per_kwh, 999)},
    ]  # fmt: skip
    assert len({book.archive(issue(**change)) for change in changes}) == len(changes)


def test_an_unknown_vintage(book):
    with pytest.raises(KeyError):
        book.issue("0" * 64)


@pytest.mark.parametrize(
    ("from_h", "to_h", "found"),
    [
        (-9, 0, []),
        (-9, 0.1, ["a"]),
        (2.9, 3, ["a", "b"]),
        (3, 4, ["b"]),
        (4.5, 9, ["b"]),
        (5, 9, []),
        (-9, 9, ["a", "b"]),
    ],
)
def test_issues_are_found_by_target_oldest_first(book, from_h, to_h, found):
    book.archive(issue(T0 + 2 * HOUR, source="b"))
    book.archive(issue(T0, source="a"))
    book.archive(issue(T0, zone="FR"))
    book.archive(issue(T0, kind=MARGINAL))
    for zone in (UTC, NEW_YORK_SUMMER):
        start, end = (T0 + from_h * HOUR).astimezone(zone), (T0 + to_h * HOUR).astimezone(zone)
        assert [series.source for series in book.issues("DE", KIND, start, end)] == found


# -- energy ----------------------------------------------------------------------------------------------------------


def test_energy_comes_back_exactly_and_in_order(book):
    rows = [
        interval(start=T0 + HOUR, end=T0 + 2 * HOUR, joules=0.1 + 0.2),
        interval(component="cpu", pue=1 / 3, time_scale=3600.0),
        interval(),
        interval(attempt=2),
        interval(joules=0.0, pod_uid="p2"),
    ]
    assert book.record_energy(rows) == 5
    assert book.energy("u1") == [rows[1], rows[2], rows[4], rows[3], rows[0]]
    assert book.energy("nobody") == []
    assert all(row.start.utcoffset() == timedelta(0) for row in book.energy("u1"))


@pytest.mark.parametrize(
    ("second", "new"),
    [
        ({}, 0),
        ({"joules": 9.0, "end": T0 + 2 * HOUR, "method": "modelled"}, 0),  # the first row counts
        ({"start": T0.astimezone(NEW_YORK_SUMMER)}, 0),  # the same moment
        ({"uid": "u2"}, 1),
        ({"attempt": 2}, 1),
        ({"pod_uid": "p2"}, 1),
        ({"component": "cpu"}, 1),
        ({"start": T0 + timedelta(microseconds=1)}, 1),
    ],
)
def test_a_row_recorded_twice_counts_once(book, second, new):
    assert book.record_energy([interval()]) == 1
    assert book.record_energy([interval(**second)]) == new
    assert interval() in book.energy("u1")


def test_twice_in_one_batch_counts_once(book):
    assert book.record_energy([interval(), interval(joules=1.0), interval(attempt=2)]) == 2


def test_no_rows_are_no_work(book):
    assert book.record_energy([]) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"joules": -1.0}, {"joules": math.nan}, {"joules": math.inf}, {"end": T0}, {"end": T0 - HOUR},
        {"start": datetime(2026, 3, 29)}, {"end": datetime(2026, 3, 30)},
    ],
)  # fmt: skip
def test_what_would_make_a_sum_meaningless_is_refused_whole(book, wrong):
    with pytest.raises(ValueError):
        book.record_energy([interval(attempt=7), interval(**wrong)])
    assert book.energy("u1") == []


def test_the_book_has_a_column_for_every_field():
    assert {column.name for column in energy.columns} == {field.name for field in fields(EnergyInterval)} | {"id"}


def test_many_rows_in_one_call(book):
    rows = [interval(start=T0 + k * HOUR, end=T0 + (k + 1) * HOUR, joules=float(k)) for k in range(1203)]
    assert book.record_energy(rows) == 1203
    assert book.record_energy(rows[::2]) == 0
    assert sum(row.joules for row in book.energy("u1")) == 1203 * 1202 / 2


# -- decisions -------------------------------------------------------------------------------------------------------

BODY = {"windows": [["2026-03-29T01:00:00Z", 3600]], "reason": "Grüner", "none": None, "deep": {"a": [1, 2.5, True]}}


def test_decisions_come_back_in_order_and_once(book):
    book.record_decision("u1", "ml", "job", T0, "Planned", BODY)
    book.record_decision("u1", "ml", "job", T0, "Planned", dict(reversed(BODY.items())))  # the same, told again
    book.record_decision("u1", "ml", "job", T0, "Planned", BODY | {"reason": "other"})
    book.record_decision("u1", "ml", "job", T0 - HOUR, "Started", {})
    book.record_decision("u2", "ml", "job", T0, "Planned", BODY)
    found = book.decisions("u1")
    assert [(d.kind, d.at, d.body.get("reason")) for d in found] == [
        ("Planned", T0, "Grüner"),
        ("Planned", T0, "other"),
        ("Started", T0 - HOUR, None),
    ]
    assert (found[0].uid, found[0].namespace, found[0].name, found[0].body) == ("u1", "ml", "job", BODY)


def test_the_newest_decisions_are_those_of_the_latest_times_in_the_order_of_their_notes(book):
    for at in (3, 1, 4, 1, 5, 2):
        book.record_decision("u1", "ml", "etl", T0 + at * HOUR, "RunningTime", {"job": f"j{at}"})
        book.record_decision("u2", "ml", "etl", T0 + 9 * HOUR, "RunningTime", {"job": f"j{at}"})
    assert [d.body["job"] for d in book.decisions("u1", newest=3)] == ["j3", "j4", "j5"]
    assert [d.body["job"] for d in book.decisions("u1", newest=9)] == ["j3", "j1", "j4", "j5", "j2"]
    assert book.decisions("u3", newest=3) == []


@pytest.mark.parametrize("body", [{"x": math.nan}, {"x": T0}, {"x": {1, 2}}, {1: "x"}, {"x": {True: 1}}, {"x": b"y"}])
def test_a_body_that_is_no_json_is_refused(book, body):
    with pytest.raises(ValueError, match="JSON"):
        book.record_decision("u1", "ml", "job", T0, "Planned", body)
    with pytest.raises(ValueError, match="JSON"):
        book.record_receipt("u1", "ml", "job", T0, body)
    assert not book.decisions("u1") and not book.receipt_history("u1")


def test_a_naive_time_is_refused(book):
    naive = datetime(2026, 3, 29)
    with pytest.raises(ValueError, match="naive"):
        book.record_decision("u1", "ml", "job", naive, "Planned", {})
    with pytest.raises(ValueError, match="naive"):
        book.record_receipt("u1", "ml", "job", naive, {})
    with pytest.raises(ValueError, match="naive"):
        book.receipts(since=naive)


# -- receipts --------------------------------------------------------------------------------------------------------


def test_a_changed_receipt_is_the_next_revision_and_an_equal_one_is_nothing(book):
    def write(body, **flags):
        return book.record_receipt("u1", "ml", "job", T0, body, **flags)

    assert write({"grams": 1.5, "saved": -2}) == 1
    assert write({"saved": -2, "grams": 1.5}) == 1
    assert write({"grams": 1.6, "saved": -2}) == 2
    assert write({"grams": 1.6, "saved": -2}, settled=True) == 3
    assert write({"grams": 1.6, "saved": -2}, settled=True) == 3
    assert write({"grams": 1.5, "saved": -2}) == 4  # back to an earlier body: changed all the same
    assert book.record_receipt("u2", "ml", "job", T0, {}) == 1
    history = book.receipt_history("u1")
    assert [(r.revision, r.body["grams"], r.settled) for r in history] == [
        (1, 1.5, False),
        (2, 1.6, False),
        (3, 1.6, True),
        (4, 1.5, False),
    ]
    assert history[0].sha256 == hashlib.sha256(b'{"grams":1.5,"saved":-2}').hexdigest()
    assert history[0].at == T0


def test_reports_see_the_newest_revision_and_no_demonstration(book):
    book.record_receipt("a", "ml", "one", T0, {"g": 1})
    book.record_receipt("a", "ml", "one", T0, {"g": 2})
    book.record_receipt("b", "ml", "two", T0 + HOUR, {"g": 3}, demo=True)
    book.record_receipt("c", "web", "three", T0 - HOUR, {"g": 4})
    book.record_receipt("d", "web", "four", T0, {"g": 5})
    book.record_receipt("d", "web", "four", T0, {"g": 5}, demo=True)  # found out later: out of every report

    def seen(**which):
        return [(r.uid, r.body["g"]) for r in book.receipts(**which)]

    assert seen() == [("c", 4), ("a", 2)]
    assert seen(include_demo=True) == [("c", 4), ("a", 2), ("d", 5), ("b", 3)]
    assert seen(namespace="ml") == [("a", 2)]
    assert seen(since=T0) == [("a", 2)]
    assert seen(until=T0) == [("c", 4)]
    assert seen(since=T0.astimezone(NEW_YORK_SUMMER), until=T0 + timedelta(microseconds=1)) == [("a", 2)]
    assert seen(namespace="nobody") == []


# -- threads ---------------------------------------------------------------------------------------------------------


def test_one_thread_writes_while_another_reads(book):
    stop, failures = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                rows = book.energy("u1")
                assert [row.joules for row in rows] == sorted(row.joules for row in rows)
                book.receipts()
            except Exception as error:
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for k in range(60):
            book.record_energy([interval(start=T0 + k * HOUR, end=T0 + (k + 1) * HOUR, joules=float(k))])
            book.record_receipt("u1", "ml", "job", T0, {"k": k})
    finally:
        stop.set()
        reader.join(20)
    assert failures == []
    assert len(book.energy("u1")) == 60 and book.receipts()[0].revision == 60


def test_receipts_written_at_once_get_numbers_without_holes(book):
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda k: book.record_receipt("u1", "ml", "job", T0, {"k": k}), range(24)))
    assert sorted(numbers) == list(range(1, 25))


def test_closing_twice_does_no_harm(book):
    book.close()
    book.close()
