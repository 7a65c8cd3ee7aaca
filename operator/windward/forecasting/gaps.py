"""A history with holes, as far as it can be made whole for learning: what was not measured is read a week earlier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.domain.series import Quality, Series
from windward.forecasting.join import joined

_DAY_S = 86_400.0
LONGEST_S = 7 * _DAY_S


def filled(history: Series) -> Series:
    """`history` without holes, for a model to learn from; never for an account.

    A hole of up to a week is filled with the same hours of the week before, failing that of as few whole days before as
    reach; these periods are `estimated`. After a longer hole, or where nothing before it reaches, the history begins
    anew. A history without holes is returned as it is.
    """
    first, *others = history.stretches
    whole = first
    for stretch in others:
        bridge = _bridge(whole, float(stretch.edges[0]))
        whole = stretch if bridge is None else joined(joined(whole, bridge), stretch)
    return whole


def _bridge(known: Series, until_s: float) -> Series | None:
    """From the end of `known` to `until_s`, by what was known before; None where that does not reach."""
    start_s = float(known.edges[-1])
    length_s = until_s - start_s
    days = [7, *range(int(np.ceil(length_s / _DAY_S)) or 1, 7)]
    shift_s = next((d * _DAY_S for d in days if start_s - d * _DAY_S >= known.edges[0]), None)
    if length_s > LONGEST_S or shift_s is None:
        return None
    inner = known.edges[(known.edges > start_s - shift_s) & (known.edges < until_s - shift_s)] + shift_s
    edges = np.concatenate([[start_s], inner, [until_s]])
    middle = (edges[:-1] + edges[1:]) / 2 - shift_s
    values = known.intensity_g_per_kwh[np.searchsorted(known.edges, middle, side="right") - 1]
    return replace(known, edges=edges, intensity_g_per_kwh=values, quality=(Quality.ESTIMATED,) * len(values))
