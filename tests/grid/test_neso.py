"""Every way in which the GB service, or something that stands before it, has answered or may answer."""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from grid.fake_neso import HALF, FakeNeso, raw_server, row, rows, stamp, value
from werkzeug import Response

from windward.domain.clock import FixedClock
from windward.domain.series import Quality
from windward.grid import (
    ForecastInvalid,
    InvalidReason,
    NesoProvider,
    NotEntitled,
    RateLimited,
    UnknownZone,
    Unreachable,
    is_flat,
)
from windward.grid.neso import BASE_URL, KIND

NOW = datetime(2026, 11, 21, 9, 20, tzinfo=UTC)
FIRST = datetime(2026, 11, 21, 9, tzinfo=UTC)
ANY = re.compile(".*")
R = InvalidReason


def provider(url, total_s=3.0):
    return NesoProvider(FixedClock(NOW), base_url=url, total_s=total_s)


def issue_of(httpserver, body, **answer):
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    answer = {"status": 200, "content_type": "application/json"} | answer
    httpserver.expect_request(ANY).respond_with_data(data, **answer)
    return provider(httpserver.url_for("")).issue("GB", NOW)


def good(count=96, **changes):
    data = rows(FIRST, count, NOW)
    for index, change in changes.items():
        data[int(index[1:])] |= change
    return {"data": data}


def forecast(number):
    return {"intensity": {"forecast": number, "actual": None, "index": "low"}}


BAD_BODIES = [
    ("200 {}", {}, R.EMPTY),
    ("no rows", {"data": []}, R.EMPTY),
    ("only nulls", good(2, _0=forecast(None), _1=forecast(None)), R.EMPTY),
    ("null", None, R.MALFORMED),
    ("a list", [], R.MALFORMED),
    ("data is text", {"data": "none"}, R.MALFORMED),
    ("data is null", {"data": None}, R.MALFORMED),
    ("rows are numbers", {"data": [1, 2]}, R.MALFORMED),
    ("regional nesting", {"data": [{"regionid": 13, "data": rows(FIRST, 4, NOW)}]}, R.EMPTY),
    ("an HTML page", "<!doctype html><h1>Service unavailable</h1>", R.NOT_JSON),
    ("nothing", "", R.NOT_JSON),
    ("half an answer", json.dumps(good())[:900], R.NOT_JSON),
    ("not UTF-8", b'{"data": "\xff\xfe\xfa"}', R.NOT_JSON),
    ("a number of 5000 digits", '{"data": [' + "9" * 5000 + "]}", R.NOT_JSON),
    ("nested too deep", "[" * 40 + "]" * 40, R.TOO_DEEP),
    ("nested beyond the parser", "[" * 200_000, R.TOO_DEEP),
    ("3 MB", '{"data": "' + "x" * 3_000_000 + '"}', R.TOO_LARGE),
    ("text inside", good(_5=forecast("190")), R.NOT_A_NUMBER),
    ("negative", good(_5=forecast(-20)), R.NEGATIVE),
    ("1e9", good(_5=forecast(1e9)), R.IMPLAUSIBLE),
    ("kg/kWh", {"data": [r | forecast(0.2) for r in good()["data"]]}, R.WRONG_UNIT),
    ("newest first", {"data": good()["data"][::-1]}, R.UNSORTED),
    ("a half hour twice", {"data": good()["data"][:5] + good()["data"][4:]}, R.DOUBLED),
    ("past only", {"data": rows(FIRST - 10 * HALF, 8, NOW)}, R.PAST_ONLY),
    ("tomorrow only", {"data": rows(FIRST + 48 * HALF, 8, NOW)}, R.STARTS_LATE),
    ("a time without a zone", good(_5={"from": "2026-11-21T11:30"}), R.BAD_TIME),
    ("no times", {"data": [{"intensity": {"forecast": 200}}] * 3}, R.BAD_TIME),
    ("times that are numbers", good(_0={"from": 1, "to": 2}), R.BAD_TIME),
]


@pytest.mark.parametrize(("body", "reason"), [b[1:] for b in BAD_BODIES], ids=[b[0] for b in BAD_BODIES])
def test_garbage_is_refused_as_garbage(httpserver, body, reason):
    with pytest.raises(ForecastInvalid) as refusal:
        issue_of(httpserver, body)
    assert refusal.value.reason is reason
    assert len(httpserver.log) == 1  # asking again would bring the same garbage


@pytest.mark.parametrize("value", [None, float("nan"), -1, 0])
def test_a_half_hour_without_a_value_costs_itself_alone(httpserver, value):
    issue = issue_of(httpserver, json.dumps(good(_5=forecast(value))))
    assert issue.gaps == ((FIRST + 5 * HALF, FIRST + 6 * HALF),)
    assert [len(s.quality) for s in issue.stretches] == [5, 90]


def test_a_half_hour_that_is_missing_costs_itself_alone(httpserver):
    issue = issue_of(httpserver, {"data": good()["data"][:5] + good()["data"][6:]})
    assert issue.gaps == ((FIRST + 5 * HALF, FIRST + 6 * HALF),)


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "text/plain", "application/octet-stream"])
def test_the_body_counts_not_its_label(httpserver, content_type):
    assert len(issue_of(httpserver, good(), content_type=content_type).quality) == 96


def test_a_forecast_that_stops_at_23_00_is_a_short_forecast(httpserver):
    issue = issue_of(httpserver, good(28))
    assert issue.end == FIRST.replace(hour=23)


def test_nulls_at_the_end_are_a_short_forecast(httpserver):
    issue = issue_of(httpserver, good(96, _94=forecast(None), _95=forecast(None)))
    assert len(issue.quality) == 94


def test_a_constant_forecast_is_taken_and_seen(httpserver):
    assert is_flat(issue_of(httpserver, {"data": [r | forecast(180) for r in good()["data"]]}))


def test_what_counts_and_who_says_so(httpserver):
    issue = issue_of(httpserver, good())
    assert str(issue.kind) == str(KIND) == "average direct consumption"
    assert "NESO" in issue.attribution and "CC BY 4.0" in issue.attribution
    assert (issue.source, issue.demo, issue.issued_at, issue.fetched_at) == ("neso", False, NOW, NOW)
    assert issue.intensity_g_per_kwh[0] == value(FIRST) + 7  # the forecast, also of the half hour that runs


@pytest.mark.parametrize("minute", [0, 1, 29, 30, 31, 59])
def test_the_half_hour_that_contains_now_comes_first(httpserver, minute):
    """Asked for a boundary the service also returns the half hour before: the trap of the half hour off."""
    now = NOW.replace(minute=minute)
    fake = FakeNeso(now)
    httpserver.expect_request(ANY).respond_with_handler(fake)
    issue = provider(httpserver.url_for("")).issue("GB", now)
    assert issue.start == FIRST.replace(minute=minute // 30 * 30)
    assert issue.start.strftime("%H:") in fake.asked[0]


def test_a_half_hour_before_now_is_cut_off_wherever_it_comes_from(httpserver):
    issue = issue_of(httpserver, {"data": rows(FIRST - 2 * HALF, 98, NOW)})
    assert issue.start == FIRST


STATUSES = [
    (301, {"Location": "https://example.com/"}, ForecastInvalid, 1),
    (302, {"Location": "http://169.254.169.254/latest"}, ForecastInvalid, 1),
    (400, {}, ForecastInvalid, 1),
    (401, {}, NotEntitled, 1),
    (403, {}, NotEntitled, 1),
    (404, {}, UnknownZone, 1),
    (429, {}, RateLimited, 1),
    (500, {}, Unreachable, 3),
    (503, {"Retry-After": "1"}, Unreachable, 3),
]


@pytest.mark.parametrize(("status", "headers", "error", "asked"), STATUSES)
def test_status(httpserver, status, headers, error, asked):
    with pytest.raises(error) as told:
        issue_of(httpserver, good(), status=status, headers=headers)
    assert type(told.value) is error
    assert len(httpserver.log) == asked
    if status < 400:
        assert told.value.reason is R.REDIRECTED


@pytest.mark.parametrize(
    ("headers", "wish_s"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "99999999999999"}, 86_400),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Sat, 21 Nov 2026 09:30:00 GMT", "Date": "Sat, 21 Nov 2026 09:20:00 GMT"}, 600),
        ({"Retry-After": "Sat, 21 Nov 2026 09:10:00 GMT", "Date": "Sat, 21 Nov 2026 09:20:00 GMT"}, 0),
    ],
)
def test_429_with_and_without_a_wish(headers, wish_s):
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    answer = f"HTTP/1.1 429 Too Many\r\n{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
    with raw_server(answer) as (url, _), pytest.raises(RateLimited) as told:
        provider(url).issue("GB", NOW)
    assert told.value.retry_after == (None if wish_s is None else timedelta(seconds=wish_s))


def test_a_hiccup_is_tried_again(httpserver):
    answers = iter([Response(status=500), Response(status=502), Response(json.dumps(good()))])
    httpserver.expect_request(ANY).respond_with_handler(lambda _: next(answers))
    assert len(provider(httpserver.url_for("")).issue("GB", NOW).quality) == 96


def test_a_reset_connection():
    with raw_server(None) as (url, taken), pytest.raises(Unreachable, match="could not be reached"):
        provider(url).issue("GB", NOW)
    assert len(taken) == 3


def test_a_body_shorter_than_promised():
    half = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{"data": ['
    with raw_server(half) as (url, _), pytest.raises(Unreachable):
        provider(url).issue("GB", NOW)


def test_a_compressed_bomb_is_not_unpacked(httpserver):
    with pytest.raises(ForecastInvalid) as refusal:
        issue_of(httpserver, b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert refusal.value.reason is R.MALFORMED


def test_a_slow_drip_ends_in_time(httpserver):
    def drip(_):
        def body():
            for _ in range(100):
                yield b" "
                time.sleep(0.05)

        return Response(body(), content_type="application/json")

    httpserver.expect_request(ANY).respond_with_handler(drip)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="not complete"):
        provider(httpserver.url_for(""), total_s=0.3).issue("GB", NOW)
    assert time.monotonic() - began < 4.0, "all of it takes five seconds"


def test_nobody_listens():
    with raw_server(b"") as (url, _):
        pass
    with pytest.raises(Unreachable):
        provider(url).issue("GB", NOW)


# -- history ---------------------------------------------------------------------------------------------------------


def test_history_in_chunks_has_each_half_hour_once(httpserver):
    fake = FakeNeso(NOW)
    httpserver.expect_request(ANY).respond_with_handler(fake)
    start = NOW - timedelta(days=33, minutes=10)
    past = provider(httpserver.url_for("")).history("GB", start, NOW)
    assert len(fake.asked) == 3
    assert past.start == datetime(2026, 10, 19, 9, tzinfo=UTC)
    assert past.end == FIRST  # the half hour that runs is no history
    assert set(past.edges[1:] - past.edges[:-1]) == {1800.0}
    assert past.intensity_g_per_kwh[:3].tolist() == [value(past.start + k * HALF) for k in range(3)]


def test_a_half_hour_without_actual_is_the_services_own_estimate(httpserver):
    fake = FakeNeso(NOW)
    fake.lag = 2
    httpserver.expect_request(ANY).respond_with_handler(fake)
    past = provider(httpserver.url_for("")).history("GB", FIRST - 4 * HALF, FIRST)
    assert past.quality == (Quality.MEASURED,) * 2 + (Quality.ESTIMATED,) * 2
    assert past.intensity_g_per_kwh[1] == value(FIRST - 3 * HALF)
    assert past.intensity_g_per_kwh[2] == value(FIRST - 2 * HALF) + 7


def test_the_future_is_no_history(httpserver):
    httpserver.expect_request(ANY).respond_with_handler(FakeNeso(NOW))
    live = provider(httpserver.url_for(""))
    assert live.history("GB", NOW - timedelta(hours=3), NOW + timedelta(hours=20)).end == FIRST
    with pytest.raises(ForecastInvalid) as refusal:
        live.history("GB", NOW + timedelta(hours=1), NOW + timedelta(hours=2))
    assert refusal.value.reason is R.EMPTY


def test_the_half_hour_that_nesos_own_book_holds_twice_is_refused(httpserver):
    """2021-04-19 19:00 is in the service twice, with different values (api-definitions issue 17)."""
    start = datetime(2021, 4, 19, 18, 30, tzinfo=UTC)
    twice = [row(start + k * HALF, actual=a) for k, a in [(0, 200), (1, 210), (1, 214), (2, 220)]]
    httpserver.expect_request(ANY).respond_with_json({"data": twice})
    with pytest.raises(ForecastInvalid) as refusal:
        provider(httpserver.url_for("")).history("GB", start, start + 3 * HALF)
    assert refusal.value.reason is R.DOUBLED


def test_times_are_sent_as_the_service_documents_them(httpserver):
    fake = FakeNeso(NOW)
    httpserver.expect_request(ANY).respond_with_handler(fake)
    provider(httpserver.url_for("")).issue("GB", NOW)
    assert fake.asked == ["/intensity/2026-11-21T09:01Z/fw48h"]
    assert stamp(FIRST) == "2026-11-21T09:00Z"


def test_the_real_service_is_asked_over_https_only():
    assert BASE_URL.startswith("https://")
    with pytest.raises(ValueError, match="https"):
        from windward.grid.http import JsonClient

        JsonClient("http://api.carbonintensity.org.uk")
