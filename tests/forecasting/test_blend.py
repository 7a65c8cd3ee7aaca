"""A published issue put right by the newest measurement and continued by our own forecast."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.series import Basis, Kind, MixedKinds, Quality, Scope, Series, Signal
from windward.forecasting import Model, blend, extend, nowcast

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
T0 = datetime(2022, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def series(values, start=T0, quality=Quality.FORECAST, zone="DE", source="issue", step=HOUR):
    return Series.regular(zone, KIND, start, step, values, quality=quality, source=source, issued_at=start)


def measured(values, start):
    return series(values, start, Quality.MEASURED, source="history")


def own(values, start):
    return series(values, start, Quality.ESTIMATED, source="own:x")


def test_the_newest_error_fades():
    now = nowcast(series([100.0] * 6), measured([130, 120], T0 - HOUR))  # the hour from T0 was 120, issued 100
    assert np.allclose(now.intensity_g_per_kwh, [100] + [100 * (1 + 0.2 * 0.9**i) for i in range(1, 6)])
    assert (now.quality, now.source) == ((Quality.FORECAST,) * 6, "nowcast:issue")


@pytest.mark.parametrize("history", [None, measured([90], T0 - HOUR), measured([90], T0 + 9 * HOUR)])
def test_without_a_common_hour_nothing_changes(history):
    issue = series([100.0] * 6)
    assert nowcast(issue, history) is issue


def test_a_wild_error_is_capped_and_zero_is_no_reason_to_divide():
    assert nowcast(series([10.0, 10]), measured([500], T0)).intensity_g_per_kwh.tolist() == [10, 14.5]
    assert nowcast(series([0.0, 10]), measured([500], T0)).intensity_g_per_kwh.tolist() == [0, 10]


def test_the_step_at_the_end_is_carried_and_fades():
    whole = blend(series([150.0] * 8), None, own([100.0] * 200, T0))
    assert whole.intensity_g_per_kwh[:8].tolist() == [150] * 8
    assert np.allclose(whole.intensity_g_per_kwh[8:], 100 + 50 * 0.95 ** np.arange(1, 193))
    assert whole.quality == (Quality.FORECAST,) * 8 + (Quality.ESTIMATED,) * 192
    assert whole.source == "issue+own:x"


def test_it_is_never_negative():
    whole = blend(series([0.0] * 8), None, own([100.0] * 8 + [20.0] * 40, T0))
    assert whole.intensity_g_per_kwh.min() == 0.0


def test_a_long_issue_needs_no_tail():
    issue = series([100.0] * 60)
    assert blend(issue, None, own([50.0] * 48, T0)) is issue


def test_an_end_within_our_hour_cuts_it():
    issue = series([100.0] * 3, step=timedelta(minutes=30))  # ends at half past one
    whole = blend(issue, None, own([100.0] * 4, T0))
    assert np.diff(whole.edges).tolist() == [1800, 1800, 1800, 1800, 3600, 3600]


def test_a_gap_and_another_zone_are_refused():
    with pytest.raises(ValueError):
        blend(series([1.0]), None, own([1.0], T0 + 2 * HOUR))
    with pytest.raises(MixedKinds):
        blend(series([1.0], zone="FR"), None, own([1.0], T0))
    with pytest.raises(MixedKinds):
        nowcast(series([1.0], zone="FR"), measured([1.0], T0))


def days(n):
    t = np.arange(24 * n)
    return 300 + 80 * np.cos(2 * np.pi * t / 24) - 40 * (t // 24 % 7 >= 5) + 5 * np.sin(t)


def test_extend_uses_our_own_where_eight_weeks_are_known():
    values = days(60)
    history, issue = measured(values, T0), series(values[-24:] + 5, T0 + 60 * DAY)
    longer = extend(history, issue, T0 + 65 * DAY)
    assert longer.start == issue.start and longer.end == T0 + 65 * DAY
    assert longer.source == "issue+own:ridge+analog:history"
    assert longer.quality == (Quality.FORECAST,) * 24 + (Quality.ESTIMATED,) * 96
    assert longer == extend(history, issue, T0 + 65 * DAY, model=Model.of(history))


def test_extend_repeats_the_day_before_where_less_is_known():
    values = days(50)
    issue = series(values[-24:], T0 + 50 * DAY)
    longer = extend(measured(values, T0), issue, T0 + 52 * DAY)
    assert np.array_equal(longer.intensity_g_per_kwh[24:], issue.intensity_g_per_kwh) and longer.source == "issue"
