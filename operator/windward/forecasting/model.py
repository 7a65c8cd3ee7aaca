"""Our own forecaster: a week ahead with quantiles, from a zone's history alone. Pure, numpy only.

The forecast is the mean of two on the log scale whose errors differ: a ridge regression (`ridge`) and similar days
(`analog`). It predicts the mean and uses no ranking loss, because the grams of a job are linear in the intensity: the
start of least expected grams is that of the least mean forecast. Figures and failures: docs/forecasting.md.

A model is immutable. `learn` trains on each new whole fortnight, counted from the model's first hour, so the result
does not depend on the portions in which a history arrives. Before training on a fortnight it records forecasts for it,
whose errors give the quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from windward.domain.clock import utc
from windward.domain.quantiles import Quantiles
from windward.domain.series import Floats, Kind, MixedKinds, Quality, Series
from windward.forecasting.analog import Analog
from windward.forecasting.calibrate import EVERY, LEVELS, Record
from windward.forecasting.join import joined
from windward.forecasting.past import (
    DAY,
    FIRST_ORIGIN,
    HOUR_S,
    LEADS,
    WEEK,
    Ints,
    Past,
    offset_g_per_kwh,
    whole_hours,
)
from windward.forecasting.ridge import Ridge
from windward.forecasting.tail import same_hour_yesterday

FORTNIGHT = 14 * DAY
FIRST_FIT = 4 * FORTNIGHT
_LONGEST_FILL = WEEK


@dataclass(frozen=True, slots=True)
class Own:
    """A forecast of our own.

    Attributes:
        series: from the period that contains `now`; hours from history keep their quality, the rest is `estimated`.
        band: quantiles of the estimated hours; None until about three months are known.
        method: the method of the hours ahead: `ridge+analog`, `prior` or `day-before`.
        detail: one sentence for people where it is not the full method, else empty.
    """

    series: Series
    band: Quantiles | None
    method: str
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Lately:
    """A record updated after the last training, and the hours (n,) that it used."""

    record: Record
    values_g_per_kwh: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The trained forecaster of one zone.

    Attributes:
        first_hour: number of the first known hour since the epoch; indices below count from it.
        values_g_per_kwh: (n,) hourly means, without gaps.
        learnt: number of hours that `ridge`, `analog` and `record` are trained on; whole fortnights.
    """

    zone: str
    kind: Kind
    first_hour: int
    values_g_per_kwh: Floats
    learnt: int
    ridge: Ridge
    analog: Analog
    record: Record
    _lately: list[_Lately] = field(default_factory=list)  # at most one; a cache, without effect on results

    @classmethod
    def of(cls, history: Series) -> Model:
        """Returns a model trained on `history`.

        Raises:
            ValueError: `history` has no whole hour.
        """
        first, values = whole_hours(history)
        if len(values) == 0:
            raise ValueError(f"{history.zone}: no whole hour from {history.start} to {history.end}")
        empty = cls(history.zone, history.kind, first, values, 0, Ridge.begin(), Analog(0), Record.begin(FIRST_FIT))
        return empty._folded()

    def learn(self, history: Series) -> Model:
        """Returns the model trained on the new hours of `history` too; hours already known stay as they are.

        A gap of up to a week is filled with the same hours a week before; after a longer one a new model begins.

        Raises:
            MixedKinds: another zone or kind.
        """
        seen = self._seen(history)
        return Model.of(history) if seen is None else seen._folded()

    def forecast(self, history: Series, now: datetime, until: datetime) -> Own:
        """Forecast the hours from `now` to `until`.

        Uses the hours of `history` that are over at `now`, and the coefficients of the last `learn`. Beyond a week from
        the last known hour the last day is repeated.

        Raises:
            MixedKinds: another zone or kind.
            ValueError: `until` is not after `now`, less than a day before `now` is known, or the model is trained on
                hours after `now`.
        """
        known = history.clip(history.start, now)
        if known is None or utc(until) <= utc(now):
            raise ValueError(f"{history.zone}: no history before {now}, or {until} is not after it")
        known = _completed(known, now)
        model = None if known is None else self._seen(known) or Model.of(known)
        model = None if model is None or known is None else model._until(known)
        if model is None or known is None or len(model.values_g_per_kwh) < FIRST_ORIGIN:
            days = (model.values_g_per_kwh.size if model else 0) // DAY
            detail = f"{days} days of history: too few to learn from, the day before is repeated."
            return Own(same_hour_yesterday(history, now, until), None, "day-before", detail)
        return model._issued(known, now, until)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _past(self) -> Past:
        return Past(np.log(self.values_g_per_kwh + offset_g_per_kwh(self.values_g_per_kwh)))

    def _seen(self, history: Series) -> Model | None:
        """The model with the new hours known but not trained on; None where the gap before them is too long."""
        if (history.zone, history.kind) != (self.zone, self.kind):
            raise MixedKinds(f"cannot teach {history.zone} ({history.kind}) to {self.zone} ({self.kind})")
        first, values = whole_hours(history)
        end = self.first_hour + len(self.values_g_per_kwh)
        if first + len(values) <= end:
            return self
        gap = first - end
        if gap > min(_LONGEST_FILL, len(self.values_g_per_kwh) - WEEK):
            return None if gap > 0 else replace(self, values_g_per_kwh=self._joined(values[end - first :], 0))
        return replace(self, values_g_per_kwh=self._joined(values[max(end - first, 0) :], max(gap, 0)))

    def _until(self, known: Series) -> Model:
        """The model without the untrained hours beyond the end of `known`."""
        end = int(known.edges[-1] // HOUR_S) - self.first_hour
        if end < self.learnt:
            raise ValueError(f"{self.zone}: hours after {known.end} were learnt, so it is no forecast")
        return (
            self if end >= len(self.values_g_per_kwh) else replace(self, values_g_per_kwh=self.values_g_per_kwh[:end])
        )

    def _joined(self, values: Floats, gap: int) -> Floats:
        old = self.values_g_per_kwh
        fill = old[len(old) - WEEK : len(old) - WEEK + gap] if gap else old[:0]
        return np.concatenate([old, fill, values])

    def _folded(self) -> Model:
        """The model trained on every whole fortnight that is known."""
        model, past = self, self._past()
        end = len(self.values_g_per_kwh) // FORTNIGHT * FORTNIGHT
        while model.learnt < end:
            upto = model.learnt + FORTNIGHT if model.learnt >= FIRST_FIT else FIRST_FIT
            if upto > end:
                break
            record = model.record
            if model.learnt:
                origins = np.arange(model.learnt, upto, EVERY)
                record, _ = record.noted(past, model._paths(past, origins))
            ridge = model.ridge.learn(past, model.learnt, upto)
            model = replace(model, learnt=upto, ridge=ridge, analog=Analog(upto), record=record, _lately=[])
        return model

    def _paths(self, past: Past, origins: Ints) -> Floats:
        """Forecasts (n, LEADS) on the log scale."""
        path = self.ridge.paths(past, origins)
        if self.learnt:
            path = (path + self.analog.paths(past, origins)) / 2
        return path

    def _quantiles_now(self, past: Past, path: Floats) -> Floats | None:
        """Error quantiles, (k, 1, LEADS) on the log scale, at the end of the known hours, where `path` begins; updates
        the record of the last call."""
        origin, record = len(self.values_g_per_kwh), self.record
        if not self.learnt:
            return None
        for lately in self._lately:
            n = len(lately.values_g_per_kwh)
            if n <= origin and np.array_equal(lately.values_g_per_kwh, self.values_g_per_kwh[self.learnt :][:n]):
                record = lately.record
        noted = np.arange(record.next_origin, origin + 1, EVERY)
        if len(noted):
            record, _ = record.noted(past, path if noted.tolist() == [origin] else self._paths(past, noted))
            known = self.values_g_per_kwh[self.learnt : record.next_origin - EVERY]
            self._lately[:] = [_Lately(record, known)]
        return record.issued[-1][:, None] if record.quantiles is not None else None

    def _unlogged(self, path: Floats, quantiles: Floats | None) -> tuple[Floats, Floats | None]:
        """From the log scale to g/kWh: the path, and its quantiles."""
        offset = offset_g_per_kwh(self.values_g_per_kwh)
        # Values above 1.5 times the maximum ever seen are clipped; this also keeps the exponential finite.
        seen = self.values_g_per_kwh[: max(self.learnt, FIRST_ORIGIN)]
        most = 1.5 * float(np.max(seen)) + offset
        mean = np.clip(np.exp(np.minimum(path, np.log(most))) - offset, 0.0, None)
        if quantiles is None:
            return mean, None
        moved = np.minimum(path[None] + quantiles, np.log(most))
        return mean, np.clip(np.exp(moved) - offset, 0.0, None)

    def _issued(self, known: Series, now: datetime, until: datetime) -> Own:
        origin = len(self.values_g_per_kwh)
        past, at = self._past(), np.array([origin])
        path = self._paths(past, at)
        mean, spreads = self._unlogged(path, self._quantiles_now(past, path))
        start_s = HOUR_S * (self.first_hour + origin)
        ahead = min(int(np.ceil((utc(until).timestamp() - start_s) / HOUR_S)), LEADS)
        method = "ridge+analog" if self.learnt else "prior"
        edges = start_s + HOUR_S * np.arange(ahead + 1, dtype=np.float64)
        later = replace(
            known,
            edges=edges,
            intensity_g_per_kwh=mean[0, :ahead],
            quality=(Quality.ESTIMATED,) * ahead,
            source=f"own:{method}:{known.source}",
        )
        whole = joined(known, later)
        if whole.end < utc(until):
            whole = replace(same_hour_yesterday(whole, now, until), source=later.source)
        series = whole.clip(now, until)
        assert series is not None  # it ends after now: `until` is after now
        band = None if spreads is None else Quantiles(edges, LEVELS, spreads[:, 0, :ahead])
        detail = "" if self.learnt else "Less than eight weeks of history: a mixture of profiles, nothing learnt yet."
        return Own(series, band, method, detail)


def _completed(history: Series, now: datetime) -> Series | None:
    """The periods that are over at `now`, up to the last full hour; None where there are none."""
    last_s = HOUR_S * np.floor(min(utc(now).timestamp(), float(history.edges[-1])) / HOUR_S)
    n = int(np.searchsorted(history.edges, last_s, side="right")) - 1
    if n < 1 or history.edges[n] != last_s:
        # Of a period that lasts beyond the hour nothing is used: only whole periods count.
        n = int(np.searchsorted(history.edges, last_s, side="left")) - 1
    if n < 1:
        return None
    return history.part(0, n)
