"""Ridge regression of the coming hours on features of the past, with one fit for each six hours of lead.

Hoerl and Kennard (1970), doi:10.1080/00401706.1970.10488634, but shrunk towards a mixture of profiles (`PRIOR`) rather
than zero, as the mixture is a fair forecast by itself: with b0 the prior, G = A'A and m = A'(y - A b0),

    b = b0 + (G + strength diag(G))^-1 m

G and m are sums over rows, so training on new hours adds their rows and needs none of the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from windward.domain.series import Floats
from windward.forecasting.past import DAY, FIRST_ORIGIN, LEADS, WEEK, Ints, Past

BLOCK = 6
BLOCKS = LEADS // BLOCK
STRENGTH = 1.0
# Rows of neighbouring origins are almost equal, so every fifth is used: 5 and 24 are coprime, so all hours occur.
STRIDE = 5

_TODAY, _M7, _M28, _WEEKDAY = 0, 5, 7, 50  # column indices
COLUMNS = 64


def rows(past: Past, origin: Ints, lead: Ints) -> Floats:
    """Returns the features of a forecast `lead` hours after each `origin`: (n, COLUMNS), relative to the week's level.

    Args:
        origin: (n,) index of the first unknown hour, >= FIRST_ORIGIN; nothing at or beyond it is read.
        lead: (n,) hours from the origin, 0 to LEADS - 1.
    """
    target, last = origin + lead, origin - 1
    day = target - DAY * (lead // DAY + 1)  # the newest known day's same hour
    level = past.l168[last]
    turn = 2 * np.pi * (target % DAY) / DAY
    hours = [f(k * turn) for k in (1, 2) for f in (np.cos, np.sin)]
    quick = [f(k * turn) for k in (3, 4) for f in (np.cos, np.sin)]
    same = [past.x[i] - level for i in (day, day - DAY, day - 2 * DAY, target - WEEK, target - 2 * WEEK)]
    same += [m[day] - level for m in (past.m7, past.m14, past.m28)]
    weekday = past.weekday4[target - WEEK]
    now, now6, now24 = past.anomaly[last], past.mean_anomaly(6)[last], past.mean_anomaly(24)[last]
    recent = [now, past.mean_anomaly(3)[last], now6, past.mean_anomaly(12)[last], now24, past.mean_anomaly(48)[last]]
    levels = [past.x[last], past.level(3)[last], past.l24[last], past.l72[last], past.l336[last]]
    columns = [*same, weekday, *recent, *(v - level for v in levels), *hours, np.ones(len(origin))]
    for v in (now, now6, now24, same[_TODAY], same[_M7], weekday):
        columns += [v * h for h in hours]
    columns += [past.weekday4[day - WEEK], past.weekday[target - WEEK], past.weekday[day - WEEK], *quick]
    for v in (now, now24):
        columns += [v * h for h in quick]
    return np.stack(columns).T  # laid out by column: twice as quick to build


def _prior() -> Floats:
    b = np.zeros(COLUMNS)
    b[[_M7, _M28, _WEEKDAY]] = 0.4
    return b


PRIOR = _prior()


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """The sums over all training rows so far, and the coefficients that they give.

    Attributes:
        gram: (BLOCKS, COLUMNS, COLUMNS) of A'A.
        moment: (BLOCKS, COLUMNS) of A'(y - A prior).
        coefficients: (BLOCKS, COLUMNS).
    """

    gram: Floats
    moment: Floats
    coefficients: Floats

    @classmethod
    def begin(cls) -> Ridge:
        """Returns the untrained regression: its coefficients are the prior."""
        gram = np.zeros((BLOCKS, COLUMNS, COLUMNS))
        return cls(gram, np.zeros((BLOCKS, COLUMNS)), np.tile(PRIOR, (BLOCKS, 1)))

    def learn(self, past: Past, start: int, end: int) -> Ridge:
        """Returns the regression with the rows added whose target lies in [start, end)."""
        gram, moment = self.gram.copy(), self.moment.copy()
        targets, leads = np.meshgrid(np.arange(start, end), np.arange(LEADS), indexing="ij")
        origins = targets - leads
        used = (origins >= FIRST_ORIGIN) & (origins % STRIDE == 0)
        origin, lead = origins[used], leads[used]
        order = np.argsort(lead, kind="stable")
        origin, lead = origin[order], lead[order]
        a = rows(past, origin, lead)
        y = past.x[origin + lead] - past.l168[origin - 1] - a @ PRIOR
        bounds = np.searchsorted(lead, BLOCK * np.arange(BLOCKS + 1))
        for b in range(BLOCKS):
            part = slice(bounds[b], bounds[b + 1])
            gram[b] += a[part].T @ a[part]
            moment[b] += a[part].T @ y[part]
        diagonal = np.einsum("bii->bi", gram)
        shrunk = gram + (STRENGTH * diagonal + 1e-6)[:, :, None] * np.eye(COLUMNS)
        return Ridge(gram, moment, PRIOR + np.linalg.solve(shrunk, moment[:, :, None])[:, :, 0])

    def paths(self, past: Past, origins: Ints) -> Floats:
        """Forecasts on the log scale from each origin, (n, LEADS)."""
        origin = np.repeat(origins, LEADS)
        lead = np.tile(np.arange(LEADS), len(origins))
        a = rows(past, origin, lead).reshape(len(origins), BLOCKS, BLOCK, COLUMNS)
        moved = np.einsum("nbkc,bc->nbk", a, self.coefficients).reshape(len(origins), LEADS)
        return np.asarray(moved + past.l168[origins - 1][:, None], dtype=np.float64)
