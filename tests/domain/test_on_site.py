"""Own generation is part of what a kilowatt-hour emits, in the plan and in the account alike."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.fleet import OnSite, Region
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
MIDNIGHT = datetime(2026, 3, 28, tzinfo=UTC)
SUN = OnSite(40.0, ((8, 16, 0.5),))


def grid(values, start=MIDNIGHT, step=timedelta(hours=1)):
    return Series.regular("DE", KIND, start, step, values, quality=Quality.FORECAST, source="t", issued_at=start)


def test_half_of_the_suns_hours_is_half_own_and_half_grid():
    mixed = Region("r", "DE", on_site=SUN).effective(grid([400.0] * 48))
    for day in (0, 1):
        at = MIDNIGHT + timedelta(days=day)
        assert mixed.at(at + timedelta(hours=7, minutes=59)) == 400.0
        assert mixed.at(at + timedelta(hours=8)) == mixed.at(at + timedelta(hours=15, minutes=59)) == 220.0
        assert mixed.at(at + timedelta(hours=16)) == 400.0


def test_long_periods_break_where_the_share_does_and_nothing_else_changes():
    plain = grid([400.0, 100.0], step=timedelta(hours=12))
    mixed = SUN.mixed(plain)
    assert (mixed.start, mixed.end, mixed.zone, mixed.kind) == (plain.start, plain.end, plain.zone, plain.kind)
    hours = (np.diff(mixed.edges) / 3600).tolist()
    assert list(zip(hours, mixed.intensity_g_per_kwh.tolist(), strict=True)) == [(8, 400), (4, 220), (4, 70), (8, 100)]


def test_a_series_that_begins_in_the_middle_of_the_suns_hours():
    mixed = SUN.mixed(grid([400.0] * 3, start=MIDNIGHT + timedelta(hours=9, minutes=30)))
    assert mixed.intensity_g_per_kwh.tolist() == [220.0] * 3
    assert mixed.integral(mixed.edges)[-1] == pytest.approx(660.0)


def test_without_own_generation_the_grid_is_what_it_was():
    plain = grid([400.0, 100.0])
    assert Region("r", "DE").effective(plain) is plain


def test_holes_of_the_grids_intensity_stay_holes():
    torn = Series.of_stretches([grid([400.0] * 10), grid([200.0] * 12, MIDNIGHT + timedelta(hours=12))])
    mixed = Region("r", "DE", on_site=SUN).effective(torn)
    assert mixed.gaps == torn.gaps and mixed.at(MIDNIGHT + timedelta(hours=11)) is None
    assert mixed.at(MIDNIGHT + timedelta(hours=9)) == 220.0 and mixed.at(MIDNIGHT + timedelta(hours=13)) == 120.0
