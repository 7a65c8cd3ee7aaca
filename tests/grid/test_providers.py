"""One conformance suite: the promise of `grid.port.Provider`, over every provider."""

import gzip
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from grid.fake_neso import FakeNeso

from windward.domain.clock import FixedClock
from windward.domain.series import Basis, Kind, Quality, Scope, Signal
from windward.forecasting.join import joined
from windward.grid import ForecastInvalid, NesoProvider, ProviderError, TraceProvider, UnknownZone

HOUR = timedelta(hours=1)
KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.PRODUCTION)

# A plain day, the days when European and American clocks jump, and the year's seam.
NOWS = [
    datetime(2026, 11, 21, 9, 20, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
    datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 45, tzinfo=UTC),
]
NOW_IDS = ["plain", "europe-spring", "europe-autumn", "america-autumn", "new-year"]


def own_trace(folder, now):
    start = (now - 5 * 24 * HOUR).replace(minute=0, second=0, microsecond=0)
    lines = [f"{start + k * HOUR:%Y-%m-%dT%H:%M:%SZ},{100 + k % 24}" for k in range(10 * 24)]
    text = "timestamp_utc,carbon_intensity_gco2_kwh\n" + "\n".join(lines) + "\n"
    (folder / "GB.csv.gz").write_bytes(gzip.compress(text.encode()))
    return TraceProvider.open(folder, KIND)


@pytest.fixture(params=NOWS, ids=NOW_IDS)
def now(request):
    return request.param


@pytest.fixture(params=["bundled", "own", "neso"])
def provider(request, now, tmp_path, httpserver):
    if request.param == "bundled":
        yield TraceProvider.bundled()
    elif request.param == "own":
        yield own_trace(tmp_path, now)
    else:
        httpserver.expect_request(re.compile(".*")).respond_with_handler(FakeNeso(now))
        live = NesoProvider(FixedClock(now), base_url=httpserver.url_for(""))
        yield live
        live.close()


def test_an_issue_begins_with_the_current_period_and_reaches_two_days(provider, now):
    issue = provider.issue("GB", now)
    assert issue.start <= now < issue.start + timedelta(seconds=float(issue.edges[1] - issue.edges[0]))
    assert issue.end >= now + 47 * HOUR
    assert issue.at(now) is not None
    assert (issue.zone, issue.kind, issue.source) == ("GB", provider.kind, provider.name)
    assert now - HOUR < issue.issued_at <= now
    assert set(issue.quality) <= {Quality.FORECAST, Quality.RECORDED}


def test_asking_twice_and_in_another_time_zone_gives_the_same(provider, now):
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    assert provider.issue("GB", now) == provider.issue("GB", now.astimezone(kathmandu))


def test_history_is_whole_periods_that_overlap(provider, now):
    start, end = now - 30 * HOUR, now - 5 * HOUR
    past = provider.history("GB", start, end)
    assert past.covers(start, end)
    assert past.start > start - HOUR and past.end < end + HOUR
    assert not past.covers(start - HOUR, end)
    assert set(past.quality) <= {Quality.MEASURED, Quality.RECORDED, Quality.ESTIMATED}


def test_history_of_the_current_period_joins_the_issue(provider, now):
    issue = provider.issue("GB", now)
    both = joined(provider.history("GB", now - 24 * HOUR, issue.start), issue)
    assert both.covers(now - 24 * HOUR, now + 47 * HOUR)


@pytest.mark.parametrize("zone", ["XX", "", "gb", "../../etc/passwd", "GB?x=1", "G" * 65, "GB\n"])
def test_a_zone_that_is_not_served(provider, now, zone):
    assert provider.zones() is None or zone not in provider.zones()
    for ask in (lambda: provider.issue(zone, now), lambda: provider.history(zone, now - HOUR, now)):
        with pytest.raises(UnknownZone):
            ask()


def test_times_must_be_aware_and_in_order(provider, now):
    naive = now.replace(tzinfo=None)
    for ask in (
        lambda: provider.issue("GB", naive),
        lambda: provider.history("GB", naive, now),
        lambda: provider.history("GB", now, now),
        lambda: provider.history("GB", now, now - HOUR),
    ):
        with pytest.raises(ValueError):
            ask()


def test_threads_may_share_it(provider, now):
    with ThreadPoolExecutor(8) as pool:
        issues = list(pool.map(lambda _: provider.issue("GB", now), range(16)))
    assert all(issue == issues[0] for issue in issues)


def test_errors_say_what_why_and_what_to_do(provider, now):
    with pytest.raises(ProviderError) as error:
        provider.issue("FR-XX", now)
    assert error.value.zone == "FR-XX"
    assert error.value.cause and not error.value.cause.endswith(".")
    assert error.value.fix.endswith(".")


def test_history_before_all_data_is_empty(now, tmp_path):
    with pytest.raises(ForecastInvalid):
        own_trace(tmp_path, now).history("GB", now - 100 * 24 * HOUR, now - 99 * 24 * HOUR)
