"""Error quantiles of a forecaster, tracked online on the errors it made on hours it had not yet learnt.

Adaptive conformal prediction as quantile tracking (Gibbs and Candes 2021, arXiv:2106.00170; Angelopoulos, Candes and
Tibshirani 2023, arXiv:2307.16895): a quantile moves up a little when an error lies above it and down when below, in the
proportion that gives it its level in the long run, whatever the errors do. Fixed windows of past errors lag the
seasons: tried first, they covered 83 % in summer and 75 % in autumn where 80 % was intended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from windward.domain.series import Floats
from windward.forecasting.past import DAY, LEADS, Ints, Past

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
EVERY = 6  # hours between recorded origins, and number of consecutive leads that share their quantiles
BLOCKS = LEADS // EVERY

# Step of a quantile, in mean absolute errors. It is smaller for later leads: their errors arrive late and are strongly
# correlated, so that full steps overshoot (a band at 72 h then covered 100 % and kept widening).
_RATE = 0.1 / (1 + EVERY * np.arange(BLOCKS) / 150)  # (BLOCKS,)
_FORGET = 0.02  # weight of the newest origin in the mean absolute error: half of it is eight days old
_WARM = 28 * DAY // EVERY  # origins whose errors give the first quantiles
# All hours of the block of leads 6 b to 6 b + 5 are known b + 1 origins after its issue.
_DELAY = np.arange(BLOCKS) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Forecasts at consecutive origins, `EVERY` hours apart, with the error quantiles that were issued with them.

    Attributes:
        first: index of the first unknown hour of the first origin.
        paths: (m, LEADS) forecasts on the log scale, of the newest m origins: those with errors not yet known.
        issued: (t, k, LEADS) error quantiles issued with the newest t of them; t = 0 before there are any.
        count: number of origins so far; the newest m of them are kept.
        quantiles: (k, BLOCKS) current quantiles in units of `size`; None before there are any.
        size: (LEADS,) recent mean absolute error on the log scale; the whole band scales with it.
    """

    first: int
    paths: Floats
    issued: Floats
    count: int
    quantiles: Floats | None
    size: Floats

    @classmethod
    def begin(cls, first: int) -> Record:
        issued = np.empty((0, len(LEVELS), LEADS))
        return cls(first, np.empty((0, LEADS)), issued, 0, None, np.zeros(LEADS))

    @property
    def next_origin(self) -> int:
        return self.first + EVERY * self.count

    def noted(self, past: Past, paths: Floats) -> tuple[Record, Floats | None]:
        """Add the forecasts of the next origins, (n, LEADS), in time order; no hour beyond each origin is read.

        Returns:
            The new record, and the error quantiles issued at each of these origins, (n, k, LEADS); None unless there
            are quantiles for all of them.
        """
        record = self
        issued: list[Floats] = []
        for path in paths:
            record = record._one(past, path)
            if record.quantiles is not None:
                issued.append(record.issued[-1])
        return record, np.stack(issued) if issued and len(issued) == len(paths) else None

    def _one(self, past: Past, path: Floats) -> Record:
        quantiles, size = self.quantiles, self.size
        kept = len(self.paths)
        if quantiles is None and self.count >= _WARM + BLOCKS:
            quantiles, size = self._first(past)
        elif quantiles is not None:
            quantiles, size = self._followed(past, quantiles, size)
        issued, keep = self.issued, min(kept, BLOCKS - 1)
        if quantiles is None:
            keep = min(kept, _WARM + BLOCKS - 1)
        else:
            newest = np.repeat(np.sort(quantiles, axis=0), EVERY, axis=1) * size
            issued = np.concatenate([issued[-(BLOCKS - 1) :], newest[None]])
        return replace(
            self,
            paths=np.concatenate([self.paths[kept - keep :], path[None]]),
            issued=issued,
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
        block = np.flatnonzero(len(self.issued) >= _DELAY)  # quantiles were issued, and all hours are known by now
        leads = np.arange(LEADS).reshape(BLOCKS, EVERY)[block]
        issued = self.issued[len(self.issued) - _DELAY[block, None], :, leads]  # (n, EVERY, k)
        error = self._errors(past, _DELAY[block], block)  # (n, EVERY)
        below = np.mean(error[:, :, None] <= issued, axis=1).T  # (k, n)
        moved, grown = quantiles.copy(), size.reshape(BLOCKS, EVERY).copy()
        moved[:, block] += _RATE[block] * (np.array(LEVELS)[:, None] - below)
        grown[block] += _FORGET * (np.abs(error) - grown[block])
        return moved, grown.ravel()
