"""The forecasters that the bench compares: (zone, origins) -> paths, each row from hours before its origin alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from forecasting.backtest import paths_g_per_kwh

from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.forecasting import Model
from windward.forecasting.calibrate import LEVELS
from windward.forecasting.model import FIRST_FIT, FORTNIGHT
from windward.forecasting.past import LEADS, Past
from windward.forecasting.ridge import COLUMNS, PRIOR, Ridge

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)  # of one folder all; nothing here depends on it
Paths = np.ndarray  # (origins, LEADS) in g/kWh


@dataclass(frozen=True)
class Zone:
    """Hourly actuals, consecutive: `first` is the number of the first hour since the epoch."""

    name: str
    first: int
    values: np.ndarray

    def series(self, hours: int) -> Series:
        start = datetime.fromtimestamp(3600 * self.first, UTC)
        known = self.values[:hours]
        step = timedelta(hours=1)
        return Series.regular(
            self.name, KIND, start, step, known, quality=Quality.MEASURED, source="bench", issued_at=start
        )

    def ahead(self, origins: np.ndarray, leads: int = LEADS) -> Paths:
        return self.values[origins[:, None] + np.arange(leads)]


@dataclass(frozen=True)
class Issues:
    """Published issues: `at` (m,) indices of their first hours in the zone's actuals, `values` (m, 24)."""

    at: np.ndarray
    values: np.ndarray


def yesterday(z: Zone, origins: np.ndarray) -> Paths:
    return np.tile(z.ahead(origins - 24, 24), (1, LEADS // 24))


def week_shape(z: Zone, origins: np.ndarray) -> Paths:
    return np.tile(z.ahead(origins - LEADS).reshape(len(origins), 7, 24).mean(axis=1), (1, LEADS // 24))


def same_week(z: Zone, origins: np.ndarray) -> Paths:
    return z.ahead(origins - LEADS)


def fortnights(z: Zone, origins: np.ndarray) -> list[tuple[Model, np.ndarray]]:
    """The model as it stood at the start of each fortnight, and which origins are its."""
    out, model = [], None
    for begin in range(FIRST_FIT, len(z.values), FORTNIGHT):
        known = z.series(begin)
        model = Model.of(known) if model is None else model.learn(known)
        mine = (origins >= begin) & (origins < begin + FORTNIGHT)
        if mine.any():
            out.append((model, mine))
    return out


def ours(z: Zone, origins: np.ndarray) -> tuple[Paths, np.ndarray]:
    """Our forecaster, and its quantiles (levels, origins, LEADS), NaN where there are none."""
    paths = np.full((len(origins), LEADS), np.nan)
    bands = np.full((len(LEVELS), len(origins), LEADS), np.nan)
    for model, mine in fortnights(z, origins):
        known = z.series(int(origins[mine][-1]))
        paths[mine], band = paths_g_per_kwh(model, known, origins[mine] + z.first)
        if band is not None:
            bands[:, mine] = band
    return paths, bands


def part(of: str) -> Callable[[Zone, np.ndarray], Paths]:
    """One of our two halves, or the prior that the ridge is shrunk to."""

    def paths(z: Zone, origins: np.ndarray) -> Paths:
        out = np.full((len(origins), LEADS), np.nan)
        for model, mine in fortnights(z, origins):
            seen = model._seen(z.series(int(origins[mine][-1])))
            past = seen._past()
            if of == "analog":
                log = model.analog.paths(past, origins[mine])
            else:
                log = (model.ridge if of == "ridge" else Ridge.begin()).paths(past, origins[mine])
            out[mine] = seen._unlogged(log, None)[0]
        return out

    return paths


def to_zero(strength: float, logs: bool) -> Callable[[Zone, np.ndarray], Paths]:
    """The ridge's columns shrunk towards zero, as ridge regression mostly is, on either scale."""

    def paths(z: Zone, origins: np.ndarray) -> Paths:
        out, ridge, done = np.full((len(origins), LEADS), np.nan), Ridge.begin(), 0
        for begin in range(FIRST_FIT, len(z.values), FORTNIGHT):
            mine = (origins >= begin) & (origins < begin + FORTNIGHT)
            known = z.values[: max(begin, int(origins[mine][-1]) if mine.any() else 0)]
            offset = max(1.0, 0.1 * float(z.values[:672].mean()))
            past = Past(np.log(known + offset) if logs else known)
            ridge, done = ridge.learn(past, done, begin), begin
            if not mine.any():
                continue
            diagonal = np.einsum("bii->bi", ridge.gram)
            shrunk = ridge.gram + (strength * diagonal + 1e-6)[:, :, None] * np.eye(COLUMNS)
            full = ridge.moment + ridge.gram @ PRIOR
            plain = Ridge(ridge.gram, ridge.moment, np.linalg.solve(shrunk, full[:, :, None])[:, :, 0])
            path = plain.paths(past, origins[mine])
            out[mine] = np.exp(path) - offset if logs else path
        return out

    return paths


METHODS: dict[str, Callable[[Zone, np.ndarray], Paths]] = {
    "yesterday": yesterday,
    "week_shape": week_shape,
    "same_week": same_week,
    "prior": part("prior"),
    "plain_ridge": to_zero(0.01, logs=False),
    "plain_ridge_firm": to_zero(1.0, logs=False),
    "log_ridge": to_zero(0.01, logs=True),
    "log_ridge_firm": to_zero(1.0, logs=True),
    "ridge": part("ridge"),
    "analog": part("analog"),
}
