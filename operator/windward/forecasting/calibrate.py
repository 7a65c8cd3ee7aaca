"""Quantiles that follow the errors which the same forecaster made on hours it had not yet learnt.

Adaptive conformal prediction in the form of quantile tracking (Gibbs and Candes 2021, arXiv:2106.00170; Angelopoulos,
Candes and Tibshirani 2023, arXiv:2307.16895): each quantile moves up a little when an error lay above it, down when
below, in the proportion that leaves it at its level in the long run, whatever the errors do. Fixed windows of past
errors were tried first: they lag the seasons, and cover 83 % in summer and 75 % in autumn where 80 % is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from windward.domain.series import Floats
from windward.forecasting.past import DAY, LEADS, Ints, Past

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
EVERY = 6  # hours between the origins whose errors are followed, and leads that share their quantiles
BLOCKS = LEADS // EVERY

# Step of a quantile, in mean absolute errors. Smaller for later leads: their errors come in late and many alike, and a
# follower that answers each of them in full runs past its aim (a band at 72 h then covered 100 %, ever wider).
_RATE = 0.1 / (1 + EVERY * np.arange(BLOCKS) / 150)  # (BLOCKS,)
_FORGET = 0.02  # weight of the newest origin in the mean absolute error: half of it is eight days old
_WARM = 28 * DAY // EVERY  # origins whose errors give the first quantiles
# The block of leads 6 b to 6 b + 5 is known in full b + 1 origins after it was issued.
_DELAY = np.arange(BLOCKS) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Forecasts at consecutive origins, `EVERY` hours apart, and the quantiles of their errors told with them.

    Attributes:
        first: index of the first unknown hour of the first origin.
        paths: (m, LEADS) forecasts on the log scale, of the newest origins only: those whose errors are still awaited.
        told: (t, k, LEADS) quantiles of the error as told with the newest t of them; t = 0 before the first are known.
        count: origins seen in all; the newest m of them are kept.
        quantiles: (k, BLOCKS) now, in units of `size`; None before the first are known.
        size: (LEADS,) mean absolute error of late, on the log scale: a band widens and narrows as a whole with it.
    """

    first: int
    paths: Floats
    told: Floats
    count: int
    quantiles: Floats | None
    size: Floats

    @classmethod
    def begin(cls, first: int) -> Record:
        told = np.empty((0, len(LEVELS), LEADS))
        return cls(first, np.empty((0, LEADS)), told, 0, None, np.zeros(LEADS))

    @property
    def next_origin(self) -> int:
        return self.first + EVERY * self.count

    def noted(self, past: Past, paths: Floats) -> tuple[Record, Floats | None]:
        """With the forecasts of the next origins, (n, LEADS), in time order; no hour beyond each origin is read.

        Returns:
            The record, and the quantiles of the error as told at each of these origins (n, k, LEADS); None before
            the first of them are known.
        """
        record = self
        told: list[Floats] = []
        for path in paths:
            record = record._one(past, path)
            if record.quantiles is not None:
                told.append(record.told[-1])
        return record, np.stack(told) if told and len(told) == len(paths) else None

    def _one(self, past: Past, path: Floats) -> Record:
        quantiles, size = self.quantiles, self.size
        kept = len(self.paths)
        if quantiles is None and self.count >= _WARM + BLOCKS:
            quantiles, size = self._first(past)
        elif quantiles is not None:
            quantiles, size = self._followed(past, quantiles, size)
        told, keep = self.told, min(kept, BLOCKS - 1)
        if quantiles is None:
            keep = min(kept, _WARM + BLOCKS - 1)
        else:
            newest = np.repeat(np.sort(quantiles, axis=0), EVERY, axis=1) * size
            told = np.concatenate([told[-(BLOCKS - 1) :], newest[None]])
        return replace(
            self,
            paths=np.concatenate([self.paths[kept - keep :], path[None]]),
            told=told,
            count=self.count + 1,
            quantiles=quantiles,
            size=size,
        )

    def _errors(self, past: Past, back: Ints, block: Ints) -> Floats:
        """Errors of the origins `back` steps before the next one, in each block: (n, EVERY)."""
        lead = EVERY * block[:, None] + np.arange(EVERY)
        target = self.next_origin - EVERY * back[:, None] + lead
        return np.asarray(past.x[target] - self.paths[len(self.paths) - back[:, None], lead], dtype=np.float64)

    def _first(self, past: Past) -> tuple[Floats, Floats]:
        back = np.arange(_WARM) + BLOCKS
        back = back[back <= len(self.paths)]
        errors = np.stack([self._errors(past, back, np.full(len(back), b)) for b in range(BLOCKS)])  # (b, n, EVERY)
        size = np.maximum(np.mean(np.abs(errors), axis=1), 1e-12)  # (BLOCKS, EVERY)
        relative = (errors / size[:, None, :]).reshape(BLOCKS, -1)
        return np.quantile(relative, LEVELS, axis=1), size.ravel()

    def _followed(self, past: Past, quantiles: Floats, size: Floats) -> tuple[Floats, Floats]:
        block = np.flatnonzero(len(self.told) >= _DELAY)  # what was told with them, and is now known in full
        leads = np.arange(LEADS).reshape(BLOCKS, EVERY)[block]
        told = self.told[len(self.told) - _DELAY[block, None], :, leads]  # (n, EVERY, k)
        error = self._errors(past, _DELAY[block], block)  # (n, EVERY)
        below = np.mean(error[:, :, None] <= told, axis=1).T  # (k, n)
        moved, grown = quantiles.copy(), size.reshape(BLOCKS, EVERY).copy()
        moved[:, block] += _RATE[block] * (np.array(LEVELS)[:, None] - below)
        grown[block] += _FORGET * (np.abs(error) - grown[block])
        return moved, grown.ravel()
