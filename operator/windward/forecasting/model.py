"""Our own forecaster: from a zone's history alone, a week ahead, with quantiles. Pure, numpy only.

The mean of two forecasts that err differently, both on the log scale: a ridge regression (`ridge`) and similar days
(`analog`). Why the mean and no ranking loss: the grams of a job are linear in the intensity, so the start of least
expected grams is the start of least mean forecast. Figures and failures: docs/forecasting.md.

A model is a value. `learn` takes what is newly known and folds in every whole fortnight of it, counted from the model's
first hour: so it makes no difference in how many portions a history arrives. Before a fortnight is folded in, the paths
for it are issued and noted, and their errors give the quantiles.
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
    """One issue of our own.

    Attributes:
        series: from the period that contains `now`; what history knows keeps its quality, the rest is `estimated`.
        band: quantiles of the estimated hours; None until some three months are known.
        method: what made the hours ahead: `ridge+analog`, `prior` or `day-before`.
        detail: one sentence for people where it is less than the full method, else empty.
    """

    series: Series
    band: Quantiles | None
    method: str
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Lately:
    """A record that was brought up to date after the last fold, and the hours that it rests on."""

    record: Record
    values_g_per_kwh: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What is learnt of one zone.

    Attributes:
        first_hour: number of the first known hour since the epoch; indices below count from it.
        values_g_per_kwh: (n,) hourly means, without gaps.
        learnt: index up to which `ridge` and `analog` have taken the hours; whole fortnights. `record` ends there too.
    """

    zone: str
    kind: Kind
    first_hour: int
    values_g_per_kwh: Floats
    learnt: int
    ridge: Ridge
    analog: Analog
    record: Record
    _lately: list[_Lately] = field(default_factory=list)  # at most one; saves work, and changes no answer

    @classmethod
    def of(cls, history: Series) -> Model:
        """A model that has learnt from `history`.

        Raises:
            ValueError: it holds no whole hour.
        """
        first, values = whole_hours(history)
        if len(values) == 0:
            raise ValueError(f"{history.zone}: no whole hour from {history.start} to {history.end}")
        empty = cls(history.zone, history.kind, first, values, 0, Ridge.begin(), Analog(0), Record.begin(FIRST_FIT))
        return empty._folded()

    def learn(self, history: Series) -> Model:
        """With the hours of `history` that are new; hours already known stay as they are.

        A gap of up to a week is filled with the same hours a week before; after a longer one a new model begins.

        Raises:
            MixedKinds: another zone or kind.
        """
        seen = self._seen(history)
        return Model.of(history) if seen is None else seen._folded()

    def forecast(self, history: Series, now: datetime, until: datetime) -> Own:
        """The hours from `now` to `until`, as known from `history` and what was learnt before it.

        The hours of `history` are used as far as they are completed at `now`; the coefficients are those of the last
        `learn`. Beyond a week from the last known hour, its last day is repeated.

        Raises:
            MixedKinds: another zone or kind.
            ValueError: `until` is not after `now`, not even a day before `now` is known, or hours after `now` were
                learnt.
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

    def paths_g_per_kwh(self, history: Series, origins: Ints) -> tuple[Floats, Floats | None]:
        """Back-tests: forecasts at many origins at once, by the present coefficients, each from what came before it.

        Args:
            origins: (n,) hours since the epoch, none before the last hour learnt.

        Returns:
            (n, LEADS) g/kWh, and quantiles (len(LEVELS), n, LEADS) or None.
        """
        seen = self._seen(history)
        if seen is None:
            raise ValueError(f"{history.zone}: {history.start} does not join what is known")
        at = np.asarray(origins, dtype=np.int64) - self.first_hour
        if np.any(at < max(self.learnt, FIRST_ORIGIN)) or np.any(at > len(seen.values_g_per_kwh)):
            raise ValueError(f"{history.zone}: origins must lie between the last learnt hour and the end of history")
        past = seen._past()
        return seen._unlogged(seen._paths(past, at), seen._told(past, at))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _past(self) -> Past:
        return Past(np.log(self.values_g_per_kwh + offset_g_per_kwh(self.values_g_per_kwh)))

    def _seen(self, history: Series) -> Model | None:
        """With new hours known but not learnt; None where they do not join the old ones."""
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
        """Without the hours that are known but not learnt and lie beyond the end of `known`."""
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
        """With every whole fortnight that is known but not learnt folded in."""
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
        """(n, LEADS) on the log scale."""
        path = self.ridge.paths(past, origins)
        if self.learnt:
            path = (path + self.analog.paths(past, origins)) / 2
        return path

    def _told(self, past: Past, origins: Ints) -> Floats | None:
        """Quantiles of the error, (k, n, LEADS) on the log scale: as told at each origin, or at the last noted one."""
        if not self.learnt:
            return None
        noted = np.arange(self.learnt, int(np.max(origins)) + 1, EVERY)
        _, told = self.record.noted(past, self._paths(past, noted))
        return None if told is None else told[(origins - self.learnt) // EVERY].transpose(1, 0, 2)

    def _told_now(self, past: Past, path: Floats) -> Floats | None:
        """The same at the end of what is known, (k, 1, LEADS), where `path` begins; goes on from where the last call
        came to."""
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
        return record.told[-1][:, None] if record.quantiles is not None else None

    def _unlogged(self, path: Floats, told: Floats | None) -> tuple[Floats, Floats | None]:
        """From the log scale to g/kWh: the path, and its quantiles."""
        offset = offset_g_per_kwh(self.values_g_per_kwh)
        # Nothing so far from all that was ever seen is believed; this also keeps the exponential finite.
        seen = self.values_g_per_kwh[: max(self.learnt, FIRST_ORIGIN)]
        most = 1.5 * float(np.max(seen)) + offset
        mean = np.clip(np.exp(np.minimum(path, np.log(most))) - offset, 0.0, None)
        if told is None:
            return mean, None
        moved = np.minimum(path[None] + told, np.log(most))
        return mean, np.clip(np.exp(moved) - offset, 0.0, None)

    def _issued(self, known: Series, now: datetime, until: datetime) -> Own:
        origin = len(self.values_g_per_kwh)
        past, at = self._past(), np.array([origin])
        path = self._paths(past, at)
        mean, spreads = self._unlogged(path, self._told_now(past, path))
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
    """The periods that had ended at `now`, up to the last full hour: a value is known when its period is over."""
    last_s = HOUR_S * np.floor(min(utc(now).timestamp(), float(history.edges[-1])) / HOUR_S)
    n = int(np.searchsorted(history.edges, last_s, side="right")) - 1
    if n < 1 or history.edges[n] != last_s:
        # A period that lasts beyond the hour is cut by the planner's own rule: only whole ones count here.
        n = int(np.searchsorted(history.edges, last_s, side="left")) - 1
    if n < 1:
        return None
    return history.part(0, n)
