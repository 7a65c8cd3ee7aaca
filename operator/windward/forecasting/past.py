"""Hourly history on a log scale, with trailing summaries for the models.

Every summary is trailing: its entry at hour i depends on hours <= i only. A path issued at origin t reads no entry
beyond t - 1, so it cannot use the future, even where the arrays contain it (a test changes it).

Hours are UTC, so changes of local clocks have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from windward.domain.series import Floats, Series

Ints = npt.NDArray[np.int64]

HOUR_S = 3600.0
DAY, WEEK = 24, 168
LEADS = 168  # hours ahead that are modelled
FIRST_ORIGIN = 35 * DAY  # from here on every entry that a path reads is known

_DOW_RATE = 0.2  # weight of the newest week in the profile of the days of the week


def whole_hours(series: Series) -> tuple[int, Floats]:
    """Returns the full UTC hours of `series`: number of the first since the epoch, and their means (n,) in g/kWh."""
    first = int(np.ceil(series.edges[0] / HOUR_S))
    last = int(np.floor(series.edges[-1] / HOUR_S))
    if last <= first:
        return first, np.empty(0)
    edges = HOUR_S * np.arange(first, last + 1, dtype=np.float64)
    if np.array_equal(edges, series.edges):
        return first, series.intensity_g_per_kwh  # bit for bit, wherever the series begins
    area = series.integral(edges)
    return first, np.maximum(np.diff(area), 0.0)


def offset_g_per_kwh(values_g_per_kwh: Floats) -> float:
    """Returns the offset added before the logarithm: a tenth of the mean of the first four weeks, at least 1 g/kWh.

    The logarithm makes relative changes comparable at all levels; the offset keeps hours near zero from dominating the
    fit. It is taken from the first weeks so that more history does not change it.
    """
    return max(1.0, 0.1 * float(np.mean(values_g_per_kwh[: 4 * WEEK])))


@dataclass(frozen=True, eq=False)
class Past:
    """Hourly values on the log scale, and their trailing summaries, each an array (n,); NaN where too early.

    Attributes:
        x: log(intensity + offset) of n consecutive hours.
    """

    x: Floats

    @cached_property
    def _sums(self) -> Floats:
        return np.concatenate([[0.0], np.cumsum(self.x)])

    def level(self, hours: int) -> Floats:
        """Mean of the last `hours` hours."""
        return _trailing(self._sums, hours)

    def profile(self, days: int) -> Floats:
        """Mean of the same hour of day over the last `days` days."""
        out = self.x.copy()
        for k in range(1, days):
            out[DAY * k :] += self.x[: max(len(out) - DAY * k, 0)]
        out[: DAY * (days - 1)] = np.nan
        return np.asarray(out / days, dtype=np.float64)

    @cached_property
    def l24(self) -> Floats:
        return self.level(24)

    @cached_property
    def l72(self) -> Floats:
        return self.level(72)

    @cached_property
    def l168(self) -> Floats:
        """Mean of the last week: the level to which features and targets are relative."""
        return self.level(WEEK)

    @cached_property
    def l336(self) -> Floats:
        return self.level(2 * WEEK)

    @cached_property
    def m7(self) -> Floats:
        return self.profile(7)

    @cached_property
    def m14(self) -> Floats:
        return self.profile(14)

    @cached_property
    def m28(self) -> Floats:
        return self.profile(28)

    @cached_property
    def anomaly(self) -> Floats:
        """Distance from the same hour's mean over the seven days before."""
        return np.asarray(self.x - _later(self.m7, DAY), dtype=np.float64)

    def mean_anomaly(self, hours: int) -> Floats:
        """Mean of `anomaly` over the last `hours` hours."""
        return _trailing(self._anomaly_sums, hours)

    @cached_property
    def _anomaly_sums(self) -> Floats:
        return np.concatenate([[0.0], np.cumsum(np.nan_to_num(self.anomaly))])

    @cached_property
    def weekday4(self) -> Floats:
        """Distance of this hour of the week from its day-independent profile, mean of the last four weeks."""
        gap = self.x - self.m7
        return np.asarray(sum(_later(gap, WEEK * k) for k in range(4)) / 4.0, dtype=np.float64)

    @cached_property
    def weekday(self) -> Floats:
        """The same, exponentially weighted over all weeks."""
        gap = self.x - self.m7
        out = np.full(len(gap), np.nan)
        held = np.full(WEEK, np.nan)
        for i in range(0, len(gap), WEEK):
            now = gap[i : i + WEEK]
            before = held[: len(now)]
            held = np.where(np.isnan(before), now, before + _DOW_RATE * (now - before))
            out[i : i + WEEK] = held
        return out


def _later(values: Floats, hours: int) -> Floats:
    """Entry i is what `values` held `hours` earlier; NaN at the start."""
    out = np.full(len(values), np.nan)
    out[hours:] = values[: max(len(values) - hours, 0)]
    return out


def _trailing(sums: Floats, hours: int) -> Floats:
    out = np.full(len(sums) - 1, np.nan)
    out[hours - 1 :] = (sums[hours:] - sums[:-hours]) / hours
    return out
