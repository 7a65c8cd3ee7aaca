"""Fills the holes of a history for training, with the values of a week earlier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.domain.series import Quality, Series
from windward.forecasting.join import joined

_DAY_S = 86_400.0
LONGEST_S = 7 * _DAY_S


def filled(history: Series) -> Series:
    """Returns `history` without holes, for training only; accounts never use it.

    A hole of up to a week is filled with the same hours of the week before, or if the history is too short, of the
    fewest whole days before that span the hole; these periods are `estimated`. After a longer hole, or one that cannot
    be filled, the history begins anew. A history without holes is returned as it is.
    """
    first, *others = history.stretches
    whole = first
    for stretch in others:
        bridge = _bridge(whole, float(stretch.edges[0]))
        whole = stretch if bridge is None else joined(joined(whole, bridge), stretch)
    return whole


def _bridge(known: Series, until_s: float) -> Series | None:
    """Earlier values of `known` from its end to `until_s`, epoch seconds; None where it is too short for the hole."""
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
