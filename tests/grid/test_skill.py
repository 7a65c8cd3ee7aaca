"""A forecast is judged by what it said a day ahead, and only once that is measured."""

from datetime import UTC, datetime, timedelta

import pytest

from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.skill import FEWEST, Skill

KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
T0 = datetime(2026, 3, 28, 12, tzinfo=UTC)  # over the night of 23 hours
HOUR = timedelta(hours=1)


def series(start, values, quality=Quality.FORECAST):
    return Series.regular("DE", KIND, start, HOUR, values, quality=quality, source="t", issued_at=start)


def after(hours, error=30.0, quality=Quality.MEASURED):
    """Forecasts of 200 each hour, against a truth of 200 + error."""
    skill = Skill()
    for k in range(hours):
        now = T0 + k * HOUR + timedelta(minutes=5)
        skill.note(series(now.replace(minute=0), [200.0] * 48), now)
        skill.judge(series(T0, [200.0 + error] * max(1, k), quality), now)
    return skill


def test_nothing_is_said_before_enough_hours_are_measured():
    assert after(24 + FEWEST - 1).error_g_per_kwh is None
    assert after(24 + FEWEST + 1).error_g_per_kwh == pytest.approx(30.0)


def test_an_estimate_of_the_provider_is_no_measurement():
    assert after(60, quality=Quality.ESTIMATED).error_g_per_kwh is None


def test_the_first_word_for_an_hour_counts():
    skill = after(24 + 20)
    now = T0 + 44 * HOUR
    skill.note(series(now, [999.0] * 48), now - HOUR)  # a second word for an hour that was spoken of already
    skill.judge(series(T0, [230.0] * 80, Quality.MEASURED), T0 + 80 * HOUR)
    assert skill.error_g_per_kwh == pytest.approx(30.0)


def test_a_week_is_remembered_and_no_more():
    skill = after(24 * 12)
    assert len(skill.errors) <= 24 * 7 + 1 and len(skill.predicted) <= 49
