"""Skill on recorded hours of 2022: what a changed prior, period or harmonic would move.

Figures of three zones of the bundled trace, of `HOURS` from February on, judged over the last six weeks at every
seventh hour, refitted each fortnight as in service. They are no promise (docs/forecasting.md has the bench's); they
pin what is shipped: whoever improves the forecaster writes them anew. Rounding differs between machines; it moves an
error by far less than the tolerance and may, rarely, move a chosen window by an hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from forecasting.backtest import paths_g_per_kwh

from windward.forecasting import Model
from windward.forecasting.calibrate import LEVELS
from windward.forecasting.model import FORTNIGHT
from windward.forecasting.past import LEADS
from windward.grid.trace import TraceProvider

START = datetime(2022, 2, 1, tzinfo=UTC)
HOURS, JUDGED, STEP = 22 * 7 * 24, 6 * 7 * 24, 7
WINDOWS = ((4, 24), (12, 48), (4, 96))  # hours in a row, among the next

# zone: kept share of the possible saving in each window; mean error of the first 24 h; coverage of the 80 % band; all %
PINNED = {
    "DE": ([96.52, 89.87, 85.55], 13.257, 78.59),
    "GB": ([53.48, 60.70, 62.63], 19.969, 75.00),
    "US-CAL-CISO": ([92.47, 92.31, 82.91], 10.408, 73.34),
}
KEPT_WITHIN, ERROR_WITHIN, COVERED_WITHIN = 0.3, 0.005, 0.1


def judged_paths(zone):
    """(actual, forecast, band) of all origins, each from hours before it alone."""
    known = TraceProvider.bundled().history(zone, START, START + timedelta(hours=HOURS))
    first, values = int(START.timestamp()) // 3600, known.intensity_g_per_kwh
    origins = np.arange(HOURS - JUDGED, HOURS - LEADS + 1, STEP)
    actual = values[origins[:, None] + np.arange(LEADS)]
    forecast, band = np.empty(actual.shape), np.empty((len(LEVELS), *actual.shape))
    model = None
    for begin in range(FORTNIGHT * (int(origins[0]) // FORTNIGHT), HOURS, FORTNIGHT):
        past = known.part(0, begin)
        model = Model.of(past) if model is None else model.learn(past)
        mine = (origins >= begin) & (origins < begin + FORTNIGHT)
        if mine.any():
            forecast[mine], band[:, mine] = paths_g_per_kwh(model, known, origins[mine] + first)
    return actual, forecast, band


def kept_percent(actual, forecast, hours, among):
    """Saving of the windows chosen on the forecast, of the saving of the best windows, against starting at once."""
    sums = [
        np.lib.stride_tricks.sliding_window_view(p[:, :among], hours, axis=1).sum(axis=2) for p in (actual, forecast)
    ]
    chosen = np.take_along_axis(sums[0], sums[1].argmin(axis=1)[:, None], axis=1)[:, 0]
    now, best = sums[0][:, 0], sums[0].min(axis=1)
    return 100 * (now - chosen).sum() / (now - best).sum()


def figures_of(zone):
    actual, forecast, band = judged_paths(zone)
    assert not np.isnan(band).any()
    low, high = band[LEVELS.index(0.1)], band[LEVELS.index(0.9)]
    kept = [kept_percent(actual, forecast, *w) for w in WINDOWS]
    error = 100 * np.mean(np.abs(forecast - actual)[:, :24] / actual[:, :24])
    return kept, error, 100 * np.mean((actual >= low) & (actual <= high))


@pytest.mark.parametrize("zone", PINNED)
def test_skill_is_what_it_was(zone):
    kept, error, covered = figures_of(zone)
    kept_then, error_then, covered_then = PINNED[zone]
    assert kept == pytest.approx(kept_then, abs=KEPT_WITHIN)
    assert error == pytest.approx(error_then, abs=ERROR_WITHIN)
    assert covered == pytest.approx(covered_then, abs=COVERED_WITHIN)
