"""Every live source against every known misbehaviour, delivered in every way: a typed reason, and the last good issue
goes on serving. Nothing here leaves this machine."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from grid.misbehaviours import CASES, FINE, HOLE, judged
from grid.services import DELIVERIES, SERVICES, WHOLE, Answer, Server, query, serving, ways

from windward.domain.clock import FixedClock
from windward.domain.forecast import Freshness
from windward.domain.series import Quality, Signal
from windward.grid import Grid, NotEntitled, ProviderError, RateLimited, Unreachable
from windward.grid.ahead import lacking
from windward.grid.port import NoForecast
from windward.ledger import MemoryLedger

NOW = datetime(2026, 11, 21, 9, 20, tzinfo=UTC)
# A plain day, and the days and hours when clocks jump or years turn.
NOWS = [NOW, datetime(2026, 3, 29, 0, 59, tzinfo=UTC), datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
        datetime(2026, 11, 1, 6, 30, tzinfo=UTC), datetime(2026, 12, 31, 23, 45, tzinfo=UTC)]  # fmt: skip
each = pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.name)
# For a source without forecasts of its own tests/grid/test_ahead.py has the same.
forecasting = pytest.mark.parametrize("service", [s for s in SERVICES if s.forecasts], ids=lambda s: s.name)


def ask(service, provider, now=NOW):
    if service.forecasts:
        return provider.issue(service.zone, now)
    return provider.history(service.zone, now - 97 * service.step, now)


def outcome(service, case, delivery, total_s):
    with serving(service, case.answer(service, NOW), NOW, delivery, total_s) as (provider, _):
        try:
            ask(service, provider)
            return None
        except Exception as error:
            return error


def test_there_are_as_many_bodies_and_deliveries_as_were_promised():
    assert len(CASES) >= 40 and len(DELIVERIES) == 6 and len({c.name for c in CASES}) == len(CASES)


@each
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_every_misbehaviour_has_its_typed_reason(service, delivery):
    cases = [c for c in CASES if c.only(service)]
    total_s = 3.0 if delivery in WHOLE else 0.12
    with ThreadPoolExecutor(8) as pool:  # most of the time is waiting for drops
        errors = list(pool.map(lambda c: outcome(service, c, delivery, total_s), cases))
    wrong = []
    for case, error in zip(cases, errors, strict=True):
        if delivery in WHOLE:
            fault = judged(case, error)
        else:  # whatever it would have been, it never came whole: a status and a size may still be known
            fault = None if isinstance(error, ProviderError) else f"gave {error!r}"
            if case.expect in (FINE, HOLE) and not isinstance(error, Unreachable):
                fault = f"gave {error!r} instead of Unreachable"
        if fault is None and error is not None and "secret-key" in f"{error} {error.args}":
            fault = "tells the key"
        if fault is not None:
            wrong.append(f"{case.name}: {fault}")
    assert not wrong, "\n".join(wrong)


@each
@pytest.mark.parametrize("case", [c for c in CASES if c.expect == HOLE], ids=lambda c: c.name)
def test_a_hole_costs_its_own_hours_alone_and_is_named(service, case):
    if not case.only(service):
        return
    with serving(service, case.answer(service, NOW), NOW) as (provider, _):
        series = ask(service, provider)
    known = sum(len(s.quality) for s in series.stretches)
    assert len(series.gaps) == 1 and known >= len(service.rows(NOW)) - 1
    said = lacking(series, "issue", "Then?")
    start, end = series.gaps[0]
    assert all(word in said for word in (service.zone, f"{start:%Y-%m-%dT%H:%MZ}", f"{end:%Y-%m-%dT%H:%MZ}"))


@forecasting
def test_the_last_good_issue_goes_on_serving_whatever_comes(service):
    good = CASES[0].answer(service, NOW)
    server = Server(lambda path: ways(service, path, server.answer))
    provider = service.make(FixedClock(NOW), server.url, 10.0)
    for case in CASES:
        if not case.only(service) or case.expect in (FINE, HOLE):
            continue
        grid = Grid(provider, MemoryLedger(), past=timedelta(0), dice=random.Random(1))
        server.answer = good
        grid.refresh([service.zone], NOW)
        before = grid.forecasts([service.zone], NOW)[service.zone]
        server.answer = case.answer(service, NOW)
        later = NOW + timedelta(minutes=20)
        grid.refresh([service.zone], later)
        after = grid.forecasts([service.zone], later)[service.zone]
        assert np.array_equal(after.series.intensity_g_per_kwh, before.series.intensity_g_per_kwh), case.name
        assert after.freshness is Freshness.CACHED and after.detail, case.name
    provider.close()
    server.close()


@forecasting
def test_nobody_waits_for_a_slow_service(service):
    answer = CASES[0].answer(service, NOW)
    with serving(service, answer, NOW, "drop by drop", 3.0) as (provider, _):
        grid = Grid(provider, MemoryLedger(), past=timedelta(0))
        asking = threading.Thread(target=grid.refresh, args=([service.zone], NOW))
        asking.start()
        began = time.monotonic()
        grid.forecasts([service.zone], NOW)
        assert asking.is_alive() and time.monotonic() - began < 1.5
        asking.join(10)
        assert not asking.is_alive(), "a refresh ends within its time limit"


@each
@pytest.mark.parametrize("now", NOWS, ids=lambda n: f"{n:%m-%d}")
def test_history_is_whole_periods_that_are_over(service, now):
    start = now - timedelta(hours=30)
    first = datetime.fromtimestamp(
        start.timestamp() // service.step.total_seconds() * service.step.total_seconds(), UTC
    )
    rows = [
        type(service.rows(now)[0])(first + k * service.step, 200 + k % 50)
        for k in range(-3, 60 * int(timedelta(hours=1) / service.step))
    ]
    body = json.dumps(service.history(rows, service.wire_zone)).encode()
    with serving(service, Answer(body), now) as (provider, server):
        past = provider.history(service.zone, start, now + timedelta(hours=5))
        assert past.start <= start < past.start + service.step, "begins with the period that contains the start"
        assert now - service.step < past.end <= now, "nothing that is not over"
        assert set(past.quality) <= {Quality.MEASURED, Quality.ESTIMATED} and past.kind == provider.kind
        assert server.paths


@each
def test_periods_are_where_the_format_says_they_are(service):
    """A value of 300 in one period and 200 elsewhere must be found in that very period: EIA names the hour's end."""
    rows = service.rows(NOW)
    at = 7
    for i, r in enumerate(rows):
        r.value = 300 if i == at else 200
    body = (service.forecast if service.forecasts else service.history)(rows, service.wire_zone)
    with serving(service, Answer(json.dumps(body).encode()), NOW) as (provider, _):
        series = ask(service, provider)
        peak = int(np.argmax(series.intensity_g_per_kwh))
        assert series.edges[peak] == rows[at].start.timestamp(), (series.edges[peak], rows[at].start)
        assert series.edges[peak + 1] - series.edges[peak] == service.step.total_seconds()
        if service.marginal:
            assert series.intensity_g_per_kwh[peak] == pytest.approx(300 * 0.45359237)
            assert series.kind.signal is Signal.MARGINAL
        elif not service.computed:
            assert series.intensity_g_per_kwh[peak] == 300


@each
def test_one_answer_that_has_not_changed_is_not_sent_twice(service):
    answer = CASES[0].answer(service, NOW)
    seen = []

    def reply(path):
        made = ways(service, path, answer)
        if made is answer:
            seen.append(server.headers[-1].get("if-none-match"))
            if seen[-1] == '"v1"':
                return Answer(b"", 304)
            return Answer(answer.body, 200, {"ETag": '"v1"'})
        return made

    server = Server(reply)
    provider = service.make(FixedClock(NOW), server.url, 3.0)
    once, again = ask(service, provider), ask(service, provider)
    assert np.array_equal(once.intensity_g_per_kwh, again.intensity_g_per_kwh)
    assert None in seen and '"v1"' in seen
    provider.close()
    server.close()


@each
def test_how_long_to_stay_away_is_heard(service):
    case = next(c for c in CASES if c.name == "429, and for how long")
    with serving(service, case.answer(service, NOW), NOW) as (provider, server):
        with pytest.raises(RateLimited) as refused:
            ask(service, provider)
        assert refused.value.retry_after == timedelta(seconds=120)
        assert sum(not p.startswith(("/login", "/v4/zones")) for p in server.paths) == 1, (
            "no second knock at a closed door"
        )


def by_name(name):
    return next(s for s in SERVICES if s.name == name)


def test_electricity_maps_is_never_asked_without_its_safeguards():
    service = by_name("electricitymaps")
    with serving(service, CASES[0].answer(service, NOW), NOW) as (provider, server):
        provider.issue("DE", NOW)
    asked = [(p, h) for p, h in zip(server.paths, server.headers, strict=True) if "forecast" in p]
    assert asked and all(query(p)["disableCallerLookup"] == "true" for p, _ in asked)
    assert all(h["auth-token"] == "secret-key" for _, h in asked)
    assert not any("secret-key" in p for p in server.paths), "no key in a URL"


def test_electricity_maps_without_access_says_so_before_asking():
    service = by_name("electricitymaps")
    server = Server(lambda p: Answer(json.dumps({"DE": {"access": ["carbon-intensity/latest"]}}).encode()))
    provider = service.make(FixedClock(NOW), server.url, 3.0)
    with pytest.raises(NotEntitled, match="no forecast for the zone"):
        provider.issue("DE", NOW)
    assert len(server.paths) == 1
    server.close()


def test_electricity_maps_sandbox_values_are_marked_as_no_data():
    service = by_name("electricitymaps")
    from windward.grid.electricity_maps import ElectricityMapsProvider

    server = Server(lambda p: ways(service, p, CASES[0].answer(service, NOW)))
    assert ElectricityMapsProvider(FixedClock(NOW), "k", sandbox=True, base_url=server.url).issue("DE", NOW).demo
    server.close()


def test_watttime_renews_its_token_once_when_it_ended_early():
    service = by_name("watttime")
    good, tokens = CASES[0].answer(service, NOW), []

    def reply(path):
        if path.startswith("/login"):
            tokens.append(f"t{len(tokens)}")
            return Answer(json.dumps({"token": tokens[-1]}).encode())
        stale = server.headers[-1]["authorization"] == "Bearer t0"
        return Answer(b'{"error":"expired"}', 401) if stale else good

    server = Server(reply)
    provider = service.make(FixedClock(NOW), server.url, 3.0)
    assert len(provider.issue(service.zone, NOW).quality) == 96
    assert tokens == ["t0", "t1"]
    server.close()


def test_many_zones_share_one_login():
    service = by_name("watttime")
    good = CASES[0].answer(service, NOW)
    server = Server(lambda p: ways(service, p, good))
    provider = service.make(FixedClock(NOW), server.url, 3.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: provider.issue(service.zone, NOW), range(16)))
    assert sum(p.startswith("/login") for p in server.paths) == 1
    server.close()


def test_a_zone_of_several_watttime_regions_needs_a_word_from_the_administrator():
    from windward.grid import UnknownZone

    service = by_name("watttime")
    provider = service.make(FixedClock(NOW), "http://127.0.0.1:1", 1.0)
    with pytest.raises(UnknownZone, match="WINDWARD_WATTTIME_REGIONS"):
        provider.issue("US-MIDA-PJM", NOW)


def test_eia_has_no_forecast_and_says_so():
    service = by_name("eia-930")
    with pytest.raises(NoForecast):
        service.make(FixedClock(NOW), "http://127.0.0.1:1", 1.0).issue(service.zone, NOW)


def test_eia_weighs_generation_with_its_factors_and_counts_no_storage():
    service = by_name("eia-930")
    end = NOW.replace(minute=0)
    fuels = {"COL": 100, "NG": 300, "WND": 600, "BAT": -50, "PS": 40, "OTH": 20}
    hours = [end - timedelta(hours=k) for k in range(3, -1, -1)]
    data = [
        {"period": f"{h:%Y-%m-%dT%H}", "respondent": "CISO", "fueltype": f, "value": str(v)}
        for h in hours
        for f, v in fuels.items()
    ]
    body = json.dumps({"response": {"data": data}}).encode()
    with serving(service, Answer(body), NOW) as (provider, _):
        past = provider.history(service.zone, end - timedelta(hours=4), end)
    assert past.intensity_g_per_kwh.tolist() == pytest.approx([(100 * 1001 + 300 * 469 + 600 * 12) / 1000] * 4)
    assert past.end == end, "a period is named by its end"


def test_an_sdk_forecast_of_rolling_means_is_refused():
    service = by_name("carbon-aware-sdk")
    body = service.forecast(service.rows(NOW), service.zone)
    body[0]["windowSize"] = 240
    with (
        serving(service, Answer(json.dumps(body).encode()), NOW) as (provider, _),
        pytest.raises(ProviderError, match="rolling means"),
    ):
        provider.issue(service.zone, NOW)
